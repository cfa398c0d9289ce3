"""Archives of data sets: what is known of them, whether they are on disk, and how they are downloaded, going on where one was cut off."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nerveseg.errors import DataError
from nerveseg.reprs import brief

if TYPE_CHECKING:
    from requests import Response

__all__ = ["Archive", "Said", "check", "download"]

Said = Callable[[str, int, int], None]
"""Progress: what is being done, how much of it is done, how much there is (0: not known)."""

_PIECE = 1 << 20
_CHUNK = 1 << 16  # what is lost at most where a connection is cut
_TRIES = 4
_WAIT = (10, 60)  # seconds to connect, and between two pieces


@dataclass(frozen=True)
class Archive:
    """A file that the publisher of a data set hands out.

    Attributes:
        name: file name, as published; ``--from`` looks for it.
        url: where it is; None where it takes an account or a licence to be agreed to.
        bytes: its size, where the publisher or those who downloaded it state it; None: not known.
        sha256: digest, where it is stated likewise.
        md5: likewise.
        note: what people should know before: a licence, an account, what it is needed for.
        splits: those it is needed for; none: for all.
        optional: True where the layout can be made without it. It is taken where it is on disk, and never downloaded.
    """

    name: str
    url: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None
    note: str = ""
    splits: tuple[str, ...] = ()
    optional: bool = False

    __repr__ = brief

    def serves(self, split: str) -> bool:
        """Whether a split needs it."""
        return not self.splits or split in self.splits


def check(archive: Archive, path: Path, said: Said | None = None) -> None:
    """Hold a file to the size and digest that are known of it.

    Raises:
        DataError: another size, or another digest.
    """
    size = path.stat().st_size
    if archive.bytes is not None and size != archive.bytes:
        raise DataError(
            f"Got {path} of {size:,} bytes. Accepted are the {archive.bytes:,} bytes that are published. Download it again"
            f"{f' from {archive.url}' if archive.url else ''}."
        )
    for kind, known in (("sha256", archive.sha256), ("md5", archive.md5)):
        if known is None:
            continue
        found = _digest(path, kind, said, f"checking {archive.name}")
        if found != known:
            raise DataError(f"Got {path} with the {kind} {found}. Accepted is {known}, which is published. Download it again.")
        return


def download(archive: Archive, folder: Path, said: Said | None = None) -> Path:
    """Download an archive; what an earlier try left is gone on with.

    Args:
        archive: with a url.
        folder: where it goes; bytes that have come so far lie beside it as ``NAME.part``.
        said: progress in bytes.

    Raises:
        DataError: no url, no room, no answer, a refusal, or bytes that are not the published ones.
    """
    import pooch
    from requests import RequestException

    target = folder / archive.name
    if target.is_file():
        check(archive, target, said)
        return target
    if archive.url is None:
        raise DataError(f"Got no {archive.name}. Accepted is the file itself. {archive.note or 'Get it from its publisher'}")
    folder.mkdir(parents=True, exist_ok=True)
    _need_room(archive, folder)
    part = folder / f"{archive.name}.part"
    known = f"sha256:{archive.sha256}" if archive.sha256 else f"md5:{archive.md5}" if archive.md5 else None

    def fetch(url: str, output: Any, _: Any) -> None:
        _fetch(url, part, f"downloading {archive.name}", said)
        part.replace(output)  # pooch holds it to its digest and gives it its name

    try:
        with _quiet(pooch.get_logger()):
            pooch.retrieve(archive.url, known, fname=archive.name, path=folder, downloader=cast(Any, fetch))
        check(archive, target)
    except (RequestException, OSError) as error:
        raise DataError(
            f"Got no more of {archive.url} ({error}). Accepted is the whole file. "
            f"Run the same command again, which goes on from there, or download it yourself and give its folder as --from."
        ) from error
    except ValueError as error:  # DataError of `check` is one, too
        target.unlink(missing_ok=True)
        raise DataError(
            f"Got {archive.url}, whose bytes are not the published ones ({error}). Accepted is {known or f'{archive.bytes:,} bytes'}. "
            "Run the same command again, and tell the publisher if it stays so."
        ) from error
    return target


def _fetch(url: str, part: Path, stage: str, said: Said | None) -> None:
    from requests import ConnectionError as Cut
    from requests import Timeout
    from requests.exceptions import ChunkedEncodingError

    for left in reversed(range(_TRIES)):
        try:
            _go_on(url, part, stage, said)
        except (Cut, Timeout, ChunkedEncodingError):
            if not left:
                raise
        else:
            return


def _go_on(url: str, part: Path, stage: str, said: Said | None) -> None:
    """Ask for the bytes that are missing. A server that does not know parts sends all, and all is taken."""
    import requests

    mark = part.with_name(f"{part.name}.etag")  # of the file that the part is of: a new release starts anew
    had = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity"}
    if had:
        headers["Range"] = f"bytes={had}-"
        if mark.is_file():
            headers["If-Range"] = mark.read_text("utf-8")
    with requests.get(url, headers=headers, stream=True, timeout=_WAIT) as answer:
        if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and had == _whole(answer):
            mark.unlink(missing_ok=True)
            return
        answer.raise_for_status()
        if answer.status_code != HTTPStatus.PARTIAL_CONTENT:
            had = 0
        if tag := _tag(answer):
            mark.write_text(tag, "utf-8")
        total = had + int(answer.headers.get("Content-Length", 0))
        with part.open("ab" if had else "wb") as out:
            for piece in answer.iter_content(_CHUNK):
                out.write(piece)
                had += len(piece)
                if said is not None:
                    said(stage, had, total)
    if total and had < total:
        raise requests.ConnectionError(f"{had:,} of {total:,} bytes came")
    mark.unlink(missing_ok=True)


def _tag(answer: Response) -> str | None:
    """A strong mark of the file's state; weak ones may not be sent back with a range."""
    tag = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else None


def _whole(answer: Response) -> int:
    text = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(text) if text.isdigit() else -1


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    level = logger.level
    logger.setLevel(logging.ERROR)  # it would print the digest of what has none, as advice
    try:
        yield
    finally:
        logger.setLevel(level)


def _need_room(archive: Archive, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if archive.bytes is not None and free < archive.bytes:
        raise DataError(
            f"Got {free:,} free bytes in {folder} for {archive.name}. Accepted are {archive.bytes:,}, and as much again to unpack. "
            "Make room, or choose another --root."
        )


def _digest(path: Path, kind: str, said: Said | None, stage: str) -> str:
    found, done, total = hashlib.new(kind, usedforsecurity=False), 0, path.stat().st_size
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
            done += len(piece)
            if said is not None:
                said(stage, done, total)
    return found.hexdigest()
