"""Runs from end to end: scenes of the embedded world, killed and resumed, in shards; and data that is not what it should be."""

from __future__ import annotations

import csv
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from nerveseg import datasets
from nerveseg.bench import scored
from nerveseg.bench.calibration import bins
from nerveseg.bench.confusion import count, metrics, total
from nerveseg.bench.job import Job, identity
from nerveseg.bench.run import folders
from nerveseg.bench.run import run as bench_run
from nerveseg.bench.words import ask
from nerveseg.bench.worker import Make, Scoring
from nerveseg.datasets import IGNORE
from nerveseg.errors import OptionError, RunError

SCENES = 4
COMMAND = ("bench", "run", "--recipe", "mini", "--data", "embedded", "--limit", SCENES, "--threads", 1)
SAME = ("results.jsonl", "metrics.json", "confusion.csv", "items.jsonl")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run of four scenes in one go."""
    folder = tmp_path_factory.mktemp("whole")
    return bench_run(Job("mini", "embedded", limit=SCENES, threads=1), folder / "embedded-mini").folder


def _lines(folder, name="results.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]


def _same(folder, whole):
    for name in SAME:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_run_says_what_the_segmenter_says(whole, mini):
    data = datasets.open("embedded")
    found, images = _lines(whole), []
    for entry, item in zip(found, data.items, strict=False):
        image, truth = data.read(item)
        asked = ask(data, item)
        result = mini(image, asked.vocabulary)
        guess = asked.guess(result.segmentation.numpy())
        images.append(count(truth, guess, data.classes))
        assert entry["item"] == item.id
        assert entry["picture"] == image.sha256[:16]
        assert entry["size"] == list(truth.shape)
        assert entry["confusion"] == images[-1].tolist()
        assert entry["calibration"] == [list(row) for row in bins(result.confidence().numpy(), guess == truth, truth != IGNORE)]
    assert len(found) == SCENES
    said = json.loads((whole / "metrics.json").read_text())
    own = metrics(total(images, data.classes))
    assert said["miou"] == pytest.approx(own.miou, abs=1e-9)
    assert said["miou_by_average"]["truth"] == pytest.approx(metrics(total(images, data.classes), "truth").miou, abs=1e-9)
    assert said["weighted_iou"] == pytest.approx(own.weighted_iou, abs=1e-9)
    assert said["pictures"] == SCENES
    assert said["missing"] == 0
    assert said["pixels"] == sum(entry["size"][0] * entry["size"][1] for entry in found)
    assert said["risk_coverage"][-1]["coverage"] == 100.0
    assert said["risk_coverage"][-1]["risk"] == pytest.approx(100 - said["pixel_accuracy"], abs=1e-9)
    assert 30 < said["miou"] <= 100


def test_the_folder_tells_what_was_run(whole):
    record = json.loads((whole / "run.json").read_text())
    assert record["identity"]["recipe"]["name"] == "mini"
    assert 'name = "maskclip"' in record["identity"]["recipe"]["toml"]
    assert len(record["identity"]["weights"]["clip"]) == 64
    assert record["identity"]["names"]["classes"] == list(scored.classes_of(whole))
    assert record["about"]["versions"]["torch"]
    assert record["about"]["hardware"]["cores"] == os.cpu_count()
    taken = json.loads((whole / "seconds.json").read_text())
    assert taken["pictures"] == SCENES
    assert {"read", "label network", "graph network", "walk", "decide", "score"} <= set(taken["stages"])
    with (whole / "confusion.csv").open(encoding="utf-8") as file:
        table = list(csv.reader(file))
    assert table[0][1:] == [*scored.classes_of(whole), "none"]
    assert (np.array([row[1:] for row in table[1:]], np.int64) == scored.read(whole).confusion.table).all()
    assert [item for item, _ in scored.confusions(whole)] == [f"test-{number:05d}" for number in range(SCENES)]


def test_the_command_does_the_same_and_goes_on_where_it_is_given_again(run, tmp_path, whole):
    first = run(*COMMAND, "-o", "out", "--json")
    assert first.exit_code == 0, first.stderr
    said = json.loads(first.stdout)
    assert said["folder"] == "out/embedded-mini"
    _same(tmp_path / "out" / "embedded-mini", whole)
    before = (tmp_path / "out/embedded-mini/journal.jsonl").read_bytes()
    again = run(*COMMAND, "-o", "out")
    assert again.exit_code == 0
    assert f"{said['miou']:.2f}" in again.stdout
    assert (tmp_path / "out/embedded-mini/journal.jsonl").read_bytes() == before
    other = run(*COMMAND, "-o", "out", "--set", "walk.alpha=0.5")
    assert other.exit_code == 1
    assert "walk.alpha" in other.stderr
    assert "0.98" in other.stderr


def test_a_run_that_is_killed_three_times_loses_nothing(tmp_path, whole):
    command = [sys.executable, "-m", "nerveseg", *map(str, COMMAND), "--set", "graph.size=96", "-o", str(tmp_path)]  # as here
    journal = tmp_path / "embedded-mini" / "journal.jsonl"
    moments = random.Random(4)
    for _ in range(3):
        before = journal.stat().st_size if journal.is_file() else 0
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        until = time.monotonic() + 600
        while not (journal.is_file() and journal.stat().st_size > before) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert journal.stat().st_size > before or process.returncode == 0
        assert not (tmp_path / "embedded-mini" / "results.jsonl").exists() or process.returncode == 0
        if process.returncode == 0:
            break
        with journal.open("ab") as file:
            file.write(b'{"item":"test-0000')  # a line that the machine did not finish
    ran = bench_run(Job("mini", "embedded", limit=SCENES, threads=1), tmp_path / "embedded-mini")
    assert ran.summary.skipped >= 1
    assert ran.summary.left == 0
    _same(ran.folder, whole)


def test_shards_make_the_whole(run, tmp_path, whole):
    for part in ("0/2", "1/2"):
        result = run(*COMMAND, "-o", "out", "--shard", part)
        assert result.exit_code == 0, result.stderr
    shards = [f"out/embedded-mini-{number}of2" for number in (0, 1)]
    assert not (tmp_path / shards[0] / "metrics.json").exists()
    result = run("bench", "merge", *shards[::-1], "-o", "out/all", "--json")
    assert result.exit_code == 0, result.stderr
    _same(tmp_path / "out" / "all", whole)
    assert json.loads(result.stdout)["pictures"] == SCENES
    assert run("bench", "merge", shards[0], "-o", "out/half").exit_code == 1


def test_all_classes_can_be_offered(run):
    result = run("bench", "run", "-r", "mini", "-d", "embedded", "--limit", 1, "--offer", "all", "-o", "out", "--json")
    assert result.exit_code == 0, result.stderr
    listed = run("bench", "run", "-r", "mini", "-d", "embedded", "--limit", 1, "-o", "few", "--json")
    assert json.loads(listed.stdout)["miou"] > json.loads(result.stdout)["miou"]


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (("--shard", "2/2"), 2, "0/4"),
        (("--offer", "some"), 2, "listed, all"),
        (("--protocol", "mmseg"), 2, "sclip, cliper"),
        (("--data", "voc2112"), 2, "voc2112"),
        (("--data", "ade20k"), 1, "--root"),
        (("--recipe", "mini"), 2, "names of their own"),
        (("--names", "no-such-list"), 1, "no-such-list"),
        (("--split", "all"), 1, "test, val, train"),
    ],
)
def test_wrong_commands_are_told_before_anything_is_loaded(run, tmp_path, options, code, word):
    result = run(*COMMAND, "-o", "out", *options)
    assert result.exit_code == code, result.stderr
    assert word in result.stderr
    assert not (tmp_path / "out").exists()


def test_settings_for_the_benchmark_come_first_then_those_of_the_caller_then_the_seed():
    job = Job("cliper", "voc21", settings={"masks.floor": 0.2}, seed=7)
    chosen = job.compose()
    assert chosen.rule.options.stretch
    assert chosen.rule.options.floor == 0.2
    assert chosen.graph.options.seed == 7
    assert Job("cliper", "coco_stuff").compose().rule.options.floor == 0.2
    assert folders([job], "out", shard=(1, 3))[0].name == "voc21-cliper-1of3"
    with pytest.raises(OptionError, match="names of their own"):
        folders([job, job], "out")


def test_what_decides_the_numbers_is_in_the_identity():
    job = Job("mini", "embedded", limit=2)
    base = identity(job, job.open())
    for change in ({"limit": 3}, {"offer": "all"}, {"seed": 1}, {"settings": {"walk.alpha": 0.5}}, {"split": "val"}, {"dtype": "float16"}):
        other = Job(**{"recipe": "mini", "data": "embedded", "limit": 2, **change})
        assert identity(other, other.open()) != base, change


def test_weights_beside_a_recipe_are_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "mine" / "clip").mkdir(parents=True)
    text = '[weights]\nclip = "./clip"\n\n[labels]\nname = "clip"\n'
    (tmp_path / "mine" / "recipe.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    job = Job("mine", "embedded")
    assert job.compose().weights["clip"] == "./clip"
    assert job.placed().weights["clip"] == str(tmp_path / "mine" / "clip")


def test_the_folder_of_another_job_is_no_run(tmp_path):
    with pytest.raises(RunError):
        scored.read(tmp_path)


def test_a_job_can_be_sent_to_another_process():
    made = pickle.loads(pickle.dumps(Make(Job("mini", "embedded", settings={"walk.alpha": 0.5}))))()
    assert isinstance(made, Scoring)


# Bad data: seven images of ADE20K in miniature, five of them wrong.

GOOD, MISSING, SIZE, PALETTE, TORN, RANGE, LAST = (f"ADE_val_{number:08d}" for number in range(1, 8))
BAD = (MISSING, SIZE, PALETTE, TORN, RANGE)


@pytest.fixture
def ade(tmp_path, pair):
    home = tmp_path / "data" / "ADEChallengeData2016"
    images, masks = home / "images/validation", home / "annotations/validation"
    for number, stem in enumerate((GOOD, *BAD, LAST)):
        pair(images / f"{stem}.jpg", masks / f"{stem}.png", [0, 1, 3, 150], size=(40, 56), seed=number)

    def damage():
        (masks / f"{MISSING}.png").unlink()
        Image.fromarray(np.ones((40, 57), np.uint8)).save(masks / f"{SIZE}.png")
        Image.open(masks / f"{PALETTE}.png").convert("P").save(masks / f"{PALETTE}.png")
        whole = (images / f"{TORN}.jpg").read_bytes()
        (images / f"{TORN}.jpg").write_bytes(whole[: len(whole) // 2])
        Image.fromarray(np.full((40, 56), 200, np.uint8)).save(masks / f"{RANGE}.png")

    damage()
    return home


@pytest.fixture
def ade_run(run):
    quick = ("--set", "walk.name=none", "--set", "graph.name=none")
    return lambda *more: run("bench", "run", "-r", "mini", "-d", "ade20k", "--root", "data", "-o", "out", "--json", *quick, *more)


@pytest.mark.filterwarnings("ignore:.*was not trained on")
def test_bad_images_are_named_with_their_files_and_the_run_goes_on(ade, ade_run, pair, tmp_path):
    result = ade_run("--skip-bad")
    assert result.exit_code == 3, result.stderr
    said = json.loads(result.stdout)
    assert [entry["item"] for entry in said["bad"]] == list(BAD)
    wanted = {MISSING: ".png", SIZE: ".png", PALETTE: "palette", TORN: ".jpg", RANGE: "200"}
    for entry in said["bad"]:
        assert entry["type"] == "DataError"
        assert entry["item"] in entry["message"]
        assert wanted[entry["item"]] in entry["message"]
        assert entry["message"] in " ".join(result.stderr.split())
    assert (said["pictures"], said["missing"]) == (2, 5)
    assert [entry["item"] for entry in _lines(tmp_path / "out/ade20k-mini")] == [GOOD, LAST]
    assert sum(entry["size"][0] for entry in _lines(tmp_path / "out/ade20k-mini")) == 80
    assert said["pixels"] == 2 * 40 * 56 * 3 // 4  # a quarter is ignored

    for number, stem in enumerate(BAD):  # mended, they are done as well
        pair(ade / f"images/validation/{stem}.jpg", ade / f"annotations/validation/{stem}.png", [1, 3], size=(40, 56), seed=number)
    mended = ade_run("--skip-bad")
    assert mended.exit_code == 0, mended.stderr
    assert json.loads(mended.stdout)["missing"] == 0


@pytest.mark.filterwarnings("ignore:.*was not trained on")
def test_without_skip_bad_the_first_one_stops_the_run(ade, ade_run, tmp_path):
    result = ade_run()
    assert result.exit_code == 1
    assert f"{MISSING}.png" in result.stderr
    assert [entry["item"] for entry in _lines(tmp_path / "out/ade20k-mini", "journal.jsonl")][:2] == [GOOD, MISSING]
    assert not (tmp_path / "out/ade20k-mini/results.jsonl").exists()


def test_names_with_the_wrong_count_are_told_with_their_file(ade, ade_run, tmp_path):
    (tmp_path / "mine.txt").write_text("wall\nbuilding\n")
    result = ade_run("--names", "mine.txt")
    assert result.exit_code == 1
    assert "mine.txt" in result.stderr
    assert "150" in result.stderr
    assert not (tmp_path / "out").exists()
