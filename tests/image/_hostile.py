"""Small files that claim much: each the smallest of its kind that is refused, and an honest neighbour of each that is read."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image


def encoded(image, format, **options):
    out = BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def grey(height=1, width=1):
    return Image.new("L", (width, height), 128)


def jpeg_scans(scans, side=64):
    """A progressive JPEG whose last scans each say that nothing changes: one code stands for a run of 2^14 blocks or more."""
    data = encoded(grey(side, side), "JPEG", progressive=True)
    first = data.find(b"\xff\xda")
    table = b"\xff\xc4" + struct.pack(">H", 20) + b"\x10\x01" + bytes(15) + b"\xe0"
    pass_ = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00\x01\x3f\x00"
    end = data.find(b"\xff\xc4", first)
    return data[:end] + table + (pass_ + b"\x00\x3f") * scans + b"\xff\xd9"


def jpeg_segments(count, content=b"Exif\0\0M", marker=0xE1):
    data = encoded(grey(8, 8), "JPEG")
    return data[:2] + (struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content) * count + data[2:]


def long(value):
    return struct.pack("<L", value)


def tiff(tags, extra=b"", following=0):
    """A little-endian TIFF of one directory; ``extra`` begins at 14 + 12 · len(tags)."""
    entries = b"".join(struct.pack("<HHL4s", *tag) for tag in sorted(tags))
    return b"II*\0" + long(8) + struct.pack("<H", len(tags)) + entries + long(following) + extra


def layout(height=1, width=1, compression=1, bands=1, bits=8):
    return [
        *((256, 4, 1, long(width)), (257, 4, 1, long(height)), (258, 3, 1, long(bits))),
        *((259, 3, 1, long(compression)), (262, 3, 1, long(1)), (277, 3, 1, long(bands))),
    ]


def claiming(tags, each, extra=()):
    """A TIFF whose tags all lie in the same bytes."""
    return tiff([*extra, *((40_000 + index, 7, each, long(16)) for index in range(tags))], bytes(each))


def tiff_tags(tags=64, each=1 << 16):
    return claiming(tags, each, [*layout(), (273, 4, 1, long(200)), (278, 4, 1, long(1)), (279, 4, 1, long(1))])


def tiff_tile(side):
    data = zlib.compress(bytes(1 << 16))
    tags = [*layout(compression=8), (322, 4, 1, long(side)), (323, 4, 1, long(side)), (325, 4, 1, long(len(data)))]
    return tiff([*tags, (324, 4, 1, long(14 + 12 * 10))], data)


def tiff_overlapping(count=40):
    """Directories of 64 tags, each beginning two tags after the one before."""
    out = bytearray(b"II*\0" + long(8) + bytes(24 * count + 12 * 64 + 64))
    for index in range(count):
        at = 8 + 24 * index
        out[at : at + 2] = struct.pack("<H", 64)
    for index in range(count):
        end = 8 + 24 * index + 2 + 12 * 64
        out[end : end + 4] = long(8 + 24 * (index + 1))
    return bytes(out)


def tiff_strips(count):
    return tiff([*layout(), (273, 4, count, long(200)), (278, 4, 1, long(1)), (279, 4, 1, long(1))], bytes(4 * count + 400))


def gif_blocks(count, content=b"\x01a"):
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
    return head + (b"!\xfe" + content + b"\0") * count + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0;"


def png_chunks(count, kind=b"teXt"):
    data = encoded(grey(), "PNG")
    chunk = bytes(4) + kind + struct.pack(">L", zlib.crc32(kind))
    return data[:33] + chunk * count + data[33:]


def raw_exif(blob):
    """EXIF as ImageMagick puts it into a PNG: hexadecimal text, compressed."""
    text = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n%8d\n" % len(blob) + blob.hex().encode())
    chunk = struct.pack(">L", len(text)) + b"zTXt" + text + struct.pack(">L", zlib.crc32(b"zTXt" + text))
    data = encoded(grey(), "PNG")
    return data[:33] + chunk + data[33:]


def webp_canvas(height, width):
    """A WebP whose canvas is stated larger than its image."""
    inner = encoded(Image.new("RGB", (2, 2)), "WEBP", lossless=True)[12:]
    canvas = b"VP8X" + long(10) + long(2) + struct.pack("<L", width - 1)[:3] + struct.pack("<L", height - 1)[:3]
    body = b"WEBP" + canvas + b"ANIM" + long(6) + bytes(6) + b"ANMF" + long(16 + len(inner)) + bytes(6) + b"\1\0\0\1\0\0" + bytes(4) + inner
    return b"RIFF" + long(len(body)) + body


def j2k(height=64, width=64, tile=None, levels=0, block=4, precinct=None, layers=1, bands=1):
    """The head of a JPEG 2000 stream, and one tile without data. Code-blocks have sides of 2^(block + 2)."""
    numbers = (width, height, 0, 0, tile or width, tile or height, 0, 0)
    size = struct.pack(">HHH8LH", 0xFF51, 38 + 3 * bands, 0, *numbers, bands) + b"\x07\x01\x01" * bands
    own = bytes([precinct * 17]) * (levels + 1) if precinct is not None else b""
    style = struct.pack(">HHBBHBBBBBB", 0xFF52, 12 + len(own), bool(own), 0, layers, 0, levels, block, block, 0, 1) + own
    quant = b"\xff\x5c" + struct.pack(">HB", 4 + 3 * levels, 0) + bytes(1 + 3 * levels)
    return b"\xff\x4f" + size + style + quant + struct.pack(">HHHLBB", 0xFF90, 10, 0, 14, 0, 1) + b"\xff\x93\xff\xd9"


def bmp_runs(coded):
    """A BMP of 1 × 1 whose run lengths go on and on."""
    head = struct.pack("<LllHHLLllLL", 40, 1, 1, 1, 8, 1, coded, 0, 0, 2, 0) + bytes(8)
    return b"BM" + struct.pack("<LLL", 62 + coded, 0, 62) + head + b"\0\0" * (coded // 2)


def noise(height, width):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))
