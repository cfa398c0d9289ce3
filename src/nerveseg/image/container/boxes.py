"""JPEG 2000 (ITU-T T.800, annexes A and I): tiles, precincts, code-blocks and packets, for each of which its decoder reserves memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from nerveseg.image.container.claims import File

__all__ = ["accepts", "check"]

_STREAM, _BOXED = b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_MOST_BOXES = 10_000
_MOST_PARTS = 100_000  # parts of tiles
_MOST_PACKETS = 10_000_000
_FEW = 100_000  # precincts or code-blocks, however small the image
_SIZ, _COD, _COC, _SOT, _SOD, _EOC = 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9


@dataclass(frozen=True)
class _Frame:
    """What SIZ says: sizes are (height, width)."""

    size: tuple[int, int]
    tile: tuple[int, int]
    tiles: int
    bands: int


def accepts(start: bytes) -> bool:
    """By its first bytes."""
    return start.startswith((_STREAM, _BOXED))


def check(held: File) -> None:
    """Count boxes, and what the coded stream asks for."""
    at = 0
    if held.read(0, 4) != _STREAM:
        at = -1
        for count, (name, begin, end) in enumerate(_boxes(held, 0, held.size)):
            inside = sum(1 for _ in _boxes(held, begin, end)) if name == b"jp2h" else 0
            if count + inside > _MOST_BOXES:
                held.refuse(f"a JPEG 2000 of more than {_MOST_BOXES:,} boxes", f"are up to {_MOST_BOXES:,}")
            if name == b"jp2c":
                at = begin
                break
    if at >= 0 and held.read(at, 4) == _STREAM:
        _check_stream(held, at)


def _boxes(held: File, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and end of each box."""
    for _ in range(_MOST_BOXES + 2):
        head = held.read(at, 8)
        if at >= end or len(head) < 8:
            return
        size, begin = int.from_bytes(head[:4], "big"), at + 8
        if size == 1:
            size, begin = held.number(at + 8, 8), at + 16
        stop = end if size == 0 else at + size
        if stop < begin:
            return
        yield head[4:], begin, min(stop, end)
        at = stop


def _check_stream(held: File, start: int) -> None:
    frame = _frame(held, start + 4)
    if frame is None:
        return
    height, width = frame.size
    held.check_size(height, width, "a JPEG 2000")
    held.check_bytes(4 * height * width * frame.bands, f"a JPEG 2000 of {height}×{width} with {frame.bands} bands")
    if frame.tiles * frame.bands > 65_536 + height * width // 1024:
        held.refuse(f"a JPEG 2000 of {height}×{width} in {frame.tiles:,} tiles", "are tiles of 64×64 and more")
    at, parts = _styles(held, frame, start + 2, frame.tiles), 0
    while held.number(at, 2) == _SOT:
        parts += 1
        if parts > _MOST_PARTS:
            held.refuse(f"a JPEG 2000 of more than {_MOST_PARTS:,} parts of tiles", f"are up to {_MOST_PARTS:,}")
        length = held.number(at + 6, 4)
        _styles(held, frame, at + 12, 1)
        if length < 12:
            return
        at += length


def _frame(held: File, at: int) -> _Frame | None:
    numbers = [held.number(at + 4 + 4 * index, 4) for index in range(8)]
    right, bottom, left, top, across, down, tile_left, tile_top = numbers
    bands = held.number(at + 36, 2)
    if not (across and down and right > left >= tile_left and bottom > top >= tile_top and bands):
        return None  # its reader refuses it at once
    tiles = math.ceil((right - tile_left) / across) * math.ceil((bottom - tile_top) / down)
    size = bottom - top, right - left
    return _Frame(size, (min(down, size[0]), min(across, size[1])), tiles, bands)


def _styles(held: File, frame: _Frame, at: int, tiles: int) -> int:
    """Look at each coding style of a head; gives the place of its end."""
    count = 0
    while (marker := held.number(at, 2)) >= 0xFF00 and marker not in (_SOT, _SOD, _EOC):
        count += 1
        if count > _MOST_BOXES + 3 * frame.bands:
            held.refuse(f"a JPEG 2000 with {count:,} marker segments and more", f"are up to {count - 1:,}")
        length = held.number(at + 2, 2)
        if marker == _COD:
            _check_style(held, frame, at + 9, tiles * frame.bands, held.number(at + 6, 2), own=bool(held.number(at + 4, 1) & 1))
        elif marker == _COC:
            wide = 2 if frame.bands > 256 else 1
            _check_style(held, frame, at + 5 + wide, tiles, 1, own=bool(held.number(at + 4 + wide, 1) & 1))
        at += 2 + max(2, length)
    return at


def _check_style(held: File, frame: _Frame, at: int, planes: int, layers: int, *, own: bool) -> None:
    """Precincts, code-blocks and packets of so many planes of one tile each."""
    levels, block_width, block_height = min(32, held.number(at, 1)), held.number(at + 1, 1) & 15, held.number(at + 2, 1) & 15
    exponents = held.read(at + 5, levels + 1) if own else b""
    precincts = blocks = 0
    for level in range(levels + 1):
        height, width = (math.ceil(side / (1 << (levels - level))) for side in frame.tile)
        each = exponents[level] if level < len(exponents) else 0xFF
        across, down = math.ceil(width / (1 << (each & 15))), math.ceil(height / (1 << (each >> 4)))
        precincts += across * down
        inner = 1 if level else 0
        blocks += math.ceil(width / (1 << min(block_width + 2, max(0, (each & 15) - inner)))) * math.ceil(
            height / (1 << min(block_height + 2, max(0, (each >> 4) - inner)))
        )
    most = _FEW + frame.size[0] * frame.size[1] * frame.bands // 256
    if planes * max(precincts, blocks) > most or planes * precincts * layers > _MOST_PACKETS + most:
        held.refuse(
            f"a JPEG 2000 of {frame.size[0]}×{frame.size[1]} with {planes * precincts:,} precincts, {planes * blocks:,} code-blocks "
            f"and {layers:,} layers",
            f"are up to {most:,} precincts or code-blocks",
            "Save it again with precincts and code-blocks of usual size.",
        )
