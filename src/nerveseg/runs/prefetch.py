"""The loop of one worker, the same in every engine: threads read items ahead, and the worker processes them in order.

A worker may finish an item in the background (writing files, say): the next item starts without waiting for it.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from nerveseg.errors import NerveSegError
from nerveseg.runs.worker import Make, Outcome, Record, Worker

__all__ = ["BEHIND", "Desk"]

BEHIND = 2
"""Items at most whose futures are not done while another one is worked on; with the next one, a worker waits."""


@dataclass(frozen=True)
class _Begun:
    """An item that was worked on: what came of it, or the future that will say."""

    item: str
    found: Record | Future[Record] | NerveSegError
    seconds: Mapping[str, float]

    @property
    def done(self) -> bool:
        return not isinstance(self.found, Future) or self.found.done()


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
        self._begun: deque[_Begun] = deque()
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
        self._begun.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        if self._worker is not None and kind in (None, GeneratorExit):
            self._worker.stop()

    def __len__(self) -> int:
        return len(self._row) + len(self._begun)

    def offer(self, items: Iterable[str]) -> None:
        """Put items at the end of the row; they are read from now on."""
        for item in items:
            if self._pool is None:
                self._row.append((item, lambda item=item: self._read(item)))
            else:
                future: Future[tuple[Any, float]] = self._pool.submit(self._read, item)
                self._row.append((item, future.result))

    def next(self, *, fresh: bool = True) -> Outcome:
        """How the first item ended that was not given yet; the ones after it are begun where it is not done at once.

        Errors of ours are the item's outcome; any other exception is raised, as it says that the program is wrong.

        Args:
            fresh: whether items may be begun; without it there has to be one that was (`Outcome.begun`).
        """
        while True:
            waiting = self._begun and (self._begun[0].done or len(self._begun) > BEHIND)
            if waiting or not (fresh and self._row):
                return self._ended(self._begun.popleft())
            self._begin(*self._row.popleft())

    def rest(self) -> Iterator[Outcome]:
        """The outcomes of what was begun; nothing else is."""
        while self._begun:
            yield self.next(fresh=False)

    def _begin(self, item: str, take: Callable[[], tuple[Any, float]]) -> None:
        if self._worker is None:
            raise RuntimeError("Got a desk that was not entered.")
        begun = time.perf_counter()
        try:
            content, reading = take()
            waited = time.perf_counter()
            found = self._worker.work(item, content)
        except NerveSegError as error:
            self._begun.append(_Begun(item, error, {}))
            return
        times = {"read": reading, "waited": waited - begun, "work": time.perf_counter() - waited}
        self._begun.append(_Begun(item, found, times))

    def _ended(self, one: _Begun) -> Outcome:
        found, begun = one.found, len(self._begun)
        try:
            record = found.result() if isinstance(found, Future) else found
        except NerveSegError as error:
            record = error
        if isinstance(record, NerveSegError):
            return Outcome(one.item, None, record, begun)
        return Outcome(one.item, replace(record, seconds={**one.seconds, **record.seconds}), None, begun)

    def _read(self, item: str) -> tuple[Any, float]:
        begun = time.perf_counter()
        if self._worker is None:
            raise RuntimeError("Got a desk that was not entered.")
        content = self._worker.read(item)
        return content, time.perf_counter() - begun
