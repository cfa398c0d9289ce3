"""kill -9 at any moment, and going on: the folder of a batch that nothing happened to, byte for byte."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nerveseg.batch import find, run
from nerveseg.batch import finish as ending
from nerveseg.batch.output_folder import Home
from nerveseg.writers import base

_HERE = Path(__file__).parent


@pytest.fixture
def forks(tmp_path):
    """Begin batches that can be killed: ``forks(source, out, …)`` gives the process id; ``forks.end()`` how it ended."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"OMP_NUM_THREADS": "1", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    errors = (tmp_path / "errors.txt").open("w")
    process = subprocess.Popen(
        [sys.executable, _HERE / "_forks.py"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
    )

    def begin(source, out, *, shard=(0, 1), workers=1, format="png", engine="local", pause=0.03):
        told = {"source": str(source), "out": str(out), "shard": shard, "workers": workers, "format": format, "pause": pause}
        process.stdin.write(json.dumps({**told, "engine": engine, "scores": str(tmp_path / "scores")}) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    begin.end = lambda: int(process.stdout.readline())
    begin.errors = tmp_path / "errors.txt"
    yield begin
    process.stdin.close()
    process.kill()
    process.wait()
    process.stdout.close()
    errors.close()


def entries(home: Home) -> int:
    path = home.whole / "journal.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def killed(forks, source, out, *, after, moment=0.0, **options):
    """Begin a batch, and kill it so many seconds after so many more images are done."""
    before, process = entries(Home(out)), forks(source, out, **options)
    deadline = time.monotonic() + 600
    while entries(Home(out)) < before + after and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(moment)
    os.kill(process, signal.SIGKILL)
    assert forks.end() == -signal.SIGKILL, forks.errors.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("format", ["png", "coco"])
def test_killed_at_ten_random_moments_it_leaves_the_same_bytes(forks, photos, undisturbed, digest, tmp_path, format):
    source = photos(100)
    (source / "bad.jpg").write_bytes(b"no image")
    expected = undisturbed(source, format=format)
    out, chance = tmp_path / "out", random.Random(format)  # moments, not results
    for _ in range(10):
        killed(forks, source, out, after=chance.choice((0, 1, 2, 3)), moment=chance.uniform(0, 0.1), format=format)
    assert 0 < entries(Home(out)) < 101
    done = [json.loads(line)["item"] for line in (Home(out).whole / "journal.jsonl").read_text("utf-8").splitlines() if '"result"' in line]
    assert len(done) == len(set(done)), "no image counts twice"
    forks(source, out, format=format)
    assert forks.end() == 0, forks.errors.read_text()
    assert digest(out) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine", ["local", pytest.param("ray", marks=pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="no ray"))]
)
def test_killed_with_two_workers_it_leaves_the_same_bytes(forks, photos, undisturbed, digest, tmp_path, engine):
    source, out = photos(40), tmp_path / "out"
    expected = undisturbed(source, format="coco")
    for _ in range(2 if engine == "local" else 1):
        killed(forks, source, out, after=3, workers=2, format="coco", engine=engine)
    assert 3 <= entries(Home(out)) < 40
    forks(source, out, workers=2, format="coco", engine=engine)
    assert forks.end() == 0, forks.errors.read_text()
    assert digest(out) == expected


class Killed(BaseException):
    """Stands for the end of the process at a line."""


@pytest.mark.parametrize("format", ["png", "coco"])
@pytest.mark.parametrize("step", ["read", "record", "tidy", "clear_drafts"])
@pytest.mark.parametrize("shards", [1, 2])
def test_killed_while_it_ends_it_leaves_the_same_bytes(photos, job, undisturbed, digest, tmp_path, monkeypatch, format, step, shards):
    source, out = photos(4), tmp_path / "out"
    expected = undisturbed(source, format=format)
    asked, found = job(format=format), find(source)
    for at in range(shards - 1):
        run(asked, found, out, shard=(at, shards))
    last = {"shard": (shards - 1, shards)}

    def killed(*args, **options):
        raise Killed

    replacing = base.replacing

    def all_but_the_record(*paths):
        return killed() if paths[0].name == "batch.json" else replacing(*paths)

    with monkeypatch.context() as patch:
        if step == "record":
            patch.setattr(base, "replacing", all_but_the_record)
        elif step == "read":
            patch.setattr(ending.runs, "read", killed)
        else:
            patch.setattr(ending, step, killed)
        with pytest.raises(Killed):
            run(asked, found, out, **last)
    (out / ".p000.png.0123456789ab.part").touch()
    ran = run(asked, found, out, resume=True, **last)
    assert (ran.done, ran.bad) == (0, ())
    assert digest(out) == expected
