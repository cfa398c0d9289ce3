"""``--click``: places on the command line, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nerveseg.cli._words import read_clicks
from nerveseg.clicks import Click
from nerveseg.errors import OptionError


def test_a_click_a_box_and_a_stroke():
    assert read_clicks(["cat@3,4", "my thing @ 1,2,5,6", "dog@1,1 2,2 3,1.5"]) == (
        Click("cat", points=(3, 4)),
        Click("my thing", box=(1, 2, 5, 6)),
        Click("dog", strokes=[(1, 1), (2, 2), (3, 1.5)]),
    )


def test_the_last_at_sign_parts_label_and_place():
    assert read_clicks(["a@b@3,4"]) == (Click("a@b", points=(3, 4)),)


@pytest.mark.parametrize("text", ["cat", "cat@", "cat@3", "cat@3,4,5", "cat@x,y", "cat@1,2 3", "3,4"])
def test_anything_else_is_refused(text):
    with pytest.raises(OptionError, match="Accepted are LABEL@x,y"):
        read_clicks([text])


def test_a_clicked_pixel_has_its_label_in_the_file(run, photo, tmp_path):
    more = ("--click", "my thing@30,20", "--click", "cat@50,10", "--set", "clicks.radius=1")
    done = run("segment", photo(size=(40, 56)), "-r", "mini", "-l", "cat, grass, sky", "-o", tmp_path / "out", *more)
    assert done.exit_code == 0, done.output
    ids = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert (ids[20, 30], ids[10, 50]) == (3, 0)


def test_clicks_belong_to_one_image(run, photo):
    done = run("segment", photo("a.png"), photo("b.png"), "-r", "mini", "-l", "cat, dog", "--click", "cat@1,1")
    assert done.exit_code != 0
    assert "one: a click is a place in it" in " ".join(done.stderr.split())
