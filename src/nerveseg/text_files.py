"""Read text files in any declared encoding with any line ends; a file that is no text is refused, by what it is."""

from __future__ import annotations

import codecs
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nerveseg.errors import NerveSegError

__all__ = ["address", "local", "read"]

_MOST = 16 * 2**20
_MARKS = (  # longest first: the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SHEET = "a spreadsheet", "Save the sheet as CSV in UTF-8"
_KINDS = (  # what the first bytes say, before the ending is asked
    (b"PK\x03\x04", "a zip archive, as .xlsx, .ods and .docx are", "Save the sheet as CSV in UTF-8, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "an old Office file, as .xls is", "Save the sheet as CSV in UTF-8"),
    (b"%PDF", "a PDF", "Save its text as .txt in UTF-8"),
    (b"{\\rtf", "rich text", "Save it as plain text in UTF-8"),
    (b"\x89PNG", "a PNG image", "Check the path"),
    (b"\xff\xd8\xff", "a JPEG image", "Check the path"),
    (b"GIF8", "a GIF image", "Check the path"),
    (b"\x1f\x8b", "a gzip archive", "Unpack it"),
)
_SHEETS = frozenset((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"))


def read(path: str | Path, what: str, error: type[NerveSegError]) -> str:
    r"""Read a text file; every line end becomes ``\n``.

    Args:
        path: UTF-8 with or without a mark, or UTF-16 or UTF-32 with one, as spreadsheets save them. At most 16 MiB.
        what: what to call it, as "the label file".
        error: which of our errors to raise.

    Raises:
        error: it is not there, no file, too large, no text, or text in an encoding that does not say which it is.
    """
    shown = repr(str(path)[:300])
    came = f"Got {what} {shown}"
    file = Path(path)
    try:
        if file.is_dir():
            raise error(f"{came}, which is a folder. Accepted is a text file. Name the file in it.")
        with file.open("rb") as opened:
            data = opened.read(_MOST + 1)
    except (OSError, ValueError) as reason:
        if isinstance(reason, NerveSegError):
            raise
        said = getattr(reason, "strerror", None) or reason
        raise error(f"{came}, which cannot be read ({said}). Accepted is a text file that is there. Check the path.") from reason
    if len(data) > _MOST:
        raise error(f"{came} of more than {_MOST // 2**20} MiB. Accepted is a list, one entry a line. Check the path.")
    return _decoded(data, file.suffix.lower(), came, error).replace("\r\n", "\n").replace("\r", "\n")


def _decoded(data: bytes, ending: str, came: str, error: type[NerveSegError]) -> str:
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    if encoding == "utf-8":
        kind, hint = next(((kind, hint) for first, kind, hint in _KINDS if data.startswith(first)), ("", ""))
        if not kind and ending in _SHEETS:
            kind, hint = _SHEET
        if kind:
            raise error(f"{came}, which is {kind}. Accepted is a text file. {hint}.")
        if b"\0" in data:
            pairs = len(data) > 1 and (data[1::2].count(0) > len(data) // 4 or data[::2].count(0) > len(data) // 4)
            looks = "looks like UTF-16 without its mark" if pairs else "holds zero bytes and is no text"
            raise error(f"{came}, which {looks}. Accepted is UTF-8. Save it as UTF-8.")
    try:
        return data.decode(encoding)
    except UnicodeError as reason:
        at = int(getattr(reason, "start", 0))
        if encoding != "utf-8":
            raise error(f"{came}, which says it is {encoding} and is not, at byte {at}. Accepted is UTF-8. Save it as UTF-8.") from reason
        raise error(
            f"{came} with the byte 0x{data[at]:02X} at {at} (line {data.count(10, 0, at) + 1}), which is not UTF-8; "
            f"{_guess(data, at)}. Accepted is UTF-8. Save it as UTF-8 ('CSV UTF-8' in Excel)."
        ) from reason


def _guess(data: bytes, at: int) -> str:
    """How the place would read in what European systems wrote before UTF-8."""
    first, last = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at)
    line = data[max(first, at - 20) : min(len(data) if last < 0 else last, at + 20)]
    return f"as Latin-1 (Windows-1252) the line would read {line.decode('cp1252', 'replace').strip()!r}"


def address(text: str) -> str | None:
    """The address that a text is, both slashes there again where a Path took one away; None for what is none. ``file://`` is none.

    >>> address("https:/example.org/a.png")
    'https://example.org/a.png'
    """
    scheme, colon, rest = text.partition(":")
    known = scheme.lower() in ("http", "https", "ftp", "s3", "gs", "hf", "ssh", "sftp")
    return f"{scheme}://{rest.lstrip('/')}" if colon and known and rest.startswith("/") else None


def local(text: str) -> str:
    """``file:///a/b%20c.png`` → ``/a/b c.png``, also where a Path took slashes away; anything else comes back as it is."""
    if not text.lower().startswith("file:/"):
        return text
    rest = text[len("file:") :]
    place = urlsplit(f"file:{rest}") if rest.startswith("//") else None
    path = unquote(rest if place is None else place.path)
    if place is not None and place.netloc not in ("", "localhost"):
        path = f"/{place.netloc}{path}"  # file://a.png is meant as a path by all who write it
    return path[1:] if len(path) > 2 and path[2] == ":" and path[1].isalpha() else path  # /C:/…
