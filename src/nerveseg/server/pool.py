"""One worker a device behind one bounded queue. A worker that is free takes the oldest request, and images that wait with it."""

from __future__ import annotations

import logging
import math
import threading
import time
import warnings
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from nerveseg.image import LoadedImage
from nerveseg.segmentation import Segmentation
from nerveseg.segmenter import Encoding, Segmenter, UnfamiliarImageWarning, UntrainedWordWarning
from nerveseg.server.deadline import Deadline, Overdue
from nerveseg.server.metrics import Metrics
from nerveseg.server.requests import Ask

__all__ = ["Done", "Full", "Job", "Pool"]

_LOG = logging.getLogger("nerveseg.server")
_FIRST_GUESS = 1.0  # seconds a request takes, before one was timed
_LONGEST_WAIT = 60  # seconds that Retry-After says at most


class Full(Exception):
    """The queue has no room."""


@dataclass(frozen=True, eq=False)
class Done:
    """What came of a job.

    Attributes:
        encoding: the image's.
        worker: index of the worker that has it.
        segmentation: None where nothing was asked.
        notes: words that the recipe's text tower does not know, or cuts.
    """

    encoding: Encoding
    worker: int
    segmentation: Segmentation | None = None
    notes: tuple[str, ...] = ()


@dataclass(eq=False)
class Job:
    """An image to encode, or its encoding; and what is asked of it.

    Attributes:
        until: when its time is up, on `time.monotonic`'s clock.
        image: to be encoded; None where ``encoding`` is given.
        encoding: made before.
        ask: None to encode alone.
        worker: index of the only one that may do it; None for any.
        future: gets a `Done`.
        gone: set when nobody waits any more.
    """

    until: float
    image: LoadedImage | None = None
    encoding: Encoding | None = None
    ask: Ask | None = None
    worker: int | None = None
    future: Future[Done] = field(default_factory=Future)
    gone: threading.Event = field(default_factory=threading.Event)
    came: float = field(default_factory=time.monotonic)

    @property
    def late(self) -> bool:
        """Whether it need not be done any more."""
        return self.gone.is_set() or time.monotonic() > self.until


class Pool:
    """Workers, one a segmenter, and their queue.

    Args:
        segmenters: one a device.
        room: jobs that may wait.
        batch: images that are encoded together.
        metrics: where times go.
    """

    def __init__(self, segmenters: Sequence[Segmenter], room: int, batch: int, metrics: Metrics) -> None:
        self._segmenters, self._room, self._batch, self._metrics = tuple(segmenters), room, batch, metrics
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._ends = False
        self._mean = _FIRST_GUESS
        self._threads: list[threading.Thread] = []

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._jobs)

    def start(self) -> None:
        """Start the workers, also after a stop."""
        self._ends = False
        self._threads = [
            # Daemons: a pass without end must not hold the process.
            threading.Thread(target=self._work, args=(index,), name=f"nerveseg-worker-{index}", daemon=True)
            for index in range(len(self._segmenters))
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float) -> bool:
        """Do what is in the queue, then end the workers. Gives whether they ended in so many seconds."""
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def submit(self, job: Job) -> Future[Done]:
        """Queue a job.

        Raises:
            Full: no room.
        """
        with self._changed:
            self._jobs = deque(kept for kept in self._jobs if not kept.gone.is_set())  # who went away makes room
            if len(self._jobs) >= self._room or self._ends:
                raise Full
            self._jobs.append(job)
            self._changed.notify_all()
        return job.future

    def wait(self) -> int:
        """In how many seconds there may be room, at least 1."""
        seconds = self._mean * (len(self._jobs) + 1) / len(self._segmenters)
        return max(1, min(_LONGEST_WAIT, math.ceil(seconds / 2)))  # half of the queue will have gone by then

    def _work(self, index: int) -> None:
        while jobs := self._take(index):
            started = time.monotonic()
            for job in jobs:
                self._metrics.waited.observe(started - job.came)
            self._do(index, jobs)
            taken = time.monotonic() - started
            self._metrics.worked.observe(taken)
            self._mean += 0.2 * (taken / len(jobs) - self._mean)

    def _take(self, index: int) -> list[Job]:
        """The oldest job that this worker may do; with it, where it is an image, images that wait. None at the end."""
        with self._changed:
            while not (fitting := [job for job in self._jobs if job.worker in (None, index)]):
                if self._ends:
                    return []
                self._changed.wait()
            taken = fitting[:1]
            if taken[0].encoding is None:
                taken = [job for job in fitting if job.encoding is None][: self._batch]
            for job in taken:
                self._jobs.remove(job)
        return taken

    def _do(self, index: int, jobs: list[Job]) -> None:
        live = [job for job in jobs if job.future.set_running_or_notify_cancel() and not _dropped(job)]
        with warnings.catch_warnings():
            for said in (UnfamiliarImageWarning, UntrainedWordWarning):  # the answer says it
                warnings.simplefilter("ignore", said)
            encodings = self._encoded(index, live) if live else []
            for job, encoding in zip(live, encodings, strict=True):
                if encoding is not None:
                    _settle(job, lambda job=job, encoding=encoding: self._answered(index, job, encoding))

    def _encoded(self, index: int, jobs: list[Job]) -> list[Encoding | None]:
        """Encodings of all; None for those whose job has failed."""
        segmenter = self._segmenters[index]
        if jobs[0].encoding is not None:
            return [job.encoding for job in jobs]
        self._metrics.batches.observe(len(jobs))
        if len(jobs) > 1:
            try:
                with Deadline(max(job.until for job in jobs), lambda: all(job.gone.is_set() for job in jobs)):
                    return list(segmenter.encode_many([job.image for job in jobs]))
            except Exception as error:  # one of them, or too much for the memory: each alone tells
                _LOG.info("A batch of %d is encoded one by one: %s", len(jobs), type(error).__name__)
        return [_settle(job, lambda job=job: segmenter.encode(job.image), last=False) for job in jobs]

    def _answered(self, index: int, job: Job, encoding: Encoding) -> Done:
        if job.ask is None:
            return Done(encoding, index)
        segmenter = self._segmenters[index]
        found = job.ask.decoded(segmenter, encoding)
        return Done(encoding, index, found, job.ask.notes(segmenter))


def _dropped(job: Job) -> bool:
    if job.late:
        _fail(job, Overdue())
    return job.late


def _settle(job: Job, work: Any, *, last: bool = True) -> Any:
    """Do work for a job within its time; an error is the job's answer, and so is the result of the last work."""
    try:
        with Deadline(job.until, job.gone.is_set):
            result = work()
    except Exception as error:  # whatever it is, it is this job's alone, and the worker goes on
        _fail(job, error)
        return None
    if last:
        job.future.set_result(result)
    return result


def _fail(job: Job, error: Exception) -> None:
    job.future.set_exception(error)
