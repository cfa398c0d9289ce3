from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nerveseg.writers import png

WORDS = ("--labels", "dog; puppy, cat, grass", "--recipe", "mini")


def test_one_image_leaves_three_files_and_a_table(run, photo):
    result = run("segment", photo("a.jpg"), *WORDS)
    assert result.exit_code == 0, result.stderr
    for shown in ("dog", "cat", "grass", "confidence", "seconds", "converged"):
        assert shown in result.stdout
    reading = png.read("nerveseg-out/a.png")
    assert reading.ids.shape == (40, 56)
    assert reading.labels == ("dog", "cat", "grass")
    assert reading.run["recipe"] == "mini"
    with Image.open("nerveseg-out/a.png") as ids, Image.open("nerveseg-out/a.overlay.png") as overlay:
        assert ids.mode == "P"
        assert overlay.height > 40


def test_json_is_one_object_an_image(run, photo, tmp_path):
    result = run("segment", photo("a.png"), photo("b.png", size=(30, 30)), *WORDS, "--json", "-o", tmp_path / "deep" / "er")
    assert result.exit_code == 0, result.stderr
    first, second = map(json.loads, result.stdout.splitlines())
    assert first["size"] == [40, 56]
    assert [label["label"] for label in first["labels"]] == ["dog", "cat", "grass"]
    assert sum(label["share"] for label in first["labels"]) == pytest.approx(1)
    assert first["walk"]["bound"] <= 1e-3
    assert len(second["files"]) == 3
    assert set(first["seconds"]) >= {"walk", "decide"}


def test_the_same_command_gives_the_same_bytes(run, photo, tmp_path):
    photo()
    for out in ("one", "two"):
        assert run("segment", "a.png", *WORDS, "--seed", 3, "-o", out).exit_code == 0
    for name in ("a.png", "a.run.json", "a.overlay.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_knobs_reach_the_walk(run, photo):
    result = run("segment", photo(), *WORDS, "--json", "--set", "walk.name=truncated", "--set", "walk.steps=3", "-s", "walk.alpha=0.5")
    assert result.exit_code == 0, result.stderr
    walk = json.loads(result.stdout)["walk"]
    assert walk["steps"] == 3
    assert 2 * 0.5**4 < walk["bound"] < 2 * 0.5**4 + 1e-5  # what is left of the walk, and round-off


def test_labels_come_from_a_file(run, photo, tmp_path):
    (tmp_path / "words.txt").write_text("# two\ndog; puppy\ncat\n", "utf-8")
    result = run("segment", photo(), "--labels", "words.txt", "--recipe", "mini", "--json")
    assert [label["label"] for label in json.loads(result.stdout)["labels"]] == ["dog", "cat"]


@pytest.mark.parametrize("background", ["auto", "sky, road"])
def test_a_background_is_the_last_label(run, photo, background):
    result = run("segment", photo(), "--labels", "dog", "--recipe", "mini", "--json", "-b", background)
    assert result.exit_code == 0, result.stderr
    assert [label["label"] for label in json.loads(result.stdout)["labels"]] == ["dog", "background"]


def test_unknown_words_are_noted_once_on_stderr(run, photo):
    result = run("segment", photo("a.png"), photo("b.png"), "--labels", "zeppelin, dog", "--recipe", "mini", "--json")
    assert result.exit_code == 0
    assert result.stderr.count("zeppelin") == 1
    assert "note:" in result.stderr
    assert "UserWarning" not in result.stderr


def test_one_bad_image_does_not_lose_the_others(run, photo, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"")
    result = run("segment", photo("a.png"), "bad.jpg", photo("c.png"), *WORDS, "--json")
    assert result.exit_code == 3
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row.get("error", {}).get("type") for row in rows] == [None, "ImageError", None]
    assert "failed: 1 of 3 images: bad.jpg" in result.stderr
    assert (tmp_path / "nerveseg-out" / "c.png").is_file()


def test_an_image_too_large_for_the_machine_does_not_lose_the_others(run, photo, monkeypatch):
    from nerveseg.segmenter import Segmenter

    encode = Segmenter.encode

    def fails_once(self, image, **options):
        if image.name == "a.png":
            raise RuntimeError("not enough memory")
        return encode(self, image, **options)

    monkeypatch.setattr(Segmenter, "encode", fails_once)
    result = run("segment", photo("a.png"), photo("b.png"), *WORDS)
    assert result.exit_code == 3
    assert "not enough memory" in result.stderr


def test_memory_that_runs_out_leaves_no_file_of_that_image_and_goes_on(run, photo, mini, monkeypatch, tmp_path):
    module, failed = mini.recipe.walk.module, []
    solve = module.solve

    def fails_once(*given):
        if not failed:
            failed.append(True)
            torch.empty(10**15)
        return solve(*given)

    monkeypatch.setattr(module, "solve", fails_once)
    result = run("segment", photo("a.png"), photo("b.png"), *WORDS, "--json")
    assert result.exit_code == 3
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row.get("error", {}).get("type") for row in rows] == ["OutOfMemory", None]
    assert "graph.size" in result.stderr
    names = sorted(path.name for path in (tmp_path / "nerveseg-out").iterdir())
    assert names == ["b.overlay.png", "b.png", "b.run.json"]


@pytest.mark.parametrize(
    ("names", "out"),
    [
        (("a.png", "a.jpg"), "out"),
        (("a.png", "A.jpg"), "out"),
        (("a.png", "a.overlay.jpg"), "out"),
        (("a.png",), "."),
        (("a.png", "a.png"), "o"),
    ],
)
def test_collisions_are_refused_before_work_starts(run, photo, tmp_path, names, out):
    for name in set(names):
        photo(name)
    before = sorted(tmp_path.iterdir())
    result = run("segment", *names, *WORDS, "-o", out)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: Got")
    assert sorted(tmp_path.iterdir()) == before


def test_older_results_stay_unless_told_otherwise(run, photo, tmp_path):
    photo()
    kept = tmp_path / "nerveseg-out" / "a.run.json"
    kept.parent.mkdir()
    kept.write_text("mine")
    result = run("segment", "a.png", *WORDS)
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert kept.read_text() == "mine"
    assert run("segment", "a.png", *WORDS, "--overwrite").exit_code == 0
    assert kept.read_text() != "mine"


def test_notes_of_the_image_are_told(run, tmp_path):
    Image.fromarray(np.full((20, 30), 7, np.uint8)).save(tmp_path / "grey.png")
    result = run("segment", "grey.png", *WORDS, "--json")
    assert result.exit_code == 0
    assert "grey.png: Mode L was turned into RGB" in result.stderr


def test_an_image_unlike_those_that_the_networks_know_is_told_of_once(run, photo):
    photo("a.png", size=(96, 96))
    photo("b.png", size=(96, 120))
    result = run("segment", "a.png", "b.png", *WORDS)
    assert result.exit_code == 0, result.stderr
    assert " ".join(result.stderr.split()).count("know drawn scenes only") == 1
    for name in ("a", "b"):
        assert "know drawn scenes only" in json.loads(Path(f"nerveseg-out/{name}.run.json").read_text())["picture"]["notes"][0]
