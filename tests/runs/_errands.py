"""Workers for tests of long jobs, in a module that other processes can import. An item's name says what happens to it."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from nerveseg.errors import DataError, WeightsNotFound
from nerveseg.runs import Record


@dataclass(frozen=True)
class Errand:
    """Makes workers that leave notes in a folder: who started, who stopped, who did what."""

    folder: Path
    pause: float = 0.0
    start: str = ""
    together: int = 0  # workers that have to be there before the first item is done
    behind: float | None = None  # seconds that a thread still takes for an item after the worker is free for the next

    def __call__(self) -> Runner:
        return Runner(self)


class Runner:
    def __init__(self, errand: Errand) -> None:
        self._errand = errand
        self._hand = ThreadPoolExecutor(1)

    def start(self) -> None:
        self._note("started")
        if self._errand.start == "missing":
            raise WeightsNotFound("Got no weights. Accepted are some. Fetch them.")
        if self._errand.start == "dies":
            os.kill(os.getpid(), signal.SIGKILL)

    def read(self, item: str) -> str:
        if item.startswith("unreadable"):
            raise DataError(f"Got {item}. Accepted is a file. Copy it again.")
        return item.upper()

    def work(self, item: str, read: str) -> Record | Future[Record]:
        if item.startswith("bad"):
            raise DataError(f"Got {item}. Accepted is a good one. Mend it.")
        if item.startswith("wrong"):
            raise ZeroDivisionError(item)
        if item.startswith("deadly") or (item.startswith("accident") and self._first(item)):
            os.kill(os.getpid(), signal.SIGKILL)
        self._wait_for_others()
        time.sleep(self._errand.pause)
        self._note("did")
        record = Record({"text": read, "third": len(item) / 3, "sizes": [len(item), 2]}, {"errand": self._errand.pause})
        if self._errand.behind is None:
            return record
        (self._errand.folder / f"begun-{item}").touch()
        return self._hand.submit(self._late, item, record)

    def stop(self) -> None:
        self._hand.shutdown()
        self._note("stopped")

    def _late(self, item: str, record: Record) -> Record:
        time.sleep(self._errand.behind or 0)
        if item.startswith("late"):
            raise DataError(f"Got {item}. Accepted is one that can be written. Mend it.")
        return record

    def _wait_for_others(self) -> None:
        deadline = time.monotonic() + 600
        while len(list(self._errand.folder.glob("started-*"))) < self._errand.together and time.monotonic() < deadline:
            time.sleep(0.01)

    def _first(self, item: str) -> bool:
        place = self._errand.folder / f"first-{item}"
        if place.exists():
            return False
        place.touch()
        return True

    def _note(self, what: str) -> None:
        (self._errand.folder / f"{what}-{os.getpid()}").touch()


def expected(item: str) -> dict[str, object]:
    """The result of an item to which nothing happens."""
    return {"text": item.upper(), "third": len(item) / 3, "sizes": [len(item), 2]}
