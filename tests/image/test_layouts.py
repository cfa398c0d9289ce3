from __future__ import annotations

from io import BytesIO, StringIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from nerveseg.errors import ImageError
from nerveseg.image import load_image


def pixels(height=5, width=7, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (np.zeros((8, 5, 7), np.uint8), "[..., :3]"),
        (np.zeros((7, 40, 50), np.uint8), "[:3]"),
        (np.zeros((3, 5, 3), np.uint8), "first or last"),
        (np.zeros((4, 5, 4), np.uint8), "first or last"),
        (np.zeros((3, 5, 1), np.uint8), "first or last"),
        (np.zeros((4, 5, 3), np.uint16), "257"),
        (np.full((4, 5, 3), 256), "0…255"),
        (np.full((4, 5, 3), -1), "0…255"),
        (np.zeros((4, 5, 3), complex), "numbers"),
        (np.full((4, 5, 3), "x"), "numbers"),
        (np.full((4, 5, 3), None), "numbers"),
        (np.ma.masked_equal(np.zeros((4, 5, 3), np.uint8), 0), "filled"),
        (np.zeros((0, 5, 3), np.uint8), "no pixel"),
        (np.zeros((2, 4, 5, 3), np.uint8), "list(array)"),
        (np.zeros(7, np.uint8), "height and width"),
        (np.full((4, 5, 3), 300.0), "0…255"),
        (np.full((4, 5, 3), -1.0), "(x + 1) / 2"),
        (torch.zeros(3, 5, 3), "first or last"),
        (torch.zeros(2, 3, 4, 5), "tensor[0]"),
        (torch.full((3, 4, 5), 1.5), "0…1"),
        (torch.full((3, 4, 5), float("nan")), "0…1"),
        (torch.full((3, 4, 5), float("inf")), "0…1"),
        (torch.full((3, 4, 5), -0.1), "0…1"),
        (torch.zeros(3, 0, 5), "no pixel"),
        (torch.zeros(3, 4, 5).to_sparse(), "sparse"),
        (torch.zeros(3, 4, 5, device="meta"), "meta"),
        (Image.new("RGB", (0, 5)), "1×1"),
        ([np.zeros((4, 5, 3), np.uint8)], "one image at a time"),
        (iter(()), "one image at a time"),
        (StringIO("text"), "'rb'"),
        (memoryview(b""), "no bytes"),
    ],
)
def test_layouts_that_can_be_read_in_two_ways_are_refused(source, says):
    with pytest.raises(ImageError) as caught:
        load_image(source)
    assert says in str(caught.value)


def _pixels_of(array, what):
    return torch.from_numpy(array) if what == "tensor" else array


@pytest.mark.parametrize("what", ["array", "tensor"])
@pytest.mark.parametrize(
    ("turned", "wanted"),
    [
        (lambda rgb: rgb[None], lambda rgb: rgb),
        (lambda rgb: np.moveaxis(rgb, -1, 0), lambda rgb: rgb),
        (lambda rgb: np.moveaxis(rgb, -1, 0)[None], lambda rgb: rgb),
        (lambda rgb: rgb[:, :, 0], lambda rgb: rgb[:, :, [0, 0, 0]]),
        (lambda rgb: rgb[:, :, :1], lambda rgb: rgb[:, :, [0, 0, 0]]),
        (lambda rgb: rgb[None, :, :, 0], lambda rgb: rgb[:, :, [0, 0, 0]]),
        (lambda rgb: np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]), lambda rgb: rgb),
        (lambda rgb: np.dstack([rgb, np.zeros(rgb.shape[:2], np.uint8)]), lambda rgb: np.full_like(rgb, 255)),
        (lambda rgb: np.moveaxis(np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]), -1, 0), lambda rgb: rgb),
        (lambda rgb: rgb[:, :, 0] > 99, lambda rgb: (rgb[:, :, [0, 0, 0]] > 99) * 255),
        (lambda rgb: (rgb / 255).astype(np.float32), lambda rgb: rgb),
        (lambda rgb: rgb / 255, lambda rgb: rgb),
        (lambda rgb: (rgb / 255).astype(np.float16), lambda rgb: rgb),
        (lambda rgb: rgb.astype(np.float32), lambda rgb: rgb),
        (lambda rgb: rgb.astype(np.int64), lambda rgb: rgb),
        (lambda rgb: rgb.astype(np.int32), lambda rgb: rgb),
    ],
)
def test_arrays_and_tensors_as_people_have_them(what, turned, wanted):
    rgb = pixels(9, 12)
    rgb[0, 0] = 255
    np.testing.assert_array_equal(load_image(_pixels_of(np.ascontiguousarray(turned(rgb)), what)).pixels, wanted(rgb))


def test_where_both_ends_could_be_colours_an_array_has_them_last_and_a_tensor_first():
    assert load_image(np.zeros((4, 5, 3), np.uint8)).size == (4, 5)
    assert load_image(np.zeros((1, 5, 3), np.uint8)).size == (1, 5)
    assert load_image(torch.zeros((3, 5, 4))).size == (5, 4)
    assert load_image(torch.zeros((3, 5, 1))).size == (5, 1)


def test_what_was_changed_of_an_array_is_noted():
    assert load_image(np.full((4, 5), 200.0)).notes == ("Floats up to 200 were read as 0…255.", "Grey was turned into RGB.")
    assert load_image(np.zeros((9, 5, 4), np.uint8)).notes == ("Transparency was laid over white.",)
    assert load_image(np.full((9, 5, 3), 0.5)).notes == ()


def test_open_files_are_read_from_their_start(tmp_path):
    array, path = pixels(), tmp_path / "a b.png"
    Image.fromarray(array).save(path)
    buffer = BytesIO()
    Image.fromarray(array).save(buffer, "PNG")  # and stands at its end
    with path.open("rb") as file, ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "in/a.png")
        for source, name in [(buffer, "picture"), (file, "a b.png"), (path.as_uri(), "a b.png"), (f"file://{path}", "a b.png")]:
            image = load_image(source)
            np.testing.assert_array_equal(image.pixels, array)
            assert image.name == name
    with ZipFile(tmp_path / "a.zip") as archive, archive.open("in/a.png") as inside:
        np.testing.assert_array_equal(load_image(inside).pixels, array)


def test_a_closed_file_and_one_of_text_are_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(pixels()).save(path)
    closed = path.open("rb")
    closed.close()
    with path.open(encoding="utf-8") as text, path.open("ab") as writing:
        for source in (closed, text, writing):
            with pytest.raises(ImageError, match="'rb'"):
                load_image(source)


@pytest.mark.parametrize(
    "source", ["https://example.org/a.png", Path("https://example.org/a.png"), "http:/example.org/a.png", "s3://b/c.png"]
)
def test_an_address_is_named_whole(source):
    with pytest.raises(ImageError, match=r"address '\w+://\w.*Download it"):
        load_image(source)


def test_an_image_shows_itself():
    image = load_image(np.zeros((9, 1500, 3), np.uint8))
    assert len(repr(image)) < 300
    assert Image.open(BytesIO(image._repr_png_())).size == (1024, 6)
