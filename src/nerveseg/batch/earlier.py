"""Resume a batch: find the files that earlier runs wrote, and redo items whose files are missing or truncated."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nerveseg import outputs, runs
from nerveseg.batch.output_folder import Home
from nerveseg.errors import OutputError, RunError
from nerveseg.outputs import Inputs
from nerveseg.parse import from_json
from nerveseg.runs import journal, results
from nerveseg.runs.lock import locked

__all__ = ["CLAIMS", "claim", "discard", "is_whole", "joined_files", "own", "read_common", "read_record", "reopen", "sized"]

CLAIMS = "claims.jsonl"
"""Beside a journal: items whose files were about to take free places, a line each, so that what a killed process left there is known."""


def sized(out: Path, files: list[str]) -> list[int]:
    """Bytes of each file."""
    return [(out / name).stat().st_size for name in files]


def claim(folder: Path, item: str) -> None:
    """Say that an item's files are about to take their places."""
    line = (json.dumps(item) + "\n").encode()
    handle = os.open(folder / CLAIMS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)


def own(folder: Path) -> frozenset[str]:
    """Items whose files, where they are there, an earlier start of this job made: those of the journal, and those that were claimed."""
    found = {item for item, place in journal.index(folder).items() if place.made}
    path = folder / CLAIMS
    if path.is_file():
        with outputs.told(path):
            found.update(_claimed(path.read_text("utf-8", "replace")))
    return frozenset(found)


def read_common(path: Path) -> dict[str, Any] | None:
    """What all images of a collection have in common; None where nothing is kept yet.

    Raises:
        RunError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        found = from_json(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _no_common(path, error) from error
    if not isinstance(found, dict):
        raise _no_common(path, "it is no object")
    return found


def reopen(folder: Path, out: Path) -> None:
    """Make a job's journal ready to go on: items whose files are gone, or not as long as they were, are to be done again.

    Raises:
        RunError: another process is at work on it.
    """
    if not folder.is_dir():
        return
    with locked(folder), outputs.told(folder):
        journal.restore(folder)
        lost = [(item, gone) for item, line in _good(folder) if (gone := _lacks(out, line)) is not None]
        if lost:
            with journal.Journal(folder) as book:
                for item, gone in lost:
                    book.write(runs.Outcome(item, None, OutputError(f"Got {out / gone}, which is gone or cut. It is made again.")))


def is_whole(home: Home, bad: tuple[runs.Bad, ...]) -> bool:
    """Whether a finished batch has a line for every good image, and all files of it as long as they were written.

    Raises:
        RunError: a damaged plan or record.
    """
    items = set(runs.read(home.whole).items) - {one.item for one in bad}
    try:
        lines = {line.pop("item"): line for line in results.read(home.whole)}
    except (RunError, KeyError, TypeError, AttributeError, UnicodeDecodeError):  # cut: what is left of it is taken up by `reopen`
        return False
    joined = joined_files(read_record(home.record))
    there = all((home.out / name).is_file() and (home.out / name).stat().st_size == size for name, size in joined.items())
    return there and set(lines) == items and all(_lacks(home.out, line) is None for line in lines.values())


def read_record(path: Path) -> dict[str, Any]:
    """The record of a finished batch.

    Raises:
        RunError: it cannot be read, or is none.
    """
    try:
        record = from_json(path.read_text("utf-8"))
        known = record["bad"], record["digest"], record["pictures"]
        bad = all({"item", "type", "message"} <= set(one) for one in known[0])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_record(path, error) from error
    if not bad:
        raise _no_record(path, "its list of bad images is none")
    return record


def joined_files(record: Mapping[str, Any]) -> dict[str, int]:
    """Files for all images together, and their bytes, as a record tells them."""
    found = record.get("joined", {})
    return dict(found) if isinstance(found, dict) else {}


def discard(home: Home, read: Inputs) -> None:
    """Take an earlier batch away, so that another one can be begun in its folder: its state, its record, and the files that it made.

    A file that is an input now stays.

    Raises:
        RunError: a process is at work on it. OutputError: something cannot be deleted.
    """
    jobs = [home.whole, *home.shards().values()]
    for folder in jobs:
        if folder.is_dir():
            with locked(folder), outputs.told(folder):
                journal.restore(folder)
                for _, line in _good(folder):
                    for name, _ in _files(line):
                        _remove(home.out / name, read)
    with outputs.told(home.out):
        if home.record.is_file():
            for name in joined_files(_or_empty(home.record)):
                _remove(home.out / name, read)
            home.record.unlink()
        for folder in jobs:
            shutil.rmtree(folder, ignore_errors=True)
        for left in (home.common, home.before):
            left.unlink(missing_ok=True)


def _good(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for item, place in journal.index(folder).items():
        if not place.bad:
            yield item, journal.entry(folder, place)["result"]


def _files(line: Mapping[str, Any]) -> Iterator[tuple[str, int | None]]:
    """Names and bytes of an item's files; None: not known."""
    names = line.get("files") or line.get("part", {}).get("files") or []
    sizes = line.get("bytes") or [None] * len(names)
    yield from zip(names, sizes, strict=False)


def _lacks(out: Path, line: Mapping[str, Any]) -> str | None:
    """The first file of an item that is gone, or has another length than it was written with."""
    for name, size in _files(line):
        path = out / name
        if not path.is_file() or (size is not None and path.stat().st_size != size):
            return name
    return None


def _remove(path: Path, read: Inputs) -> None:
    if read.named(path) is None:
        path.unlink(missing_ok=True)


def _claimed(text: str) -> Iterator[str]:
    for line in text.splitlines():
        try:
            found = from_json(line)
        except ValueError:  # torn by a kill
            continue
        if isinstance(found, str):
            yield found


def _or_empty(path: Path) -> dict[str, Any]:
    try:
        return read_record(path)
    except RunError:  # what it listed cannot be known
        return {}


def _no_common(path: Path, error: object) -> RunError:
    return RunError(
        f"Got {path}, which cannot be read ({error}). Accepted is what the batch wrote there. Begin the batch anew with --overwrite, or "
        "choose another folder."
    )


def _no_record(path: Path, error: object) -> RunError:
    return RunError(
        f"Got {path}, which cannot be read as a batch's record ({error}). Accepted is what a finished batch wrote. Delete it, and the same "
        "command with --resume makes it again."
    )
