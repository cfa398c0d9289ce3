from __future__ import annotations

import contextlib
import struct
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nerveseg.errors import ImageError
from nerveseg.image import load_image
from nerveseg.image.decode import FORMATS, open_image


def pixels(height=5, width=7, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image, format="PNG", **options):
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png_header(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_the_same_pixels_give_the_same_image_however_they_come(tmp_path):
    array = pixels()
    path = tmp_path / "a.png"
    Image.fromarray(array).save(path)
    chw = torch.from_numpy(array).permute(2, 0, 1)
    sources = [
        path,
        str(path),
        path.read_bytes(),
        bytearray(path.read_bytes()),
        Image.open(path),
        array,
        chw,
        chw.float() / 255,
        chw.double() / 255,
    ]
    found = [load_image(source) for source in sources]
    for image in found:
        np.testing.assert_array_equal(image.pixels, array)
        assert image.size == (5, 7)
        assert image.orientation == 1
        assert image.notes == ()
    assert len({image.sha256 for image in found}) == 1
    assert found[0].name == "a.png"
    assert found[5].name == "picture"
    assert load_image(found[0]) is found[0]
    sources[4].close()


def test_pixels_are_a_copy_that_cannot_be_written():
    array = pixels()
    image = load_image(array)
    array[:] = 0
    assert image.pixels.any()
    with pytest.raises(ValueError):
        image.pixels[0, 0, 0] = 1


def test_the_digest_tells_shapes_apart():
    flat = np.zeros((4, 6, 3), dtype=np.uint8)
    assert load_image(flat).sha256 != load_image(flat.reshape(6, 4, 3)).sha256


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    array = pixels()
    turn = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = load_image(encoded(Image.fromarray(array), exif=exif))
    np.testing.assert_array_equal(image.pixels, turn[orientation](array))
    assert image.orientation == orientation
    assert bool(image.notes) == (orientation != 1)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV"])
def test_modes_become_rgb(mode):
    pil_image = Image.fromarray(pixels()).convert(mode)
    image = load_image(pil_image)
    np.testing.assert_array_equal(image.pixels, np.asarray(pil_image.convert("RGB")))
    assert bool(image.notes) == (mode != "RGB")


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA", "La", "RGBa"])
def test_transparency_is_laid_over_white(mode):
    pil_image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    pil_image.putpixel((1, 0), (40, 40, 40, 255))
    steps = {"La": ["LA", "La"], "PA": ["P", "PA"]}.get(mode, [mode])
    for step in steps:
        pil_image = pil_image.convert(step)
    image = load_image(pil_image)
    if mode != "PA":  # PIL's own way to PA drops the transparency
        assert image.pixels[0, 0].tolist() == [255, 255, 255]
        assert "white" in image.notes[-1]
    assert image.pixels[0, 1].tolist() == [40, 40, 40]


def test_a_palette_with_a_transparent_colour():
    pil_image = Image.new("P", (2, 1))
    pil_image.putpalette([10, 20, 30, 200, 100, 50])
    pil_image.putpixel((1, 0), 1)
    image = load_image(encoded(pil_image, transparency=0))
    assert image.pixels[0].tolist() == [[255, 255, 255], [200, 100, 50]]


def test_sixteen_bit_grey_is_scaled_by_its_range_and_says_so():
    grey = np.array([[1000, 2000, 3000]], dtype=np.uint16)
    image = load_image(encoded(Image.fromarray(grey)))
    assert image.pixels[0, :, 0].tolist() == [0, 128, 255]
    assert "1000…3000" in image.notes[0]
    even = load_image(encoded(Image.fromarray(np.full((2, 2), 65535, dtype=np.uint16))))
    assert even.pixels.min() == 255


def test_grey_floats_with_nan_are_refused():
    load_image(Image.fromarray(np.array([[0.0, 0.5]], dtype=np.float32)))
    with pytest.raises(ImageError, match="finite"):
        load_image(Image.fromarray(np.array([[0.0, np.nan]], dtype=np.float32)))


def test_the_first_image_of_several_is_taken_and_noted():
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue", "lime")]
    image = load_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert image.pixels[0, 0].tolist() == [255, 0, 0]
    assert image.notes[0].startswith("Image 1 of the 3")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000"])
def test_formats(format):
    even = np.full((16, 24, 3), 120, dtype=np.uint8)
    image = load_image(encoded(Image.fromarray(even), format))
    assert image.size == (16, 24)
    assert abs(int(image.pixels.mean()) - 120) <= 2


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5000), (5000, 1)])
def test_extreme_shapes_load(height, width):
    assert load_image(encoded(Image.new("RGB", (width, height)))).size == (height, width)


def test_the_cap_is_checked_before_decoding():
    with pytest.raises(ImageError, match="3,600,000,000"):
        load_image(png_header(60000, 60000))
    with pytest.raises(ImageError, match="at most 34"):
        load_image(pixels(), max_pixels=34)
    load_image(pixels(), max_pixels=35)
    with pytest.raises(ImageError):
        load_image(load_image(pixels()), max_pixels=34)
    with pytest.raises(ImageError):
        load_image(torch.zeros(3, 5, 7), max_pixels=34)


def test_pils_own_limit_neither_warns_nor_changes():
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        header = open_image(BytesIO(png_header(13_000, 15_000)), "header")  # 195 million: PIL alone would raise
    assert header.size == (13_000, 15_000)
    assert before == Image.MAX_IMAGE_PIXELS


def test_what_is_no_image_is_refused_and_said(tmp_path):
    text = tmp_path / "text.png"
    text.write_text("not an image at all")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(encoded(Image.fromarray(pixels(64, 64)), "JPEG")[:900])
    cases = [
        (text, "not an i"),
        (empty, "0 bytes"),
        (cut, "cut short"),
        (tmp_path, "folder"),
        (tmp_path / "none.png", "does not exist"),
        ("https://example.org/a.png", "Download"),
        ("data:image/png;base64,AAAA", "b64decode"),
        ("a\0b.png", "'a\\x00b.png'"),
        ("x" * 5000, "cannot be read"),
        (b"", "no bytes"),
        (b"GIF89a", "no whole image"),
        (3, "int"),
        (None, "NoneType"),
        ([[1, 2]], "list"),
    ]
    for source, says in cases:
        with pytest.raises(ImageError) as caught:
            load_image(source)
        assert says in str(caught.value), source


def test_damage_inside_a_file_is_said(tmp_path):
    data = bytearray(encoded(Image.fromarray(pixels(40, 40))))
    with pytest.raises(ImageError):
        load_image(bytes(data[: len(data) // 2]))


def test_a_pil_image_is_left_as_it_was():
    image = Image.fromarray(pixels()).convert("P")
    before = image.tobytes(), image.mode, dict(image.info)
    load_image(image)
    assert (image.tobytes(), image.mode, dict(image.info)) == before


def test_only_listed_formats_are_opened():
    assert "EPS" not in FORMATS
    with pytest.raises(ImageError):
        load_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")


SEEDS = [encoded(Image.fromarray(pixels(6, 6)), format) for format in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")]


@settings(max_examples=80, deadline=None, database=None)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4), st.integers(1, 2000))
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_fail_with_nothing_but_an_image_error(data, changes, length):
    broken = bytearray(data[:length])
    for at, value in changes:
        broken[at % len(broken)] = value
    with contextlib.suppress(ImageError):
        load_image(bytes(broken), max_pixels=1_000_000)
