"""What the browser gets of a result: exact at every drawn pixel, and data alone."""

from __future__ import annotations

import base64
import json
import zlib
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from nerveseg import Click
from nerveseg.image import load_image
from nerveseg.segmentation import Segmentation
from nerveseg.ui import view
from nerveseg.words.vocabulary import Background, Vocabulary


def _result(height, width, words, *, background=None, seed=0):
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (height, width, 3), generator=draw, dtype=torch.uint8).numpy()
    P = torch.rand((len(words) + 1, 7, 9), generator=draw).softmax(0)
    vocabulary = Vocabulary.parse(words)
    beside = Background.parse(background, vocabulary)
    return Segmentation.build(P, P, vocabulary, load_image(pixels), background=beside)


def _unpacked(text, shown):
    plain = zlib.decompress(base64.b64decode(text))
    count = shown[0] * shown[1]
    assert len(plain) == 3 * count
    return np.frombuffer(plain[: 2 * count], "<u2").reshape(shown), np.frombuffer(plain[2 * count :], np.uint8).reshape(shown)


@pytest.mark.parametrize(
    ("size", "shown"), [((40, 60), (40, 60)), ((1, 5000), (1, 1280)), ((1500, 2000), (960, 1280)), ((1281, 2), (1280, 2))]
)
def test_an_image_is_drawn_no_larger_than_it_need_be(size, shown):
    assert view.shown_size(size) == shown


def test_ids_and_confidences_are_those_of_the_result():
    result = _result(40, 60, ["a", "b", "c"])
    ids, percent = _unpacked(view.maps(result), (40, 60))
    assert (ids == result.segmentation.numpy()).all()
    assert (percent == np.rint(100 * result.confidence().numpy())).all()


def test_a_drawn_pixel_is_the_one_under_its_centre():
    result = _result(30, 2560, ["a", "b"], seed=1)
    ids, percent = _unpacked(view.maps(result), (15, 1280))
    for y, x in [(0, 0), (7, 500), (14, 1279)]:
        assert ids[y, x] == result.segmentation[2 * y + 1, 2 * x + 1]
        assert percent[y, x] == round(100 * float(result.confidence()[2 * y + 1, 2 * x + 1]))


def test_ids_past_a_byte_and_ignored_pixels_are_kept():
    result = _result(8, 8, [f"word {number}" for number in range(300)])
    result.segmentation[0, 0] = result.ignore_index
    result.segmentation[0, 1] = 299
    ids, percent = _unpacked(view.maps(result), (8, 8))
    assert ids[0, 0] == 65535
    assert ids[0, 1] == 299
    assert percent.max() <= 100


def test_the_legend_holds_names_as_they_are():
    names = ["<b>x</b>", "ñandú", "a&b"]
    result = _result(20, 20, names, background=["sky"])
    entries = view.legend(result)
    assert [entry["name"] for entry in entries] == [*names, "background"]
    assert entries[-1]["colour"] == "#606060"
    assert sum(entry["share"] for entry in entries) == pytest.approx(1, abs=1e-5)
    assert len({entry["colour"] for entry in entries}) == 4
    assert json.loads(json.dumps(entries)) == entries


def test_marks_stand_where_the_clicks_were():
    result = _result(20, 30, ["cat; kitten", "dog"])
    seeds = [Click("dog", points=[(3, 4), (5.5, 6)]), Click("kitten", points=(1, 2))]
    assert view.marks(seeds, result) == [{"x": 3.0, "y": 4.0, "id": 1}, {"x": 5.5, "y": 6.0, "id": 1}, {"x": 1.0, "y": 2.0, "id": 0}]


def test_a_small_image_goes_exactly_and_a_large_one_small():
    for size, kind in [((50, 70), "png"), ((800, 2000), "jpeg")]:
        image = _result(*size, ["a", "b"]).image
        data = view.image_data(image)
        head, _, body = data["url"].partition(",")
        assert head == f"data:image/{kind};base64"
        pil_image = Image.open(BytesIO(base64.b64decode(body)))
        assert [pil_image.height, pil_image.width] == data["shown"]
        assert data["size"] == list(size)
        if kind == "png":
            assert (np.asarray(pil_image) == image.pixels).all()
        assert {name: data[name] for name in data if name != "url"} == view.image_head(image)


def test_a_thumbnail_is_a_square_from_the_middle():
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, 100:200] = 255
    image = Image.open(BytesIO(base64.b64decode(view.thumbnail(pixels, 64).partition(",")[2])))
    assert image.size == (64, 64)
    assert np.asarray(image).min() == 255
