"""The first directory of a TIFF file: what its samples are, and a file with the tags that pixels need and no other."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from nerveseg.image.orientation import ORIENTATION, TYPES, Said, said
from nerveseg.reprs import brief

__all__ = ["COUNTED", "STARTS", "Directory", "bare", "deep", "describe", "fits_pillow", "read"]

STARTS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
"""First bytes of a TIFF file → order of its bytes, and whether it is a BigTIFF."""

COUNTED = 1000
"""Images are counted up to this many: a small file may hold a million."""

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR = 256, 257, 258, 259, 262, 277, 284
_SUBFILE, _SUBFILES, _EXTRA, _FORMAT, _NODATA, _DNG = 254, 330, 338, 339, 42113, 50706
_PIXELS = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, 266, 273, _SAMPLES, 278, 279, _PLANAR, 292, 293, 317, 320, 322, 323, 324, 325}
    | {332, 334, _EXTRA, _FORMAT, 347, *range(512, 522), 529, 530, 532}
)
"""Tags that decoding takes: geometry, samples, places of strips and tiles, and tables of compression."""

_NAMES = {
    1: "none", 2: "CCITT", 3: "CCITT group 3", 4: "CCITT group 4", 5: "LZW", 6: "old JPEG", 7: "JPEG", 8: "deflate",
    32773: "PackBits", 32946: "deflate", 34661: "JBIG", 34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA", 50000: "Zstandard",
    50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
_PILLOW = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000})
_KINDS = {1: "uint", 2: "int", 3: "float", 5: "complex int", 6: "complex"}
_COLOURS = {0: "grey, 0 is white", 1: "grey", 2: "RGB", 3: "a palette", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_METADATA, _PLACES = 42112, (33550, 33922, 34264)
_CFA = {32803, 34892}  # photometric interpretations of a sensor's own values


@dataclass(frozen=True, eq=False)
class Directory:
    """Entries of the first directory.

    Attributes:
        data: the file.
        order: ``<`` or ``>``.
        big: BigTIFF, with places of 8 bytes.
        entries: tag → type, count, and the bytes of the value or of its place; the first of several.
        frames: images in the file, counted up to `COUNTED`.
    """

    data: bytes = field(repr=False)
    order: str
    big: bool
    entries: Mapping[int, tuple[int, int, bytes]]
    frames: int

    __repr__ = brief

    def raw(self, tag: int, most: int = 64) -> bytes:
        """The first values of an entry as bytes; none where it is not there or lies outside the file."""
        if tag not in self.entries:
            return b""
        kind, count, value = self.entries[tag]
        size = _SIZES.get(kind, 0)
        length = size * min(count, most)
        if size * count <= len(value):
            return value[:length]
        (place,) = struct.unpack(f"{self.order}{'Q' if self.big else 'I'}", value)
        return self.data[place : place + length] if place + size * count <= len(self.data) else b""

    def numbers(self, tag: int) -> tuple[int, ...]:
        """The whole numbers of an entry, 64 at most."""
        kind = self.entries.get(tag, (0, 0, b""))[0]
        held = self.raw(tag)
        return struct.unpack(f"{self.order}{len(held) // _SIZES[kind]}{TYPES[kind]}", held) if kind in TYPES and held else ()

    def number(self, tag: int, otherwise: int = 0) -> int:
        """The first whole number of an entry."""
        return next(iter(self.numbers(tag)), otherwise)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) as stored."""
        return self.number(_HEIGHT), self.number(_WIDTH)

    @property
    def said(self) -> Said:
        """Which way up it is."""
        return said(self.order, *self.entries[ORIENTATION]) if ORIENTATION in self.entries else Said()

    @property
    def bands(self) -> int:
        """Samples of a pixel."""
        return self.number(_SAMPLES, 3 if self.compression == 6 else 1)

    @property
    def bits(self) -> int:
        """Of each sample; 0 where they differ."""
        held = set(self.numbers(_BITS)) or {1}
        return held.pop() if len(held) == 1 else 0

    @property
    def kind(self) -> str:
        """What a sample is: ``uint``, ``int``, ``float``, …; ``mixed``."""
        held = set(self.numbers(_FORMAT)) or {1}
        return _KINDS.get(held.pop(), "unknown") if len(held) == 1 else "mixed"

    @property
    def photometric(self) -> int:
        """What samples stand for, as TIFF numbers it."""
        return self.number(_PHOTOMETRIC)

    @property
    def compression(self) -> int:
        """As TIFF numbers it."""
        return self.number(_COMPRESSION, 1)

    @property
    def planar(self) -> bool:
        """Whether bands are stored apart."""
        return self.number(_PLANAR, 1) == 2 and self.bands > 1

    @property
    def extra(self) -> tuple[int, ...]:
        """What bands beyond the colours are: 0 not said, 1 and 2 transparency."""
        return self.numbers(_EXTRA)

    @property
    def named(self) -> bool:
        """Whether GDAL's own tag says which band is which, which goes before TIFF's."""
        return b'role="colorinterp"' in self.raw(_METADATA, 1 << 20)

    @property
    def on_earth(self) -> bool:
        """Whether it says a place on the earth."""
        return any(tag in self.entries for tag in _PLACES)

    @property
    def nodata(self) -> float | None:
        """The value that stands for none, where GDAL's tag says one."""
        text = self.raw(_NODATA).rstrip(b"\0 ").decode("ascii", "replace").strip()
        try:
            return float(text) if text else None
        except ValueError:
            return None

    @property
    def camera_raw(self) -> bool:
        """A sensor's own values, with a small image before them: DNG, NEF, ARW, PEF and their like."""
        small = bool(self.number(_SUBFILE) & 1) and _SUBFILES in self.entries
        return small or _DNG in self.entries or self.photometric in _CFA


def read(data: bytes) -> Directory | None:
    """Read the first directory; None where the file ends before it."""
    order, big = STARTS[data[:4]]
    first = _place(data, order, 8 if big else 4, big=big)
    found = None if first is None else _entries(data, order, first, big=big)
    if found is None:
        return None
    held: dict[int, tuple[int, int, bytes]] = {}
    for tag, kind, count, value in found[0]:
        held.setdefault(tag, (kind, count, value))
    return Directory(data, order, big, held, _counted(data, order, found[1], big=big))


def fits_pillow(held: Directory) -> bool:
    """Whether Pillow decodes it, and as what it is."""
    if held.compression not in _PILLOW or held.kind not in ("uint", "int", "float") or held.named:
        return False
    kind, bits, bands, extra = held.kind, held.bits, held.bands, held.extra
    if bands == 1:
        if held.photometric == 3:
            return kind == "uint" and bits in (1, 2, 4, 8)
        return held.photometric in (0, 1, 6) and (kind, bits) in {
            *(("uint", bits) for bits in (1, 2, 4, 8, 12, 16)), ("int", 16), ("int", 32), ("float", 32),
            *([("uint", 32)] if held.order == "<" else []),
        }  # fmt: skip
    if kind != "uint":
        return False
    colours = {2: 3, 5: 4, 6: 3, 8: 3}.get(held.photometric, 1)
    if bands - colours > (1 if bits == 16 else 2) or any(extra[1:]) or (held.planar and (bits != 8 or bands != colours)):
        return False
    if colours == 1:
        return bits == 8 and bands == 2 and (held.photometric, extra) in {(1, (2,)), (3, (0,)), (3, (2,))}
    if held.photometric == 5 and any(extra):
        return False
    return bits == 8 or (bits == 16 and held.photometric in (2, 5) and extra in ((), (0,), (2,)) and bands - colours <= 1)


def deep(held: Directory) -> bool:
    """Whether it has colours of 16 bits, of which Pillow gives eight."""
    return held.bits == 16 and held.photometric == 2


def bare(held: Directory) -> bytes:
    """The file with a new directory of the tags that pixels need, at its end; the pixels stay where they are.

    The orientation is none of them, so that it is applied once; bands beyond the colours are called what the file calls them, and not
    transparency where it says nothing.
    """
    entries = {tag: entry for tag, entry in held.entries.items() if tag in _PIXELS and held.raw(tag, 1)}
    if held.bands == 1:
        entries.pop(_PLANAR, None)
    missing = held.bands - 3 - len(held.extra)
    if held.photometric == 2 and missing > 0 and not held.extra:
        entries[_EXTRA] = (3, missing, struct.pack(f"{held.order}{missing}H", *[0] * missing).ljust(8 if held.big else 4, b"\0"))
    number, count, width = ("Q", "Q", 8) if held.big else ("I", "H", 4)
    end = len(held.data) + len(held.data) % 2
    out = [held.data[: 8 if held.big else 4], struct.pack(held.order + number, end), held.data[16 if held.big else 8 :]]
    out += [b"\0" * (end - len(held.data)), struct.pack(held.order + count, len(entries))]
    for tag in sorted(entries):
        kind, values, value = entries[tag]
        out.append(struct.pack(f"{held.order}HH{number}", tag, kind, values) + value[:width].ljust(width, b"\0"))
    return b"".join([*out, struct.pack(held.order + number, 0)])


def describe(held: Directory) -> str:
    """What it is, in words, for messages."""
    bands = f"{held.bands} band{'s' * (held.bands != 1)} of {held.kind}{held.bits or ' of several sizes'}"
    stored = f"{', each stored apart' if held.planar else ''}"
    packed = "" if held.compression == 1 else f", compressed with {_NAMES.get(held.compression, f'method {held.compression}')}"
    return f"a TIFF of {bands} ({_COLOURS.get(held.photometric, f'colours {held.photometric}')}){stored}{packed}"


def _place(data: bytes, order: str, at: int, *, big: bool) -> int | None:
    kind = f"{order}{'Q' if big else 'I'}"
    return struct.unpack_from(kind, data, at)[0] if at + struct.calcsize(kind) <= len(data) else None


def _entries(data: bytes, order: str, first: int, *, big: bool) -> tuple[list[tuple[int, int, int, bytes]], int] | None:
    """The entries of a directory, and where the place of the next one stands."""
    head, one = (f"{order}Q", f"{order}HHQ8s") if big else (f"{order}H", f"{order}HHI4s")
    start = first + struct.calcsize(head)
    if start > len(data) or first == 0:
        return None
    (count,) = struct.unpack_from(head, data, first)
    size = struct.calcsize(one)
    count = min(count, (len(data) - start) // size, 65535)
    return [struct.unpack_from(one, data, start + size * index) for index in range(count)], start + size * count


def _counted(data: bytes, order: str, next_at: int, *, big: bool) -> int:
    """How many directories follow on one another, this one included."""
    head = f"{order}{'Q' if big else 'H'}"
    seen: set[int] = set()
    frames = 1
    while frames < COUNTED:
        place = _place(data, order, next_at, big=big)
        if not place or place in seen or place + struct.calcsize(head) > len(data):
            break
        seen.add(place)
        (count,) = struct.unpack_from(head, data, place)
        next_at = place + struct.calcsize(head) + count * (20 if big else 12)
        frames += 1
    return frames
