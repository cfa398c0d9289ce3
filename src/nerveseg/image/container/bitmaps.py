"""PNM, BMP and QOI, whose readers go byte by byte: comments, and more coded bytes than pixels can take."""

from __future__ import annotations

from nerveseg.image.container.claims import File

__all__ = ["accepts", "check"]

_MOST_COMMENTS = 1000  # lines
_LONGEST_HEAD = 1 << 16  # bytes of comments before the pixels
_BLOCK = 1 << 20
_SLACK = 1 << 16
_PLAIN = (b"P1", b"P2", b"P3")
_SPACE = b" \t\n\r\x0b\x0c"


def accepts(start: bytes) -> bool:
    """By its first bytes."""
    return _pnm(start) or start.startswith(b"BM")


def check(held: File) -> None:
    """PNM: comments. BMP: bytes of run lengths against pixels."""
    if held.read(0, 2) == b"BM":
        _check_runs(held)
    else:
        _check_comments(held)


def _pnm(start: bytes) -> bool:
    return start[:1] == b"P" and start[1:2] in b"0123456fFy" and start[1:2] != b""


def _check_comments(held: File) -> None:
    head = held.read(2, _LONGEST_HEAD)
    at, numbers = 0, 0
    while numbers < 3 and at < len(head):  # width, height, largest value; of bitmaps the two, and a number of its pixels
        if head[at : at + 1] == b"#":
            at = min(len(head), *(end for end in (head.find(b"\n", at), head.find(b"\r", at)) if end >= 0), len(head))
        elif head[at : at + 1] in _SPACE:
            at += 1
        else:
            numbers += 1
            while at < len(head) and head[at : at + 1] not in _SPACE:
                at += 1
    if at >= _LONGEST_HEAD:
        held.refuse(f"a PNM with more than {_LONGEST_HEAD:,} bytes before its pixels", "is a shorter head", "Take its comments out.")
    plain = held.read(0, 2) in _PLAIN
    lines = sum(held.read(begin, _BLOCK).count(b"#") for begin in range(0, held.size, _BLOCK)) if plain else head[:at].count(b"#")
    if lines > _MOST_COMMENTS:
        held.refuse(f"a PNM with {lines:,} lines of comments", f"are up to {_MOST_COMMENTS:,}", "Take its comments out.")


def _check_runs(held: File) -> None:
    if held.number(14, 4, little=True) < 40 or held.number(30, 4, little=True) not in (1, 2):
        return
    pixels = held.number(18, 4, little=True) * abs(int.from_bytes(held.read(22, 4), "little", signed=True))
    coded = held.size - held.number(10, 4, little=True)
    if coded > 3 * pixels + _SLACK:
        held.refuse(f"a BMP of {pixels:,} pixels in {coded:,} bytes of run lengths", "are at most three bytes a pixel")
