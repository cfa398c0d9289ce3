"""The worker interface of a long job: one item in, one record out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from nerveseg.errors import NerveSegError
from nerveseg.reprs import brief

__all__ = ["Make", "Outcome", "Record", "Worker", "WorkerDied"]


@dataclass(frozen=True)
class Record:
    """What came of one item.

    Attributes:
        result: JSON that depends on the plan's identity and the item alone: no times, no machine.
        seconds: what took how long, by name. It stays in the journal.
    """

    result: Mapping[str, Any]
    seconds: Mapping[str, float] = field(default_factory=dict)

    __repr__ = brief


@runtime_checkable
class Worker(Protocol):
    """One a process. ``work`` is called from one thread; ``read`` from several, also while ``work`` runs."""

    def start(self) -> None:
        """Load what every item needs; called once, before anything else."""

    def read(self, item: str) -> Any:
        """Bring what an item needs from disk into memory."""

    def work(self, item: str, read: Any) -> Record | Future[Record]:
        """Do an item, given what ``read`` gave for it.

        Who gives a future has more to do in a thread of its own, such as writing files. The next item is then begun meanwhile; this one
        counts, and is journaled, once its future is done. At most `nerveseg.runs.prefetch.BEHIND` futures are waited for.
        """
        ...

    def stop(self) -> None:
        """Let go of what ``start`` took; called once where the worker ends well."""


Make = Callable[[], Worker]
"""What makes a worker: something that pickles, as every process makes its own. A dataclass with ``__call__`` does, a lambda does not."""


@dataclass(frozen=True)
class Outcome:
    """How one item ended: with a record, or with an error of ours that reading it or working on it raised.

    ``begun`` counts the items of the same worker that are in work already, their futures not asked for yet.
    """

    item: str
    record: Record | None
    error: NerveSegError | None = None
    begun: int = 0


class WorkerDied(UserWarning):
    """A worker is gone (killed, out of memory, crashed); another one takes its items over."""
