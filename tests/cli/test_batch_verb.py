from __future__ import annotations

import json
from functools import partialmethod

import numpy as np
import pytest
from typer.testing import CliRunner

SAVED = ("--recipe", "mini", "--labels", "dog, cat", *("-s", "labels.name=saved", "-s", "graph.name=none", "-s", "walk.name=none"))


@pytest.fixture
def batch(run, photo, tmp_path):
    """``batch("in", "out", …)`` over in/a.png and in/d/b.png with saved scores."""
    (tmp_path / "in" / "d").mkdir(parents=True)
    (tmp_path / "scores").mkdir()
    for number, name in enumerate(("a", "d/b")):
        photo(f"in/{name}.png")
        scores = np.random.default_rng(number).dirichlet((1, 1), (4, 5)).transpose(2, 0, 1)
        np.savez(tmp_path / "scores" / f"{name[-1]}.npz", scores=scores)
    return lambda *args, **given: run("batch", *args, *SAVED, "-s", f"labels.path={tmp_path / 'scores'}", **given)


def test_a_folder_becomes_a_folder_of_masks(batch, tmp_path):
    result = batch("in", "out")
    assert result.exit_code == 0, result.stderr
    assert "2 images labelled, 0 could not be used" in result.stdout
    assert (tmp_path / "out" / "a.png").is_file()
    assert (tmp_path / "out" / "d" / "b.png").is_file()
    again = batch("in", "out")
    assert again.exit_code == 2
    assert "finished batch" in again.stderr
    again = batch("in", "out", "--resume", "--json")
    assert (again.exit_code, json.loads(again.stdout)["before"]) == (0, 2)


def test_bad_images_are_listed_and_the_others_are_kept(batch, tmp_path):
    (tmp_path / "in" / "bad.jpg").write_bytes(b"hello")
    result = batch("in", "out", "--format", "coco", "--json")
    assert result.exit_code == 3
    assert [bad["item"] for bad in json.loads(result.stdout)["bad"]] == ["bad.jpg"]
    assert "skipped: bad.jpg: Got" in result.stderr
    assert len(json.loads((tmp_path / "out" / "instances.json").read_text("utf-8"))["images"]) == 2
    assert batch("in/*.jpg", "none").exit_code == 1, "all of them bad"
    strict = batch("in", "strict", "--no-skip-bad")
    assert strict.exit_code == 1
    assert "hello" in strict.stderr


def test_two_images_for_one_mask_are_refused_before_any_work(batch, photo, tmp_path):
    photo("in/a.jpg")
    result = batch("in", "out")
    assert result.exit_code == 2
    assert "'a.jpg' and 'a.png'" in result.stderr
    assert not (tmp_path / "out").exists()


def test_shards_write_into_one_folder(batch, tmp_path):
    first = batch("in", "out", "--shard", "0/2", "--format", "coco")
    assert first.exit_code == 0, first.stderr
    assert "other shards: 1/2" in first.stderr
    assert not (tmp_path / "out" / "instances.json").exists()
    assert batch("in", "out", "--shard", "1/2", "--format", "coco").exit_code == 0
    assert (tmp_path / "out" / "instances.json").is_file()
    assert batch("in", "out", "--shard", "2/2").exit_code == 2


def test_paths_come_from_stdin_and_writers_have_knobs(batch, tmp_path, monkeypatch):
    monkeypatch.setattr("typer.testing.CliRunner.invoke", partialmethod(CliRunner.invoke, input="in/d/b.png\n"))
    result = batch("-", "out", "--writer", "sidecar=false")
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "out" / "in" / "d").iterdir()) == ["b.png"]
