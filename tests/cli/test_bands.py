"""``--bands`` and ``--range``, and what a folder left out, on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from nerveseg.cli._bands import read_bands
from nerveseg.errors import OptionError

ASKED = ("Bands 3, 2, 1 of 3 were taken, as asked for.", "from 10…200, as asked for, to 0…255.")


@pytest.fixture
def photo(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(tmp_path / "in/a.png")
    return "in/a.png"


def test_bands_are_chosen_told_and_recorded(run, photo, tmp_path):
    made = run("segment", photo, "-l", "cat, dog", "-r", "mini", "-o", "out", "--bands", "3,2,1", "--range", "10,200")
    assert made.exit_code == 0, made.output
    notes = json.loads((tmp_path / "out/a.run.json").read_text())["picture"]["notes"]
    told = [note for note in notes if "drawn scenes only" not in note]
    for said, note in zip(ASKED, told, strict=True):
        assert said in note
        assert said in " ".join(made.stderr.split())


def test_a_batch_takes_them_and_counts_what_it_left_out(run, photo, tmp_path):
    (tmp_path / "in/b.tga").touch()
    (tmp_path / "in/._c.png").touch()
    made = run("batch", "in", "out", "-l", "cat, dog", "-r", "mini", "--bands", "3,2,1", "--range", "10,200", "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["left_out"] == {".tga": 1}
    assert "1 file that looks like an image was left out: 1 .tga." in made.stderr
    assert ASKED[0] in (tmp_path / "out/a.run.json").read_text("utf-8")
    other = run("batch", "in", "out", "-l", "cat, dog", "-r", "mini", "--resume")
    assert other.exit_code == 1
    assert "bands" in other.stderr


@pytest.mark.parametrize("given", [("1,2", None), ("a", None), ("0,1,2", None), (None, "3"), (None, "9,1"), (None, "x,y"), (None, "1,nan")])
def test_what_is_no_choice_is_refused(given):
    with pytest.raises(OptionError, match="Write"):
        read_bands(*given)


@pytest.mark.parametrize("verb", ["explain", "segment"])
def test_every_verb_refuses_it_before_any_work(run, photo, verb):
    made = run(verb, photo, "-l", "cat, dog", "-r", "mini", "--bands", "1,2")
    assert made.exit_code in (1, 2)
    assert "Write 4,3,2" in made.stderr
