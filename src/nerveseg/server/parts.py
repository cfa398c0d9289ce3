"""Parse ``multipart/form-data`` (RFC 7578) strictly: malformed parts are refused, not guessed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from nerveseg.server.problems import Problem

__all__ = ["Part", "read"]

_LONGEST = 1024 * 1024  # bytes of a part that is no file: read at once, so few
_HEADER = 4096
_SHOWN = 80
_PARAMETER = re.compile(r'\s*;\s*([^\s;="]+)\s*=\s*("(?:\\["\\]|[^"])*"|[^\s;"]+)')
_TEXT = re.compile(r'\s*(text/plain|application/json)\s*(;\s*charset\s*=\s*"?(utf-8|us-ascii)"?\s*)?', re.IGNORECASE)
_ENCODINGS = ("7bit", "8bit", "binary")
_PLAIN_HEADERS = frozenset({"content-disposition", "content-type", "content-length", "content-transfer-encoding"})
_CURL = (
    "curl's -F cuts a value at ';' and takes what follows for parameters: send text with --form-string, as in "
    "--form-string 'labels=cat; kitten, dog'."
)


@dataclass(eq=False)
class Part:
    """One part.

    Attributes:
        name: of the field.
        filename: of a file; None for a field.
        data: its bytes.
    """

    name: str
    filename: str | None
    data: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        """What a field holds.

        Raises:
            Problem: it is not UTF-8.
        """
        try:
            return self.data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise wrong(
                f"Got the byte 0x{self.data[error.start]:02x} at {error.start:,} of the field {self.name[:_SHOWN]!r}, "
                "which is not UTF-8 there. Accepted is text in UTF-8. Send it so."
            ) from error


async def read(stream: AsyncIterator[bytes], boundary: bytes, most: int) -> list[Part]:
    """Read all parts.

    Args:
        stream: the body.
        boundary: from the content type.
        most: parts that there may be.

    Raises:
        Problem: 422, with what is wrong and what to do.
    """
    reading = _Reading(most)
    try:
        parser = MultipartParser(boundary, reading.callbacks(), max_header_size=_HEADER)  # pyright: ignore[reportArgumentType]
        async for block in stream:
            parser.write(block)
        parser.finalize()
    except FormParserError as error:
        raise wrong("Got a form that cannot be read. Accepted is multipart/form-data as RFC 7578 has it. Mend it.") from error
    if not reading.ended:
        raise wrong("Got a form that ends before its last boundary. Accepted is a whole one. Send it again.")
    return reading.parts


def wrong(detail: str) -> Problem:
    """A form that is refused."""
    return Problem(422, "form", detail)


class _Reading:
    """What the parser has told so far."""

    def __init__(self, most: int) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._most = most
        self._headers: dict[str, str] = {}
        self._name, self._value = bytearray(), bytearray()

    def callbacks(self) -> dict[str, object]:
        """By the parser's names."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": lambda: self.parts.append(_part(self._headers)),
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) >= self._most:
            raise wrong(f"Got more than {self._most} parts. Accepted is one image, and a field of each name. Take some out.")
        self._headers = {}

    def _header(self) -> None:
        name, value = (bytes(part).decode("utf-8", "replace") for part in (self._name, self._value))
        self._name.clear()
        self._value.clear()
        if name.lower() in self._headers:
            raise wrong(f"Got the header {name[:_SHOWN]!r} twice in one part. Accepted is each once. Take one out.")
        self._headers[name.lower()] = value.strip()

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[-1]
        part.data.extend(data[start:end])
        if part.filename is None and len(part.data) > _LONGEST:
            raise wrong(
                f"Got more than {_LONGEST:,} bytes in the field {part.name[:_SHOWN]!r}. Accepted are as many. "
                "Shorten it; an image goes as a file."
            )

    def _end(self) -> None:
        self.ended = True


def _part(headers: dict[str, str]) -> Part:
    """The part that headers announce."""
    given = headers.get("content-disposition", "")
    kind, semicolon, rest = given.partition(";")
    if kind.strip().lower() != "form-data":
        raise wrong(f"Got a part with the disposition {given[:_SHOWN]!r}. Accepted is form-data, with a name. Mend the part's head.")
    parameters = _parameters(semicolon + rest)
    name, filename = parameters.get("name"), parameters.get("filename")
    if not name:
        raise wrong('Got a part without a name. Accepted is form-data; name="labels", say. Name the field.')
    stray = sorted(set(parameters) - {"name", "filename", "filename*"})
    if stray:
        raise wrong(f"Got {stray[0][:_SHOWN]!r} beside the name of {name[:_SHOWN]!r}. Accepted are name and filename. {_CURL}")
    if filename is None and "filename*" in parameters:
        raise wrong(
            f"Got filename* without filename for {name[:_SHOWN]!r}, which RFC 7578 does not allow in a form. "
            'Accepted is filename="…", in UTF-8. Send that.'
        )
    encoding = headers.get("content-transfer-encoding", "binary").lower()
    if encoding not in _ENCODINGS:
        raise wrong(f"Got the encoding {encoding[:_SHOWN]!r} for {name[:_SHOWN]!r}. Accepted are bytes as they are. Send them so.")
    if filename is None:
        _check_plain(name, headers)
    return Part(name, filename)


def _check_plain(name: str, headers: dict[str, str]) -> None:
    """Refuse a field that says it is something else than text: it was meant otherwise."""
    kind = headers.get("content-type", "text/plain")
    if not _TEXT.fullmatch(kind):
        raise wrong(f"Got the type {kind[:_SHOWN]!r} for the field {name[:_SHOWN]!r}. Accepted is text/plain in UTF-8. {_CURL}")
    stray = sorted(set(headers) - _PLAIN_HEADERS)
    if stray:
        raise wrong(f"Got the header {stray[0][:_SHOWN]!r} for the field {name[:_SHOWN]!r}. Accepted is none. {_CURL}")


def _parameters(text: str) -> dict[str, str]:
    """``; name="a"; filename="b"`` → values by name."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text.rstrip()):
        match = _PARAMETER.match(text, at)
        if match is None or match[1].lower() in found:
            shown = text[at:].strip(" ;")[:_SHOWN]
            raise wrong(f"Got {shown!r} in the head of a part. Accepted are name and filename there, each once. {_CURL}")
        name, value, at = match[1].lower(), match[2], match.end()
        found[name] = value[1:-1].replace('\\"', '"').replace("\\\\", "\\") if value.startswith('"') else value
    return found
