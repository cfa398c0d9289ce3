"""Pixels are read whatever the metadata say, and turned by the one code alone."""

from __future__ import annotations

import itertools
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from nerveseg.errors import ImageError
from nerveseg.image import load_image
from nerveseg.image.decode import head
from nerveseg.image.orientation import of_exif, source_of, turned, turned_back

SIX = (0x0112, 3, 1, b"\0\6\0\0")
BLOCKS = np.kron(np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))


def saved(format, pixels=BLOCKS, **options):
    file = BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


JPEG = saved("JPEG", quality=95)
PLAIN = load_image(JPEG).pixels


def exif(*entries, order=">", more=b""):
    """A TIFF header and one directory."""
    head = {">": b"MM\0*\0\0\0\x08", "<": b"II*\0\x08\0\0\0"}[order]
    body = b"".join(struct.pack(f"{order}HHI4s", *entry) for entry in entries)
    return head + struct.pack(f"{order}H", len(entries)) + body + bytes(4) + more


def with_segment(marker, payload):
    return JPEG[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload + JPEG[2:]


def with_exif(*entries, **options):
    return with_segment(0xE1, b"Exif\0\0" + exif(*entries, **options))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(kind, data, *, before):
    """A PNG with one more chunk, before or after its pixels."""
    png = saved("PNG")
    at = png.index(b"IDAT") - 4 if before else png.index(b"IEND") - 4
    return png[:at] + chunk(kind, data) + png[at:]


# Every sort of entry beside the orientation: all 6,048 are tried by `-k every`; the gate takes each eleventh.
TAGS = (0x0100, 0x010E, 0x010F, 0x011A, 0x011B, 0x0128, 0x0132, 0x0213, 0x8769, 0x8825, 0xA005, 0xC4A5)
TYPES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 18, 129, 65535)
COUNTS = (0, 1, 2, 100, 65535, 2**31, 2**32 - 1)
VALUES = (bytes(4), b"\0\0\0\x08", b"\xff\xff\xff\xff", b"abcd")
ODD = tuple(itertools.product(TAGS, TYPES, COUNTS, VALUES))


def test_the_code_is_applied_beside_every_odd_entry():
    assert len(ODD) == 6048
    right = turned(PLAIN, 6)
    for odd in ODD[::11]:
        entries = (odd, SIX) if odd[0] < SIX[0] else (SIX, odd)
        image = load_image(with_exif(*entries))
        assert image.orientation == 6, odd
        assert (image.pixels == right).all(), odd


@pytest.mark.slow
def test_of_every_odd_entry():
    for odd in ODD:
        assert of_exif(exif(*((odd, SIX) if odd[0] < SIX[0] else (SIX, odd)))).code == 6


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("kind", "count", "value", "code"),
    [
        ("H", 1, 6, 6), ("B", 1, 6, 6), ("I", 1, 6, 6), ("b", 1, 6, 6), ("h", 1, 6, 6), ("i", 1, 6, 6),
        ("H", 1, 1, 1), ("H", 1, 0, 1), ("H", 1, 9, 1), ("h", 1, -6, 1), ("H", 2, 6, 1), ("H", 0, 6, 1), ("s", 2, b"6", 1),
        ("f", 1, 6.0, 1),
    ],
)  # fmt: skip
def test_a_code_is_one_whole_number(order, kind, count, value, code):
    number = {"B": 1, "s": 2, "H": 3, "I": 4, "b": 6, "h": 8, "i": 9, "f": 11}[kind]
    data = with_exif((0x0112, number, count, struct.pack(order + ("4s" if kind == "s" else kind), value).ljust(4, b"\0")), order=order)
    image = load_image(data)
    assert image.orientation == code
    np.testing.assert_array_equal(image.pixels, turned(PLAIN, code))
    applied = value in range(1, 9) and count == 1 and kind not in "sf"
    assert image.notes == ((f"EXIF orientation {code} was applied.",) if code > 1 else () if applied else image.notes[:1])
    assert head(data, "it").orientation == code


def test_a_fraction_a_thumbnails_code_and_xmp_are_no_code():
    fraction = with_exif((0x0112, 5, 1, struct.pack(">I", 26)), more=struct.pack(">II", 6, 1))
    chained = exif((0x010F, 2, 4, b"abc\0"))[:-4] + struct.pack(">I", 26) + exif(SIX)[8:]
    thumbnail = with_segment(0xE1, b"Exif\0\0" + chained)
    xmp = with_segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>')
    for data in (fraction, thumbnail, xmp):
        image = load_image(data)
        assert image.orientation == 1
        np.testing.assert_array_equal(image.pixels, PLAIN)


@pytest.mark.parametrize(
    ("marker", "payload"),
    [
        (0xE0, b"JFIF\0"), (0xE0, b"JFXX\0\x10"), (0xE1, b"Exif\0\0"), (0xE1, b"Exif\0\0MM\0*"), (0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:broken"), (0xE2, b"ICC_PROFILE\0"), (0xE2, b"ICC_PROFILE\0\x09\x01broken"),
        (0xE2, b"MPF\0MM\0*"), (0xE2, b"MPF\0" + exif((0xB001, 4, 1, b"\0\0\0\2"), (0xB002, 7, 32, b"\xff\xff\xff\xff"))),
        (0xED, b"Photoshop 3.0\x008BIM\x04"), (0xEE, b"Adobe"), (0xFE, b"\xff\xd9"),
    ],
)  # fmt: skip
def test_broken_segments_do_not_matter(marker, payload):
    np.testing.assert_array_equal(load_image(with_segment(marker, payload)).pixels, PLAIN)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (b"zTXt", b"w\0\0" + zlib.compress(b"x" * (3 << 20))), (b"zTXt", b"w\0\0no"),
        (b"iTXt", b"w\0\1\0\0\0" + zlib.compress(b"x" * (3 << 20))),
        (b"iCCP", b"p\0\0" + zlib.compress(bytes(5 << 20))), (b"iCCP", b"broken"), (b"pHYs", b"1"), (b"tIME", b""), (b"gAMA", b"1"),
        (b"eXIf", b"broken"), (b"eXIf", exif((0x011A, 2, 9, b"abcd"))), (b"acTL", b"1"), (b"prVt", bytes(70000)),
    ],
)  # fmt: skip
def test_chunks_beside_the_pixels_do_not_matter(kind, data, before):
    np.testing.assert_array_equal(load_image(with_chunk(kind, data, before=before)).pixels, BLOCKS)


@pytest.mark.parametrize("before", [True, False])
def test_the_code_of_a_png_before_and_after_its_pixels(before):
    image = load_image(with_chunk(b"eXIf", exif((0x011A, 2, 1, b"abcd"), SIX)[:-4], before=before))
    assert image.orientation == 1 or (image.pixels == turned(BLOCKS, 6)).all()
    image = load_image(with_chunk(b"eXIf", exif(SIX), before=before))
    assert image.orientation == 6
    np.testing.assert_array_equal(image.pixels, turned(BLOCKS, 6))


def test_text_by_pillow():
    info = PngImagePlugin.PngInfo()
    info.add_text("w", "x" * (3 << 20), zip=True)
    np.testing.assert_array_equal(load_image(saved("PNG", pnginfo=info, icc_profile=bytes(5 << 20))).pixels, BLOCKS)


@pytest.mark.parametrize("code", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_one_rule_for_all_formats(format, code):
    tags = Image.Exif()
    tags[0x0112] = code
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(format, {})
    stored = PLAIN if format == "JPEG" else BLOCKS
    data = saved(format, exif=tags, **options)
    image = load_image(data)
    assert image.orientation == code
    np.testing.assert_array_equal(image.pixels, turned(stored, code))
    told = head(data, "it")
    assert (told.size, told.upright, told.orientation) == (stored.shape[:2], image.size, code)
    with Image.open(BytesIO(data)) as opened:  # by somebody else
        given = load_image(opened)
    assert given.orientation == code
    np.testing.assert_array_equal(given.pixels, image.pixels)


@pytest.mark.parametrize("code", range(1, 9))
def test_turning_back_and_where_a_point_was(code):
    stored = np.arange(35).reshape(5, 7)
    seen = turned(stored, code)
    np.testing.assert_array_equal(turned_back(seen, code), stored)
    a, b, c, d, e, f = source_of(seen.shape, code)
    for y, x in np.ndindex(*seen.shape):
        assert stored[int(d * (x + 0.5) + e * (y + 0.5) + f), int(a * (x + 0.5) + b * (y + 0.5) + c)] == seen[y, x]


def test_a_tiff_is_read_by_the_tags_of_its_pixels_alone():
    data = bytearray(saved("TIFF"))
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    entries = [bytes(data[at + 2 + 12 * index : at + 14 + 12 * index]) for index in range(count)]
    for tag, kind, number in ((270, 2, 2**32 - 1), (282, 2, 3), (305, 65535, 9), (34665, 4, 7), (34675, 7, 2**31), (700, 1, 10**9)):
        entries.append(struct.pack("<HHII", tag, kind, number, 2**32 - 9))
    body = struct.pack("<H", len(entries)) + b"".join(sorted(entries, key=lambda entry: entry[:2][::-1])) + bytes(4)
    odd = bytes(data[:4]) + struct.pack("<I", len(data)) + bytes(data[8:]) + body
    np.testing.assert_array_equal(load_image(odd).pixels, BLOCKS)


@pytest.mark.parametrize(
    ("data", "name", "way"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC", r"nerveseg\[heic\]"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC", "JPEG"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "camera raw", "raw converter"),
        (b"\0\0\0\x18ftypisom\0\0\0\1", "a video", "ffmpeg"),
        (b"\xff\x0a\1\2\3", "JPEG XL", "PNG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", "PNG"),
        (b"8BPS\0\1", "PSD", "Export"),
        (b"%PDF-1.7", "PDF", "pdftoppm"),
        (b"%!PS-Adobe", "PostScript", "Export"),
        (b'<?xml version="1.0"?><svg/>', "SVG", "rsvg"),
        (b"\n<svg xmlns='", "SVG", "rsvg"),
        (b"<!DOCTYPE html>", "web page", "Download"),
        (b"\x1aE\xdf\xa3", "video", "ffmpeg"),
        (b"RIFF\1\0\0\0AVI LIST", "AVI", "ffmpeg"),
        (b"version https://git-lfs.github.com", "Git LFS", "git lfs pull"),
        (b"\x93NUMPY\1\0", "NumPy", "numpy.load"),
        (b"II*\0\x10\0\0\0CR\2\0", "camera raw", "raw converter"),
        (b"FUJIFILMCCD-RAW 0201", "camera raw", "raw converter"),
        (bytes(128) + b"DICM", "DICOM", "array"),
        (b"PK\3\4zip", "ZIP", "Unpack"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "macOS", "without"),
    ],
)
def test_what_is_not_read_is_called_by_its_name(data, name, way, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=way) as caught:
        load_image(data)
    assert name in str(caught.value)
    assert "damaged" not in str(caught.value)


def test_heic_by_the_extra():
    library = pytest.importorskip("pillow_heif")
    for code in (1, 6):
        tags, file = Image.Exif(), BytesIO()
        tags[0x0112] = code
        library.from_pillow(Image.fromarray(BLOCKS)).save(file, quality=95, exif=tags.tobytes())
        image = load_image(file.getvalue())
        right = turned(BLOCKS, code)
        assert image.size == right.shape[:2]
        assert np.abs(image.pixels.astype(int) - right).mean() < 12
    assert "HEIF" not in Image.OPEN  # nothing is registered
    with pytest.raises(ImageError, match="HEIC"):
        load_image(file.getvalue()[:200])
