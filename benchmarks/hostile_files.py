"""Small files that claim much, for `benchmarks/serve.py --hostile`: what each would cost a reader that believes it stands beside it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO

from PIL import Image

__all__ = ["FILES"]


def _encoded(image: Image.Image, format: str, **options: object) -> bytes:
    out = BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def scans(count: int, side: int = 5000) -> bytes:
    """A progressive JPEG of so many passes over its pixels, each of which says in a few bytes that nothing changes."""
    data = _encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    blocks, bits = ((side + 7) // 8) ** 2, ""
    while blocks >= 1 << 14:
        run = min(blocks, (1 << 15) - 1)
        bits, blocks = bits + "0" + format(run - (1 << 14), "014b"), blocks - run
    bits += "0" * 15 if blocks else ""
    bits += "1" * (-len(bits) % 8)
    table = b"\xff\xc4" + struct.pack(">H", 20) + b"\x10\x01" + bytes(15) + b"\xe0"
    head = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00\x01\x3f\x00"
    one = head + int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return data[: data.find(b"\xff\xc4", data.find(b"\xff\xda"))] + table + one * count + b"\xff\xd9"


def _tiff(tags: list[tuple[int, int, int, int]], extra: bytes) -> bytes:
    entries = b"".join(struct.pack("<HHLL", *tag) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<LH", 8, len(tags)) + entries + bytes(4) + extra


_ONE = [(256, 4, 1, 1), (257, 4, 1, 1), (258, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]


def _claims(tags: int) -> list[tuple[int, int, int, int]]:
    return [(40_000 + index, 7, 1 << 20, 16) for index in range(tags)]


def tags() -> bytes:
    """A TIFF of 1 × 1 with 1,000 tags, which all lie in one megabyte: 3.5 GB."""
    return _tiff([*_ONE, (259, 3, 1, 1), (273, 4, 1, 200), (278, 4, 1, 1), (279, 4, 1, 1), *_claims(1000)], bytes(1 << 20))


def exif(format: str) -> bytes:
    """The same tags as EXIF: 960 MB."""
    return _encoded(Image.new("RGB", (1, 1)), format, exif=b"Exif\0\0"[: 6 * (format == "WEBP")] + _tiff(_claims(900), bytes(1 << 20)))


def tile(height: int = 46_320, width: int = 46_336) -> bytes:
    """A TIFF of 1 × 1 with one tile of 2 GB."""
    packer, piece = zlib.compressobj(9), bytes(1 << 20)
    data = b"".join(packer.compress(piece) for _ in range(height * width >> 20)) + packer.flush()
    return _tiff([*_ONE, (259, 3, 1, 8), (322, 4, 1, width), (323, 4, 1, height), (324, 4, 1, 134), (325, 4, 1, len(data))], data)


def directories() -> bytes:
    """A TIFF of 1,000 directories, one over the other: 40 s."""
    out = bytearray(b"II*\0" + struct.pack("<L", 8) + bytes(72_000))
    for index in range(1000):
        at = 8 + 24 * index
        out[at : at + 2] = struct.pack("<H", 3000)
        out[at + 36_002 : at + 36_006] = struct.pack("<L", at + 24)
    return bytes(out)


def comments() -> bytes:
    """A GIF of 200,000 comments: 10 s."""
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + b"!\xfe\x01a\0" * 200_000 + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0;"


def segments() -> bytes:
    """A JPEG of 1.8 million segments of EXIF: 40 s."""
    data = _encoded(Image.new("L", (8, 8)), "JPEG")
    return data[:2] + (b"\xff\xe1" + struct.pack(">H", 9) + b"Exif\0\0M") * 1_800_000 + data[2:]


def pixels() -> bytes:
    """A QOI of 5000 × 5000, which nothing is wrong with: its decoder is Python's, and takes half a minute."""
    return b"qoif" + struct.pack(">LL", 5000, 5000) + b"\3\0" + b"\x40" * 17_000_000


FILES: Mapping[str, Callable[[], bytes]] = {
    "60,000 scans": lambda: scans(60_000),
    "2,000 scans": lambda: scans(2000),
    "TIFF tags": tags,
    "PNG EXIF": lambda: exif("PNG"),
    "WebP EXIF": lambda: exif("WEBP"),
    "TIFF tile": tile,
    "TIFF directories": directories,
    "GIF comments": comments,
    "PPM comments": lambda: b"P3\n1 1\n255\n" + b"#\n" * 1_000_000 + b"0 0 0\n",
    "EXIF segments": segments,
    "slow QOI": pixels,
}
