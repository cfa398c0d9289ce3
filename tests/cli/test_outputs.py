"""Every verb that writes: no input is replaced, whatever is said; no file that was there before without --overwrite."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from nerveseg import outputs
from nerveseg.errors import OptionError, OutputError


@pytest.fixture
def place(tmp_path, photo):
    """An image, its scores, a list of labels and a recipe, and two bench runs that are none."""
    photo("a.png")
    np.savez(tmp_path / "a.npz", scores=np.full((2, 5, 5), 0.5, np.float32))
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    (tmp_path / "mine.toml").write_text('name = "mine"\nbase = "mini"\n')
    (tmp_path / "run").mkdir()
    (tmp_path / "run/results.jsonl").write_text("{}\n")
    (tmp_path / "out").mkdir()
    return tmp_path


def link(*, soft):
    def make(source, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source) if soft else os.link(source, target)

    return make


def copied(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


LABELS = ("-l", "names.txt", "-r", "mini")
# Verb, the input that its output would be, and that output.
VERBS = {
    "segment": (("segment", "a.png", "-o", "out", *LABELS), "a.png", "out/a.png"),
    "segment's record": (("segment", "a.png", "-o", "out", *LABELS), "names.txt", "out/a.run.json"),
    "segment's overlay": (("segment", "a.png", "-o", "out", *LABELS), "a.png", "out/a.overlay.png"),
    "batch": (("batch", "a.png", "out", *LABELS), "a.png", "out/a.png"),
    "batch's record": (("batch", "a.png", "out", *LABELS), "names.txt", "out/a.run.json"),
    "batch's end": (("batch", "a.png", "out", *LABELS), "names.txt", "out/batch.json"),
    "refine": (("refine", "a.npz", "a.png", "-o", "out", "-r", "mini"), "a.npz", "out/a.probabilities.safetensors"),
    "refine's mask": (("refine", "a.npz", "a.png", "-o", "out", *LABELS), "names.txt", "out/a.png"),
    "explain": (("explain", "a.png", "-o", "out/e.png", *LABELS), "a.png", "out/e.png"),
    "explain's labels": (("explain", "a.png", "-o", "out/e.png", *LABELS), "names.txt", "out/e.png"),
    "bench report": (("bench", "report", "run", "-o", "out/r.md"), "run/results.jsonl", "out/r.md"),
    "calibrate": (("calibrate", "-r", "mine.toml", "--root", "data", "-o", "out/c.toml"), "mine.toml", "out/c.toml"),
    "calibrate's plot": (
        ("calibrate", "-r", "mine.toml", "--root", "data", "-o", "out/c.toml", "--plot", "out/p.png"),
        "mine.toml",
        "out/p.png",
    ),
    "tune": (("tune", "-r", "mine.toml", "--root", "data", "-o", "out"), "mine.toml", "out/recipe.toml"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("make", [link(soft=True), link(soft=False)], ids=["a link", "a second name"])
def test_an_input_is_never_written_over(run, place, verb, make):
    arguments, given, target = VERBS[verb]
    make(place / given, place / target)
    content = (place / given).read_bytes()
    for more in ((), ("--overwrite",)) if verb != "tune" else ((),):
        found = run(*arguments, *more)
        assert found.exit_code == 2, found.output
        assert "which is the input" in found.stderr
        assert (place / given).read_bytes() == (place / target).read_bytes() == content


@pytest.mark.parametrize("verb", VERBS)
def test_what_was_there_is_not_replaced_unless_it_is_told(run, place, verb):
    arguments, given, target = VERBS[verb]
    copied(place / given, place / target)
    found = run(*arguments)
    assert found.exit_code == 2, found.output
    assert "--overwrite" in found.stderr
    assert (place / given).read_bytes() == (place / target).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("demo", "-o", "out"), "cat-and-hat.overlay.png"),
        (("demo", "-o", "out"), "pictures/cat-and-hat.png"),
        (("synthetic", "render", "-o", "out"), "test-00000.png"),
        (("synthetic", "render", "-o", "out"), "test-00000.txt"),
    ],
)
def test_what_makes_the_same_every_time_leaves_it_and_refuses_strangers(run, place, arguments, name):
    assert run(*arguments).exit_code == 0
    made = _contents(place / "out")
    assert run(*arguments).exit_code == 0
    stranger = place / "out" / name
    stranger.write_bytes(b"mine")
    found = run(*arguments)
    assert found.exit_code == 1
    assert "--overwrite" in found.stderr
    assert stranger.read_bytes() == b"mine"
    assert run(*arguments, "--overwrite").exit_code == 0
    assert _contents(place / "out") == made


def _contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_segment_replaces_its_results_when_it_is_told(run, place):
    assert run("segment", "a.png", "-o", "out", *LABELS).exit_code == 0
    assert run("segment", "a.png", "-o", "out", *LABELS).exit_code == 2
    assert run("segment", "a.png", "-o", "out", *LABELS, "--overwrite").exit_code == 0


def test_results_in_python_never_replace_their_own_image(place, mini):
    result = mini(place / "a.png", ["cat", "dog"])
    content = (place / "a.png").read_bytes()
    with pytest.raises(OutputError, match="which is the input"):
        result.save(place / "a.png")
    (place / "voc/JPEGImages").mkdir(parents=True)
    os.link(place / "a.png", place / "voc/JPEGImages/a.jpg")
    with pytest.raises(OutputError, match="which is the input"):
        result.save(place / "voc", "voc", images=True)
    assert (place / "a.png").read_bytes() == content


def test_two_results_of_one_name_on_some_disks(tmp_path):
    with pytest.raises(OptionError, match="for two results"):
        outputs.check([tmp_path / "a.png", tmp_path / "A.PNG"], outputs.Inputs(), overwrite=True)


@pytest.mark.parametrize("path", ["/" + "x" * 300, "\0", "loop"])
def test_paths_that_the_system_does_not_take_are_no_inputs(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    assert outputs.inputs(path, None, "cat, dog").files == {}
