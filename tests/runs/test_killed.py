"""A job that is killed, or asked to stop, at any moment, and started again: the same files as one that nothing happened to."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nerveseg import runs
from nerveseg.runs import Plan

_HERE = Path(__file__).parent
_ITEMS = tuple(f"item {number}" for number in range(40))
_SCRIPT = """
import sys
from pathlib import Path
from _errands import Errand
from nerveseg import runs

if __name__ == "__main__":
    plan = runs.Plan(tuple(f"item {number}" for number in range(40)), {"seed": 0})
    summary = runs.run(plan, Errand(Path(sys.argv[1]), pause=float(sys.argv[4])), sys.argv[2], workers=int(sys.argv[3]))
    print(summary.done, summary.skipped, summary.left)
"""


@pytest.fixture
def start(tmp_path):
    """Start the job in a process of its own: ``start(workers)``; all are gone at the end."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "job.py").write_text(_SCRIPT)
    started = []

    def as_usual():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # `nohup … &` has them ignored, and what is ignored is inherited
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def begin(workers, pause=0.02):
        command = [sys.executable, tmp_path / "job.py", tmp_path / "notes", tmp_path / "run", str(workers), str(pause)]
        process = subprocess.Popen(
            command,
            env={"PYTHONPATH": str(_HERE)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=as_usual,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def entries(folder):
    path = folder / "journal.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(folder, count, process):
    deadline = time.monotonic() + 600
    while entries(folder) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def same_as_undisturbed(folder, errands, tmp_path):
    runs.run(Plan(_ITEMS, {"seed": 0}), errands.Errand(tmp_path / "notes"), tmp_path / "undisturbed")
    for name in ("results.jsonl", "run.json", "items.jsonl"):
        assert (folder / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    assert sorted(entry["item"] for entry in runs.journal.read(folder)) == sorted(_ITEMS)


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_three_times_and_resumed_it_leaves_the_same_bytes(start, errands, tmp_path, workers):
    chance = random.Random(workers)  # moments, not results: where it falls differs from run to run anyway
    folder = tmp_path / "run"
    for _ in range(3):
        process = start(workers)
        wait_for(folder, entries(folder) + 1, process)
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (folder / "results.jsonl").exists()
    process = start(workers)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    done, skipped, left = map(int, out.split())
    assert (done + skipped, left) == (40, 0)
    assert skipped >= 3
    same_as_undisturbed(folder, errands, tmp_path)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_finishes_what_is_in_work_and_ends_by_that_signal(start, errands, tmp_path, workers, number):
    folder = tmp_path / "run"
    process = start(workers, pause=0.2)
    wait_for(folder, 1, process)
    before = entries(folder)
    process.send_signal(number)
    process.communicate(timeout=600)
    assert process.returncode == -number
    assert before <= entries(folder) <= before + 2 * workers
    assert (folder / "journal.jsonl").read_bytes().endswith(b"\n")
    assert not (folder / "run.lock").exists()
    _, err = start(workers, pause=0.0).communicate(timeout=600)
    assert (folder / "results.jsonl").exists(), err
    same_as_undisturbed(folder, errands, tmp_path)


def test_while_it_works_another_one_is_refused(start, tmp_path):
    process = start(1)
    wait_for(tmp_path / "run", 1, process)
    other = start(1)
    _, err = other.communicate(timeout=600)
    assert other.returncode == 1
    assert f"process {process.pid} on" in err
