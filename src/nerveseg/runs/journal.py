"""The journal of a long job: one line an item, on disk before the next one counts as done.

A process that is killed leaves at most one torn line, at the end. `read` passes over it, `Journal` cuts it off before it writes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from nerveseg import outputs, parse
from nerveseg.errors import RunError
from nerveseg.parse import from_json
from nerveseg.runs.atomic_write import writing
from nerveseg.runs.worker import Outcome

__all__ = ["NAME", "Journal", "Place", "entry", "index", "lines", "read", "restore"]

NAME = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item's last line stands in the journal, in bytes, whether it tells of an error, and whether any line tells of a result."""

    start: int
    length: int
    bad: bool
    made: bool


def read(folder: str | Path) -> Iterator[dict[str, Any]]:
    """Read a job's journal, in the order of finishing: ``item``, ``result`` or ``error``, ``seconds``, ``at``.

    An item that was tried again has several lines; the last one counts. A folder without a journal has no entries.

    Raises:
        RunError: a damaged line that is not the last one.
    """
    for found, _, _ in _entries(Path(folder) / NAME):
        yield found


def index(folder: str | Path) -> dict[str, Place]:
    """Find each item's last line, so that results are read one at a time however long the journal is."""
    found: dict[str, Place] = {}
    for line, start, length in _entries(Path(folder) / NAME):  # a later line replaces an earlier one
        item, bad = line["item"], "error" in line
        found[item] = Place(start, length, bad, not bad or (item in found and found[item].made))
    return found


def entry(folder: str | Path, place: Place) -> dict[str, Any]:
    """Read one line."""
    with (Path(folder) / NAME).open("rb") as file:
        file.seek(place.start)
        return from_json(file.read(place.length))


def restore(folder: str | Path) -> None:
    """Make the journal of a finished job again from its results, where it was taken away for its times; one that is there stays.

    A line that is cut or damaged is left out: its item is not done then.
    """
    place = Path(folder)
    path, results = place / NAME, place / "results.jsonl"
    if path.exists() or not results.exists():
        return
    with writing(path) as out, results.open(encoding="utf-8", errors="replace") as source:
        for line in source:
            held = _object(line)
            if held is not None and isinstance(held.get("item"), str):
                entry = {"item": held.pop("item"), "result": held, "seconds": {}}
                out.write(json.dumps(entry, separators=(",", ":"), ensure_ascii=False) + "\n")


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = from_json(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "\ufffd" not in line else None


def lines(folder: str | Path) -> Iterator[str]:
    """Read a journal's whole lines as they stand there, newlines included."""
    path = Path(folder) / NAME
    if path.exists():
        with path.open("rb") as file:
            for _, start, length in _entries(path):
                file.seek(start)
                yield file.read(length).decode()


class Journal:
    """A journal open for writing, at its end; ``with`` closes it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        end = 0
        for _, start, length in _entries(self._path):
            end = start + length
        with outputs.told(self._path):
            self._file: BinaryIO = self._path.open("ab", buffering=0)
            if self._file.tell() > end:
                self._file.truncate(end)
                self._file.seek(end)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def write(self, outcome: Outcome) -> None:
        """Append an outcome and wait until it is on disk.

        Raises:
            RunError: a result that is no JSON. OutputError: a full disk.
        """
        line = (_line(outcome) + "\n").encode("utf-8", "backslashreplace")  # a lone byte of a file's name becomes JSON's own escape
        with outputs.told(self._path):
            self._append(line)
            os.fsync(self._file.fileno())

    def _append(self, line: bytes) -> None:
        """Without a buffer: half a line that a full disk took must not come again when the file is closed."""
        left = memoryview(line)
        while left:
            left = left[self._file.write(left) :]


def _line(outcome: Outcome) -> str:
    entry: dict[str, Any] = {"item": outcome.item}
    if outcome.record is not None:
        if "item" in outcome.record.result:
            raise RunError(f"Got a result of {outcome.item!r} with the key 'item'. Accepted is any other key. Rename it.")
        entry |= {"result": outcome.record.result, "seconds": {name: round(value, 6) for name, value in outcome.record.seconds.items()}}
    else:
        entry |= {"error": {"type": type(outcome.error).__name__, "message": str(outcome.error)}, "seconds": {}}
    entry["at"] = datetime.now(UTC).isoformat(timespec="milliseconds")
    try:
        return json.dumps(entry, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RunError(
            f"Got a result of {outcome.item!r} that is no JSON ({error}). Accepted are texts, finite numbers, lists and maps. Convert it."
        ) from error


def _entries(path: Path) -> Iterator[tuple[dict[str, Any], int, int]]:
    """Entries with where their lines start and how long they are, newline included; stops before a torn last line."""
    if not path.exists():
        return
    start = 0
    torn: int | None = None
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            if torn is not None:
                raise RunError(f"Got {path} with the damaged line {torn}. Accepted is damage in the last line alone. Take the line out.")
            entry = _parsed(line)
            if entry is None:
                torn = number
                continue
            yield entry, start, len(line)
            start += len(line)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"Got {path}, which cannot be read ({reason}). Accepted is a file of one's own. Check rights.") from error


def _parsed(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        entry = parse.from_json(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("item"), str) or ("result" in entry) == ("error" in entry):
        return None
    said = entry.get("error", {"type": "", "message": ""})
    failed = isinstance(said, dict) and all(isinstance(said.get(key), str) for key in ("type", "message"))
    whole = failed and isinstance(entry.get("result", {}), dict) and isinstance(entry.get("seconds", {}), dict)
    return {"seconds": {}, **entry} if whole else None
