"""Extract the wanted files of an archive, safely: no path outside the target, no links, and each file whole or not at all."""

from __future__ import annotations

import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from nerveseg import outputs
from nerveseg.datasets._archives import Said
from nerveseg.errors import DataError, NerveSegError, OutputError

__all__ = ["MOST_FILES", "Where", "below", "unpack", "whole"]

Where = Callable[[str], str | None]
"""Name of a file in an archive → its path below the root, or None where it is not wanted."""

MOST_FILES = 5_000_000
"""Files that an archive may hold: the largest of the data sets here has 330,000."""

_MOST_EACH = 8 << 30  # bytes of one file out of an archive: the largest of the data sets here has 1 GB
_SHRUNK = 100_000  # times that an archive may unpack to its own size: bzip2 of zeros comes to 45,000
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, OSError)
_PIECE = 1 << 20


@dataclass(frozen=True)
class _Member:
    """A file in an archive. ``open`` is None for what is no plain file: links and devices."""

    name: str
    bytes: int
    open: Callable[[], IO[bytes]] | None
    end: int  # bytes of the archive that are read when this one is
    sparse: bool = False


def below(inside: str, into: str, *only: str) -> Where:
    """Take the files below a folder of an archive to a folder of the root.

    Args:
        inside: folder in the archive, without the last slash.
        into: folder below the root.
        only: beginnings of the paths below ``inside`` that are wanted; none: all.

    >>> where = below("VOCdevkit/VOC2012", "VOC", "JPEGImages/")
    >>> where("VOCdevkit/VOC2012/JPEGImages/a.jpg"), where("VOCdevkit/VOC2012/Annotations/a.xml")
    ('VOC/JPEGImages/a.jpg', None)
    """

    def where(name: str) -> str | None:
        if not name.startswith(f"{inside}/"):
            return None
        rest = name.removeprefix(f"{inside}/")
        return f"{into}/{rest}" if not only or rest.startswith(only) else None

    return where


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a draft beside a path, which takes its place at the end, or goes on any error; folders are made.

    A draft has one name, so that a stop by force leaves at most one of it, and the next run writes over that.

    Raises:
        OutputError: no permission, a full disk, a file where a folder should be.
    """
    draft = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.replace(path)
    except OSError as error:
        if error.errno is None:  # not the disk's: what is read into the draft is damaged
            raise
        reason = error.strerror or error
        raise OutputError(
            f"Got {path}, which cannot be written ({reason}). Accepted is a place with room. Check space and rights."
        ) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def unpack(archive: Path, root: Path, where: Where, *, said: Said | None = None, again: bool = False) -> tuple[int, int]:
    """Take files out of a .zip or .tar (also .gz, .bz2, .xz).

    Files that are there with the size that they have in the archive are left, so that a second run goes on where the first ended.

    Args:
        archive: the file.
        root: folder below which everything stays.
        where: which files, and to where.
        said: progress in bytes of the archive.
        again: write files that are there, too.

    Returns:
        How many files were asked for, and how many of them were written.

    Raises:
        DataError: no archive, a damaged one (what it gave in this call is taken away), a link, a name that leads out of the archive's own
            folder, two files of one name, a file without its bytes (sparse), or more bytes than the archive or the disk can hold.
        OutputError: no place to write.
    """
    asked, made = 0, list[Path]()
    total = archive.stat().st_size if archive.is_file() else 0
    seen: dict[str, str] = {}
    stated = 0
    with _told(archive, made), _opened(archive) as members:
        for number, member in enumerate(members, 1):
            if number > MOST_FILES:
                raise _too_much(archive, f"more than {MOST_FILES:,} files", f"{MOST_FILES:,} files")
            target = where(_plain(member.name, archive))
            if target is not None:
                asked += 1
                stated += member.bytes
                _check_room(member, stated, archive, root, total)
                path = root / _plain(target, archive)
                _check_once(seen, target, member.name, archive)
                if _take(member, path, archive, again=again):
                    made.append(path)
            if said is not None:
                said(f"unpacking {archive.name}", min(member.end, total), total)
    return asked, len(made)


def _check_room(member: _Member, stated: int, archive: Path, root: Path, total: int) -> None:
    """Hold what an archive states to what can be in it, and to what the disk takes, before a byte is written."""
    if member.sparse:
        raise DataError(
            f"Got {archive} in which {member.name!r} is sparse: {member.bytes:,} bytes that are not in it. Accepted are archives of whole "
            "files. Take it from its publisher."
        )
    if member.bytes > _MOST_EACH:
        raise _too_much(archive, f"a file of {member.bytes:,} bytes, {member.name!r}", f"{_MOST_EACH:,} bytes a file")
    if stated > _SHRUNK * max(total, 1):
        raise _too_much(archive, f"{stated:,} bytes in {total:,}", f"at most {_SHRUNK:,} times its size")
    place = next(above for above in (root, *root.absolute().parents) if above.is_dir())
    free = shutil.disk_usage(place).free
    if member.bytes > free:
        raise OutputError(f"Got {archive}, of which {member.name!r} takes {member.bytes:,} bytes. Accepted are {free:,}, what is free in "
                          f"{place}. Make room, or choose another --root.")  # fmt: skip


def _check_once(seen: dict[str, str], target: str, name: str, archive: Path) -> None:
    first = seen.setdefault(outputs.key(target), name)
    if first is not name:
        raise DataError(
            f"Got {archive} in which {first!r} and {name!r} are one file, on some disks at least. Accepted is each once. Take it from its "
            "publisher."
        )


def _too_much(archive: Path, came: str, accepted: str) -> DataError:
    return DataError(f"Got {archive} with {came}. Accepted are {accepted}. Take it from its publisher.")


def _take(member: _Member, path: Path, archive: Path, *, again: bool) -> bool:
    if member.open is None:
        raise DataError(
            f"Got {archive} in which {member.name!r} is a link. Accepted are archives whose files are plain. Take it from its publisher."
        )
    if not again and path.is_file():
        if path.stat().st_size == member.bytes:
            return False
        raise OutputError(
            f"Got {path} of {path.stat().st_size:,} bytes, where {archive.name} has {member.bytes:,}. Accepted is a place without it. "
            "Move it away, or add --again to replace it."
        )
    left = member.bytes
    with whole(path) as draft, member.open() as source, draft.open("wb") as out:
        while left and (piece := source.read(min(_PIECE, left))):
            out.write(piece)
            left -= len(piece)
        if left or source.read(1):
            raise DataError(
                f"Got {archive} in which {member.name!r} has another size than stated. Accepted is the whole file. Download it again."
            )
    return True


def _plain(name: str, archive: Path) -> str:
    """A name without a way out: relative, without .. and without a drive."""
    path = PurePosixPath(name.removeprefix("./"))
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or (path.parts and ":" in path.parts[0]):
        raise DataError(
            f"Got {archive} in which a file is called {name!r}, which is no name below it. Accepted are names below its own folder. "
            "Take the archive from its publisher."
        )
    return path.as_posix()


@contextmanager
def _opened(archive: Path) -> Iterator[Iterator[_Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield _in_zip(zipped)
    else:
        with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:*") as tape:
            yield _in_tar(tape, raw)


def _in_zip(zipped: zipfile.ZipFile) -> Iterator[_Member]:
    end = 0
    for info in zipped.infolist():
        end += info.compress_size
        if info.filename.endswith("/"):  # is_dir() fails on a name of no letters
            continue
        link = (info.external_attr >> 16) & 0o170000 == 0o120000
        yield _Member(info.filename, info.file_size, None if link else lambda info=info: zipped.open(info), end)


def _in_tar(tape: tarfile.TarFile, raw: IO[bytes]) -> Iterator[_Member]:
    # The list of every file that was read would grow without end, and nothing is looked up by name.
    for info in tape:
        if info.isdir():
            continue
        yield _Member(info.name, info.size, (lambda info=info: _file(tape, info)) if info.isreg() else None, raw.tell(), info.issparse())
        tape.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
    while tape.fileobj is not None and tape.fileobj.read(_PIECE):
        pass  # to the checksum of what is compressed


def _file(tape: tarfile.TarFile, info: tarfile.TarInfo) -> Any:  # a reader that is no IO to a checker at run time
    found = tape.extractfile(info)
    if found is None:
        raise tarfile.ReadError(f"{info.name} holds nothing")
    return found


@contextmanager
def _told(archive: Path, made: list[Path]) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"Got no archive {archive}. Accepted is the file that is published. Give its folder as --from.") from error
    except _DAMAGED as error:
        if isinstance(error, NerveSegError) or getattr(error, "errno", None) is not None:
            raise
        for path in made:  # a stream's checksum comes at its end: the bytes that are wrong may be in any of them
            path.unlink(missing_ok=True)
        raise DataError(
            f"Got the archive {archive}, which is damaged or cut short ({error}). Accepted is a whole .zip or .tar. Download it again."
        ) from error
