"""Strip everything that pixels do not need (profiles, comments, thumbnails, other metadata) before any of it is parsed.

Decoders read metadata on their way to the pixels, and give up where these are damaged, large or many. Here a file is walked part by part
without looking into them; what decodes to pixels is kept as it is, and what the file says of itself beside that is taken down once.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from nerveseg.image.orientation import NOTHING, Said, of_exif

__all__ = ["READERS", "StrippedFile", "cut", "jpeg", "png", "webp"]

Span = tuple[int, int]


@dataclass(frozen=True)
class StrippedFile:
    """A file of the same pixels, and what the whole one said.

    Attributes:
        data: the file's bytes, without metadata.
        said: which way up it is.
        frames: images in it.
        deep: it stores colours of more than 8 bits, which Pillow cuts.
    """

    data: bytes
    said: Said = NOTHING
    frames: int = 1
    deep: bool = False


def _kept(data: bytes, spans: list[Span]) -> bytes:
    """The parts of a file, joined; the file itself where they are all of it."""
    if len(spans) == 1 and spans[0] == (0, len(data)):
        return data
    view = memoryview(data)
    return b"".join(view[start:end] for start, end in spans)


def _add(spans: list[Span], start: int, end: int) -> None:
    if spans and spans[-1][1] == start:
        spans[-1] = spans[-1][0], end
    else:
        spans.append((start, end))


# JPEG (ITU T.81, annex B)

_SOI, _SOS, _COM, _EOI = 0xD8, 0xDA, 0xFE, 0xD9
_APP0, _EXIF, _MPF, _ADOBE, _LAST_APP = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
_ALONE = {0x01, *range(0xD0, 0xD8), _SOI}  # markers without a length
_COLOUR = {_APP0: (b"JFIF\0", 14), _ADOBE: (b"Adobe", 12)}  # what says how colours are stored, and how long it is at least


def jpeg(data: bytes) -> StrippedFile:
    """Without APPn and comments before the first scan, but for those that say how colours are stored."""
    spans, said, frames, gain = [(0, 2)], None, 1, False
    at = 2
    for marker, start, end in _segments(data):
        at = end
        if marker not in range(_APP0, _LAST_APP + 1) and marker != _COM:
            _add(spans, start, end)
            continue
        body = data[start + 4 : min(end, start + 4 + 256)]
        opening, least = _COLOUR.get(marker, (b"", 0))
        if least and body.startswith(opening) and end - start - 4 >= least:
            _add(spans, start, end)
        elif marker == _EXIF and said is None and body.startswith(b"Exif\0"):
            said = of_exif(data[start + 10 : end])
        elif marker == _EXIF and body.startswith(b"http://ns.adobe.com/xap/1.0/"):
            gain |= data.find(b"hdrgm:Version", start, end) >= 0  # the second image is a map of brightness
        elif marker == _MPF and body.startswith(b"MPF\0"):
            frames = max(frames, _mpf(data[start + 8 : end]))
    _add(spans, at, len(data))
    return StrippedFile(_kept(data, spans), said or NOTHING, 1 if gain else frames)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment before the first scan, as long as one follows on another; fill bytes belong to the next."""
    at, size = 2, len(data)
    while at + 4 <= size and data[at] == 0xFF:
        while at < size and data[at] == 0xFF:
            at += 1
        if at + 3 > size:
            return
        marker = data[at]
        if marker in (0, _SOS, _EOI):
            return
        if marker in _ALONE:
            at += 1
            yield marker, at - 2, at
            continue
        end = at + 1 + ((data[at + 1] << 8) | data[at + 2])
        if end < at + 3 or end > size:
            return
        yield marker, at - 1, end
        at = end


def _mpf(data: bytes) -> int:
    """How many images CIPA's multi-image index counts (tag 0xB001); 1 where it cannot be read."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 22:
        return 1
    (first,) = struct.unpack_from(f"{order}I", data, 4)
    for at in range(first + 2, min(first + 2 + 12 * 8, len(data) - 11), 12):
        tag, _, count, value = struct.unpack_from(f"{order}HHII", data, at)
        if tag == 0xB001:
            return value if count == 1 and 1 < value <= 1000 else 1
    return 1


# PNG (W3C, third edition)

_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


def png(data: bytes) -> StrippedFile:
    """The chunks of the still image alone. One with transparency is kept, since it belongs to the pixels."""
    spans, said, frames = [(0, 8)], None, 1
    at, size = 8, len(data)
    while at + 8 <= size:
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind in _PIXELS or not kind[0] & 0x20:  # a lower first letter: ancillary
            _add(spans, at, min(end, size))
        elif kind == b"eXIf" and said is None:
            said = of_exif(data[at + 8 : end - 4])
        elif kind == b"acTL" and length >= 4:
            (frames,) = struct.unpack_from(">I", data, at + 8) if at + 12 <= size else (1,)
        at = end
        if kind == b"IEND":
            break
    deep = len(data) > 25 and data[24] == 16 and data[25] in (2, 4, 6)  # colours, grey and alpha, colours and alpha
    return StrippedFile(_kept(data, spans), said or NOTHING, max(1, frames), deep)


# WebP (RFC 9649): Pillow gives metadata back without parsing them, so the file stays as it is


def webp(data: bytes) -> StrippedFile:
    """The whole file, and the orientation in its EXIF chunk."""
    at, size, said, frames = 12, len(data), None, 0
    while at + 8 <= size:
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"EXIF" and said is None:
            said = of_exif(data[at + 8 : at + 8 + length])
        frames += kind == b"ANMF"
        at += 8 + length + (length & 1)
    return StrippedFile(data, said or NOTHING, max(1, frames))


def cut(data: bytes, name: str) -> bool:
    """Whether colours have more than 8 bits, in formats of which Pillow gives the upper eight."""
    if name == "PPM":
        fields = re.sub(rb"#[^\n]*", b"", data[:1024]).split(maxsplit=4)
        return fields[0] in (b"P3", b"P6") and len(fields) > 3 and fields[3].isdigit() and int(fields[3]) > 255
    at = data.find(b"\xff\x4f\xff\x51") if name == "JPEG2000" else -1  # the start of a codestream, and its SIZ (ITU T.800, A.5.1)
    if at < 0 or len(data) < at + 43:
        return False
    channels, depth = struct.unpack_from(">HB", data, at + 40)
    return channels > 1 and (depth & 0x7F) > 7


READERS: Mapping[str, Callable[[bytes], StrippedFile]] = {"JPEG": jpeg, "PNG": png, "WEBP": webp}
"""By the name that Pillow has for the format."""
