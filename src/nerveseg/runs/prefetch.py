"""One worker's side of every engine: items wait in a row, threads read ahead, and one after the other is worked on."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Any

from nerveseg.errors import NerveSegError
from nerveseg.runs.worker import Make, Outcome, Worker

__all__ = ["Desk"]


class Desk:
    """A worker with its row of items.

    At most as many items as were offered lie in memory, so whoever offers bounds it. ``with`` starts and ends it.

    Args:
        make: what makes the worker.
        prefetch: threads that read ahead, at most one a core; 0 reads when an item's turn comes.
    """

    def __init__(self, make: Make, prefetch: int) -> None:
        self._make = make
        self._threads = min(prefetch, os.cpu_count() or 1)
        self._row: deque[tuple[str, Callable[[], tuple[Any, float]]]] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._worker: Worker | None = None

    def __enter__(self) -> Desk:
        self._worker = self._make()
        self._worker.start()
        if self._threads:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="nerveseg-read")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._row.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        if self._worker is not None and kind in (None, GeneratorExit):
            self._worker.stop()

    def __len__(self) -> int:
        return len(self._row)

    def offer(self, items: Iterable[str]) -> None:
        """Put items at the end of the row; they are read from now on."""
        for item in items:
            if self._pool is None:
                self._row.append((item, lambda item=item: self._read(item)))
            else:
                future: Future[tuple[Any, float]] = self._pool.submit(self._read, item)
                self._row.append((item, future.result))

    def next(self) -> Outcome:
        """Work on the first item of the row.

        Errors of ours are the item's outcome; any other exception is raised, as it says that the program is wrong.
        """
        if self._worker is None:
            raise RuntimeError("Got a desk that was not entered.")
        item, take = self._row.popleft()
        begun = time.perf_counter()
        try:
            content, reading = take()
            waited = time.perf_counter()
            record = self._worker.work(item, content)
        except NerveSegError as error:
            return Outcome(item, None, error)
        times = {"read": reading, "waited": waited - begun, "work": time.perf_counter() - waited}
        return Outcome(item, replace(record, seconds={**times, **record.seconds}))

    def _read(self, item: str) -> tuple[Any, float]:
        begun = time.perf_counter()
        if self._worker is None:
            raise RuntimeError("Got a desk that was not entered.")
        content = self._worker.read(item)
        return content, time.perf_counter() - begun
