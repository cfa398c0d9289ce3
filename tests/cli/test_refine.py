from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors import safe_open

from nerveseg.writers import png


@pytest.fixture
def scores(tmp_path):
    """Write scores beside the image and give their path."""

    def make(name="a.npz", *, labels=("dog", "cat", "grass"), values=None):
        maps = np.random.default_rng(0).dirichlet(np.ones(3), (10, 14)).transpose(2, 0, 1) if values is None else values
        named = {} if labels is None else {"labels": np.array(labels)}
        np.savez(tmp_path / name, scores=maps, **named)
        return tmp_path / name

    return make


def test_it_leaves_what_segment_leaves_and_the_probabilities(run, photo, scores):
    result = run("refine", scores(), photo(), "--recipe", "mini")
    assert result.exit_code == 0, result.stderr
    for shown in ("dog", "grass", "converged", "a.probabilities.safetensors"):
        assert shown in result.stdout
    reading = png.read("nerveseg-out/a.png")
    assert reading.ids.shape == (40, 56)
    assert reading.labels == ("dog", "cat", "grass")
    with safe_open("nerveseg-out/a.probabilities.safetensors", framework="np") as file:
        refined = file.get_tensor("scores")
        assert json.loads(file.metadata()["labels"]) == ["dog", "cat", "grass"]
    assert refined.dtype == np.float16
    assert refined.shape[0] == 3
    np.testing.assert_allclose(refined.astype("f4").sum(0), 1, atol=5e-3)


def test_its_own_output_goes_in_again_in_any_order(run, photo, scores):
    assert run("refine", scores(), photo(), "-r", "mini", "-o", "one").exit_code == 0
    again = ("refine", "one/a.probabilities.safetensors", "a.png", "-r", "mini")
    result = run(*again, "-o", "two", "--labels", "grass, dog", "-b", "auto", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert [label["label"] for label in told["labels"]] == ["grass", "dog", "background"]
    assert len(told["files"]) == 4
    replaced = run(*again, "-o", "one", "--overwrite")
    assert replaced.exit_code == 2
    assert "which is the input one/a.probabilities.safetensors" in replaced.stderr


def test_names_and_knobs(run, photo, scores):
    logits = np.random.default_rng(0).normal(size=(2, 6, 6)) * 5
    path = scores("b.npz", labels=None, values=logits)
    result = run(
        "refine", path, photo(), "-r", "mini", "--json", "-s", "labels.kind=logits", "-s", "walk.name=truncated", "-s", "walk.steps=3"
    )
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert [label["label"] for label in told["labels"]] == ["class 0", "class 1"]
    assert told["walk"]["steps"] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("absent.npz", "a.png", "-r", "mini"), 1, "no file"),
        (("a.npz", "absent.png", "-r", "mini"), 1, "does not exist"),
        (("a.npz", "a.png", "-r", "mini", "-l", "dog, zebra"), 2, "'zebra'"),
        (("a.npz", "a.png", "-r", "mini", "-l", "dog"), 2, "single label"),
        (("a.npz", "a.png", "-r", "mini", "-s", "graph.name=none"), 2, "nothing would be refined"),
        (("a.npz", "a.png", "-r", "mini", "-s", "walk.alpha=2"), 2, "walk.alpha"),
        (("a.npz", "a.png", "-r", "nevre"), 2, "Did you mean"),
        (("bad.npz", "a.png", "-r", "mini"), 1, "at least 0"),
    ],
)
def test_what_goes_wrong_is_one_line_and_leaves_nothing(run, photo, scores, tmp_path, arguments, code, word):
    photo()
    scores()
    scores("bad.npz", labels=None, values=-np.ones((3, 4, 4)))
    result = run("refine", *arguments)
    assert result.exit_code == code, result.stderr
    assert result.stderr.startswith("error: Got")
    assert word in result.stderr
    assert result.stderr.strip().count("\n") == 0
    assert not (tmp_path / "nerveseg-out").exists()


def test_older_results_stay_unless_told_otherwise(run, photo, scores, tmp_path):
    scores(), photo()
    kept = tmp_path / "nerveseg-out" / "a.probabilities.safetensors"
    kept.parent.mkdir()
    kept.write_text("mine")
    result = run("refine", "a.npz", "a.png", "-r", "mini")
    assert result.exit_code == 2
    assert kept.read_text() == "mine"
    assert run("refine", "a.npz", "a.png", "-r", "mini", "--overwrite").exit_code == 0
    assert kept.read_bytes()[:4] != b"mine"
