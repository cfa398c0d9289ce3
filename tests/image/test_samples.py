"""Values of any depth and number of bands: read exactly, or named with the way out; ranges, bands and no data."""

from __future__ import annotations

import struct
import sys
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from nerveseg.errors import ImageError, MissingExtra, OptionError
from nerveseg.image import load_image

RNG = np.random.default_rng(0)


def tiff(values, **options):
    """A TIFF of bands (B, H, W), by rasterio."""
    rasterio = pytest.importorskip("rasterio")
    colours = options.pop("colorinterp", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shape = {"count": values.shape[0], "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
        with rasterio.MemoryFile() as memory:
            with memory.open(driver="GTiff", **shape, **options) as out:
                if colours:
                    out.colorinterp = [rasterio.enums.ColorInterp[name] for name in colours]
                out.write(values)
            return bytes(memory.getbuffer())


def scaled(values, low, high):
    """Bands (B, H, W) → pixels."""
    grey = np.rint(np.clip((np.moveaxis(values, 0, -1).astype(float) - low) * (255 / (high - low)), 0, 255))
    return np.broadcast_to(grey, (*grey.shape[:2], 3)).astype(np.uint8)


def bands(count, kind="uint8", low=0, high=100):
    return RNG.integers(low, high, (count, 6, 7)).astype(kind)


FORMS = {
    "plain": {}, "apart": {"interleave": "band"}, "deflate": {"compress": "deflate"}, "lerc": {"compress": "lerc"},
    "big end": {"ENDIANNESS": "BIG"}, "bigtiff": {"BIGTIFF": "YES"}, "rgb": {"photometric": "rgb"},
    "rgb apart": {"photometric": "rgb", "interleave": "band"},
}  # fmt: skip


KINDS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
COUNTED = [(count, kind) for count in (1, 2, 3, 5) for kind in KINDS]
CASES = [(*counted, form) for counted in COUNTED for form in FORMS if counted[0] >= 3 or not form.startswith("rgb")]


@pytest.mark.parametrize(("count", "kind", "form"), CASES)
def test_tiffs_of_every_kind_are_read_exactly(count, kind, form):
    values = bands(count, kind)
    image = load_image(tiff(values, **FORMS[form]))
    shown = values[:3] if count >= 3 else values[:1]
    right = scaled(shown, 0, 255) if kind == "uint8" else scaled(shown, float(shown.min()), float(shown.max()))
    np.testing.assert_array_equal(image.pixels, right)
    assert kind == "uint8" or any("was scaled from" in note for note in image.notes)


def test_webp_inside():
    values = bands(3)
    np.testing.assert_array_equal(load_image(tiff(values, compress="webp", WEBP_LOSSLESS=True)).pixels, np.moveaxis(values, 0, -1))


@pytest.mark.parametrize(
    ("count", "kind", "form", "says"),
    [
        (5, "uint16", {}, "5 bands of uint16"), (3, "float32", {}, "3 bands of float32"), (1, "float64", {}, "1 band of float64"),
        (1, "uint8", {"compress": "lerc"}, "compressed with LERC"), (3, "uint8", {"compress": "webp"}, "compressed with WebP"),
        (4, "uint16", {"interleave": "band"}, "each stored apart"),
    ],
)  # fmt: skip
def test_without_rasterio_they_are_named_with_the_way_out(count, kind, form, says, monkeypatch):
    data = tiff(bands(count, kind), **form)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(MissingExtra, match=r"pip install 'nerveseg\[geotiff\]'") as caught:
        load_image(data)
    assert says in str(caught.value)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("nodata", [-32768, -1, 1000])
def test_no_data_takes_no_part_in_the_range(nodata):
    values = bands(1, "int16", 100, 400)
    values[0, 0] = nodata
    image = load_image(tiff(values, nodata=nodata))
    there = values != nodata
    right = scaled(values, values[there].min(), values[there].max())
    right[0] = 0
    np.testing.assert_array_equal(image.pixels, right)
    assert f"7 values are no data ({nodata}) and were made black" in image.notes[0]
    coloured = np.repeat(values, 5, axis=0)
    picked = load_image(tiff(coloured, nodata=nodata), bands=(4, 3, 2), value_range=(0, 3000))
    right = scaled(values, 0, 3000)
    right[0] = 0
    np.testing.assert_array_equal(picked.pixels, right)


def test_nan_is_no_data_where_the_file_says_so():
    values = RNG.random((1, 6, 7), dtype=np.float32)
    values[0, 0] = np.nan
    assert not load_image(tiff(values, nodata=np.nan)).pixels[0].any()
    with pytest.raises(ImageError, match="NaN is no data"):
        load_image(tiff(values))


def test_bands_by_choice():
    values = bands(5, "uint8")
    data = tiff(values)
    image = load_image(data, bands=(4, 3, 2))
    np.testing.assert_array_equal(image.pixels, np.moveaxis(values[[3, 2, 1]], 0, -1))
    assert image.notes == ("Bands 4, 3, 2 of 5 were taken, as asked for.",)
    np.testing.assert_array_equal(load_image(data, bands=[5]).pixels, scaled(values[4:], 0, 255))
    with pytest.raises(ImageError, match="with 5 bands for the bands 6,1,1"):
        load_image(data, bands=(6, 1, 1))
    guessed = load_image(data)
    assert "Bands 1, 2, 3 of 5 were taken as red, green and blue" in guessed.notes[0]
    pil_image = Image.fromarray(np.ascontiguousarray(np.moveaxis(values[:3], 0, -1)))
    np.testing.assert_array_equal(load_image(pil_image, bands=(3, 2, 1)).pixels, np.asarray(pil_image)[:, :, ::-1])


@pytest.mark.parametrize(
    "given", [{"bands": (1, 2)}, {"bands": (0, 1, 2)}, {"bands": ()}, {"value_range": (3, 3)}, {"value_range": (0, float("nan"))}]
)
def test_what_is_no_choice_is_refused_before_anything_is_read(given):
    with pytest.raises(OptionError, match="Got the"):
        load_image("nowhere.tif", **given)


RGB = ("red", "green", "blue")


@pytest.mark.parametrize(
    ("options", "alpha"),
    [
        ({"photometric": "rgb"}, False), ({"colorinterp": (*RGB, "undefined")}, False), ({"colorinterp": (*RGB, "gray")}, False),
        ({"colorinterp": (*RGB, "alpha")}, True), ({"photometric": "rgb", "ALPHA": "YES"}, True),
    ],
)  # fmt: skip
def test_a_fourth_band_is_transparency_where_the_file_says_so(options, alpha):
    values = bands(4)
    image = load_image(tiff(values, **options))
    assert (np.moveaxis(values[:3], 0, -1) == image.pixels).all() != alpha
    assert any("Transparency" in note for note in image.notes) == alpha


def test_bands_in_another_order_are_found_by_their_names():
    values = bands(3)
    np.testing.assert_array_equal(load_image(tiff(values, colorinterp=RGB[::-1])).pixels, np.moveaxis(values[::-1], 0, -1))


def test_near_infrared_that_gdal_calls_transparency():
    rasterio = pytest.importorskip("rasterio")
    values = bands(4, high=200)
    place = {"crs": "EPSG:32630", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4e6)}
    image = load_image(tiff(values, **place))  # four bands of 8 bits, of which nobody said what they are
    np.testing.assert_array_equal(image.pixels, np.moveaxis(values[:3], 0, -1))
    assert "left out" in image.notes[0]
    values[3] = np.where(values[3] > 99, 255, 0)
    assert "Transparency was laid over white" in load_image(tiff(values, **place)).notes[0]


def png16(values):
    """(H, W, C) of 16 bits; one, three or four channels, or grey and alpha."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_a_colour_are_read_whole(channels):
    values = RNG.integers(0, 3000, (6, 7, channels), dtype=np.uint16)
    if channels % 2 == 0:
        values[:, :, -1] = 65535
    shown = np.moveaxis(values[:, :, : 3 if channels > 2 else 1], -1, 0)
    image = load_image(png16(values))
    np.testing.assert_array_equal(image.pixels, scaled(shown, shown.min(), shown.max()))
    assert f"scaled from {shown.min()}…{shown.max()} to 0…255" in image.notes[0]
    np.testing.assert_array_equal(load_image(png16(values), value_range=(500, 2000)).pixels, scaled(shown, 500, 2000))
    if channels == 3:
        np.testing.assert_array_equal(load_image(png16(values), bands=(3, 2, 1)).pixels, image_of(values[:, :, ::-1]))


def image_of(values):
    return load_image(png16(values)).pixels


def test_a_range_for_8_bits():
    grey = np.arange(250, dtype=np.uint8).reshape(10, 25)
    image = load_image(Image.fromarray(grey), value_range=(50, 100))
    np.testing.assert_array_equal(image.pixels, scaled(grey[None], 50, 100))
    assert "from 50…100, as asked for" in image.notes[-1]


def test_white_first_and_lab():
    file = BytesIO()
    Image.new("LAB", (3, 2), (140, 180, 70)).save(file, "TIFF")
    image = load_image(file.getvalue())
    red, green, blue = image.pixels[0, 0].tolist()
    assert red > green
    assert blue > green


def test_colours_that_are_cut_are_told():
    ppm = b"P6 # deep\n7 6 65535\n" + RNG.integers(0, 3000, (6, 7, 3)).astype(">u2").tobytes()
    assert "cut to their upper 8" in load_image(ppm).notes[0]
    assert load_image(b"P6 7 6 255\n" + bytes(6 * 7 * 3)).notes == ()
    rasterio = pytest.importorskip("rasterio")
    values = RNG.integers(0, 3000, (3, 16, 16)).astype("uint16")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind, told in (("uint16", True), ("uint8", False)):
            with rasterio.MemoryFile() as memory:
                with memory.open(driver="JP2OpenJPEG", count=3, height=16, width=16, dtype=kind, REVERSIBLE="YES", QUALITY=100) as out:
                    out.write(values.astype(kind))
                assert any("cut to their upper 8" in note for note in load_image(bytes(memory.getbuffer())).notes) == told
