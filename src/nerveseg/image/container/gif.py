"""GIF89a: blocks, and the comments and frames among them."""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedIOBase

from nerveseg.image.container.claims import File

__all__ = ["MOST_FRAMES", "accepts", "check", "frames"]

MOST_FRAMES = 1000
"""Frames that are counted; a small file may hold a million, and no reader here goes further."""

_MOST_BLOCKS = 10_000  # outside of frames: one for the loop, comments
_MOST_COMMENTS = 1 << 20  # bytes
_PIECES = 10_000  # of data, beside one for each 32 bytes of the file; programs fill pieces of 255
_EXTENSION, _FRAME, _COMMENT, _CONTROL = 0x21, 0x2C, 0xFE, 0xF9


def accepts(start: bytes) -> bool:
    """By its first bytes."""
    return start.startswith((b"GIF87a", b"GIF89a"))


def check(held: File) -> None:
    """Count blocks, pieces and bytes of comments, as far as frames are counted."""
    for _ in _walk(held):
        continue


def frames(file: BufferedIOBase) -> int:
    """How many frames a checked file holds, at most `MOST_FRAMES`; its position is as before."""
    before = file.tell()
    count = max(_walk(File.of(file, "a GIF", 0)), default=1)
    file.seek(before)
    return count


def _walk(held: File) -> Iterator[int]:
    """The number of frames so far, after each block."""
    content = held.read(0, held.size)
    at = 13 + _palette(content, 10)
    blocks = count = comments = pieces = 0
    most = _PIECES + held.size // 32
    while at < len(content) and content[at] in (_EXTENSION, _FRAME) and count < MOST_FRAMES:
        kind, name = content[at], content[at + 1 : at + 2]
        if kind == _FRAME:
            count, begin = count + 1, at + 10 + _palette(content, at + 9) + 1
        else:
            blocks, begin = blocks + (name != bytes([_CONTROL])), at + 2
        at, passed = _skip(content, begin, most - pieces)
        pieces += passed
        comments += (at - begin) if kind == _EXTENSION and name == bytes([_COMMENT]) else 0
        if blocks > _MOST_BLOCKS or comments > _MOST_COMMENTS or pieces >= most:
            held.refuse(
                f"a GIF with {blocks:,} extension blocks, {comments:,} bytes of comments and {pieces:,} pieces of data, and more",
                f"are up to {_MOST_BLOCKS:,}, {_MOST_COMMENTS:,} and {most:,}",
            )
        yield max(1, count)


def _palette(content: bytes, at: int) -> int:
    """Bytes of the palette that the flags at ``at`` announce."""
    flags = content[at] if at < len(content) else 0
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skip(content: bytes, at: int, most: int) -> tuple[int, int]:
    """The place after a row of pieces, and how many they are."""
    count = 0
    while at < len(content) and content[at] and count < most:
        at += 1 + content[at]
        count += 1
    return at + 1, count
