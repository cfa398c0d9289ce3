"""TIFF 6.0 and BigTIFF, and EXIF, which is a TIFF without pixels: directories, the bytes of their tags, strips and tiles."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nerveseg.image.container.claims import File

__all__ = ["accepts", "check", "check_metadata"]

_STARTS = (b"MM\0*", b"II*\0", b"MM*\0", b"II\0*", b"MM\0+", b"II+\0")
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_MOST_TAGS = 4096  # of one directory; programs write some dozens
_LOOKED_INTO = 1000  # directories whose tags are counted: no reader here goes further
_SHARED = 4  # times that the tags of all directories may take the file's bytes: pages may share a table
_SLACK = 1 << 16  # bytes, and numbers of a layout tag, strips, tiles, that are always accepted
_LARGEST_TILE = 64 << 20  # bytes of a tile or strip, whatever the image's size
_WIDTH, _HEIGHT, _BITS, _BANDS, _ROWS, _PLANAR = 256, 257, 258, 277, 278, 284
_STRIPS, _STRIP_BYTES, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 273, 279, 322, 323, 324, 325
_INSIDE = (0x8769, 0x8825, 0xA005)  # EXIF, GPS, interoperability: directories named by a tag
_PARTS = (_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES)
_LAYOUT = (_WIDTH, _HEIGHT, _BITS, 259, 262, 266, _BANDS, _ROWS, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT, 338, 339)


@dataclass(frozen=True)
class _Form:
    """How numbers are laid out: order and widths."""

    order: str
    big: bool

    @property
    def count(self) -> str:
        """Of the number of tags."""
        return self.order + ("Q" if self.big else "H")

    @property
    def entry(self) -> struct.Struct:
        """Of one tag: id, type, count, and value or offset."""
        return struct.Struct(self.order + ("HHQ8s" if self.big else "HHL4s"))

    @property
    def offset(self) -> str:
        """Of a place in the file."""
        return self.order + ("Q" if self.big else "L")


@dataclass(frozen=True)
class _Directory:
    at: int
    end: int
    tags: Mapping[int, tuple[int, int, bytes]]
    bytes: int
    next: int


def accepts(start: bytes) -> bool:
    """By its first bytes."""
    return start.startswith(_STARTS)


def check(held: File) -> None:
    """Directories that overlap, tags that claim more bytes than there are, strips and tiles that do not fit the stated size."""
    form = _form(held)
    first = True
    for directory in _walk(held, form, inside=False):
        if first:
            _check_layout(held, form, directory)
        first = False


def check_metadata(held: File) -> None:
    """EXIF: the same, without strips, and with the directories that its tags name."""
    if accepts(held.read(0, 4)):
        for _ in _walk(held, _form(held), inside=True):
            continue


def _form(held: File) -> _Form:
    start = held.read(0, 4)
    return _Form("<" if start.startswith(b"II") else ">", 43 in start[2:4])


def _walk(held: File, form: _Form, *, inside: bool) -> Iterator[_Directory]:
    """Directory after directory."""
    todo, seen, total = [_first(held, form)], dict[int, int](), 0
    while todo:
        at = todo.pop(0)
        if not 0 < at < held.size or at in seen:  # a circle is one file's end
            continue
        if len(seen) >= _LOOKED_INTO:
            return
        found = _read(held, form, at)
        if found is None:
            return
        if any(found.at < end and start < found.end for start, end in seen.items()):
            held.refuse("a TIFF whose directories lie over one another", "are directories that lie apart")
        seen[at] = found.end
        total += found.bytes
        if found.bytes > held.size + _SLACK or total > _SHARED * held.size + _SLACK:
            held.refuse(
                f"which holds {held.size:,} bytes of tags and pixels, while its tags claim {max(total, found.bytes):,}",
                "are tags that each have their own bytes",
                "Save it again, without its metadata.",
            )
        yield found
        todo += [struct.unpack(form.offset, value[: struct.calcsize(form.offset)])[0]
                 for tag, (_, _, value) in found.tags.items() if inside and tag in _INSIDE]  # fmt: skip
        todo.append(found.next)


def _first(held: File, form: _Form) -> int:
    at, width = (8, 8) if form.big else (4, 4)
    return held.number(at, width, little=form.order == "<")


def _read(held: File, form: _Form, at: int) -> _Directory | None:
    """One directory; None where it does not lie in the file as a whole."""
    head = struct.calcsize(form.count)
    start = held.read(at, head)
    if len(start) < head:
        return None
    (count,) = struct.unpack(form.count, start)
    if count > _MOST_TAGS:
        if at + head + count * form.entry.size > held.size:  # no directory at all, so its reader finds at once
            return None
        held.refuse(f"with a directory of {count:,} tags", f"are up to {_MOST_TAGS:,}", "Save it again, without its metadata.")
    content = held.read(at + head, count * form.entry.size)
    inline, tags, claimed = struct.calcsize(form.offset), dict[int, tuple[int, int, bytes]](), 0
    for tag, kind, number, value in form.entry.iter_unpack(content[: len(content) // form.entry.size * form.entry.size]):
        size = _SIZES.get(kind, 0) * number
        if size > inline:
            (place,) = struct.unpack(form.offset, value)
            claimed += max(0, min(size, held.size - place))
        tags[tag] = (kind, number, value)
    end = at + head + count * form.entry.size
    following = held.read(end, inline)
    return _Directory(at, end, tags, claimed, struct.unpack(form.offset, following)[0] if len(following) == inline else 0)


def _check_layout(held: File, form: _Form, directory: _Directory) -> None:
    tags = directory.tags
    for tag in _LAYOUT:
        if tag in tags and tags[tag][1] > _SLACK:
            held.refuse(f"a TIFF whose tag {tag} holds {tags[tag][1]:,} numbers", f"are up to {_SLACK:,}")
    width, height = _value(held, form, tags, _WIDTH, 0), _value(held, form, tags, _HEIGHT, 0)
    bands, bits = max(1, _value(held, form, tags, _BANDS, 1)), max(1, _value(held, form, tags, _BITS, 1))
    if not width or not height:
        return
    held.check_size(height, width, "a TIFF")
    pixels = width * height * bands * bits // 8
    held.check_bytes(pixels, f"a TIFF of {height}×{width} with {bands} bands of {bits} bits")
    most = max(_LARGEST_TILE, 4 * pixels)
    planes = bands if _value(held, form, tags, _PLANAR, 1) == 2 else 1
    if _TILE_WIDTH in tags or _TILES in tags:
        across, down = max(1, _value(held, form, tags, _TILE_WIDTH, 1)), max(1, _value(held, form, tags, _TILE_HEIGHT, 1))
        tile = across * down * (1 if planes > 1 else bands) * bits // 8
        if tile > most:
            held.refuse(
                f"a TIFF of {height}×{width} in tiles of {down}×{across}, each of {tile:,} bytes", f"are tiles of up to {most:,} bytes"
            )
        needed = math.ceil(width / across) * math.ceil(height / down) * planes
    else:
        rows = max(1, min(height, _value(held, form, tags, _ROWS, height)))
        needed = max(math.ceil(height / rows), height) * planes  # programs are known to state rows a strip wrongly
    counts = [tags[tag][1] for tag in _PARTS if tag in tags]
    if counts and max(counts) > needed + _SLACK // 16:
        held.refuse(f"a TIFF of {height}×{width} that states {max(counts):,} strips or tiles", f"are the {needed:,} that it needs")


def _value(held: File, form: _Form, tags: Mapping[int, tuple[int, int, bytes]], tag: int, default: int) -> int:
    """The first number of a tag."""
    kind, number, value = tags.get(tag, (0, 0, b""))
    code = {1: "B", 3: "H", 4: "L", 16: "Q"}.get(kind)
    if code is None or number < 1:
        return default
    width = struct.calcsize(form.order + code)
    if width * number > len(value):
        value = held.read(struct.unpack(form.offset, value)[0], width)
    return struct.unpack(form.order + code, value[:width])[0] if len(value) >= width else default
