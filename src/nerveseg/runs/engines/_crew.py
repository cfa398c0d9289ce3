"""Distribute items over workers that may die, retry the items of a dead one, and blame the item that kills workers.

Each worker has a row of items: the first is in work, the others are being read. When a worker dies, any of its row may have killed it. So
each is done again by a worker that has nothing else, and an item on which a worker dies there, too, is the one to blame.
"""

from __future__ import annotations

import pickle
import traceback
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from nerveseg.errors import NerveSegError, RunError
from nerveseg.runs.worker import Make, Outcome, WorkerDied

__all__ = ["Answer", "Died", "Hands", "Raised", "Ready", "packed", "raised", "sendable", "share_out"]

_ENOUGH = 2  # deaths on one item, or in a row before the first item: the first may be an accident


@dataclass(frozen=True)
class Ready:
    """A worker has loaded what it needs."""


@dataclass(frozen=True)
class Raised:
    """A worker's exception that ends the run, with the traceback that it had there."""

    error: BaseException
    trace: str


@dataclass(frozen=True)
class Died:
    """A worker is gone, as far as one knows why."""

    reason: str


Answer = Ready | Outcome | Raised | Died


@runtime_checkable
class Hands(Protocol):
    """How an engine reaches its workers, which it calls by numbers of its own."""

    def hire(self) -> int:
        """Start a worker, whose first answer will be `Ready`."""
        ...

    def give(self, who: int, items: tuple[str, ...], *, fresh: bool = True) -> None:
        """Put items, if any, at the end of a worker's row and ask for the first outcome of the row; to be called again after its answer.

        Without ``fresh`` the worker begins no item for it: what is asked for is in work already.
        """

    def answers(self) -> Sequence[tuple[int, Answer]]:
        """Wait for a moment, and give what has arrived."""
        ...

    def dismiss(self, who: int) -> None:
        """Let a worker end; it has nothing in work."""

    def close(self) -> None:
        """End every worker: those that were dismissed get time for it."""


def share_out(hands: Hands, items: tuple[str, ...], *, workers: int, prefetch: int, stop: Callable[[], bool]) -> Iterator[Outcome]:
    """Have items done by workers, and give their outcomes as they arrive.

    Raises:
        RunError: workers that die before they are ready. Whatever else a worker raised.
    """
    try:
        yield from _Crew(hands, items, workers, prefetch, stop).outcomes()
    finally:
        hands.close()


def packed(make: Make) -> bytes:
    """Pickle what makes a worker; raises `RunError` where it cannot be."""
    try:
        return pickle.dumps(make)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise RunError(
            f"Got {make!r}, which cannot be sent to another process ({error}). Accepted is what pickles. Take a class of a module."
        ) from error


def raised(error: BaseException) -> Raised:
    """Make an exception ready for a journey between processes; one that does not survive it becomes a `RunError` of the same words."""
    trace = "".join(traceback.format_exception(error))
    try:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own, of a moment ago
        if type(again) is type(error) and str(again) == str(error):
            return Raised(again, trace)
    except Exception:  # noqa: S110 - an exception of anybody may fail in any way
        pass
    text = f"Got {type(error).__name__} in a worker: {error}. Accepted is work without errors. See its traceback."
    return Raised(RunError(text), trace)


def sendable(outcome: Outcome) -> Outcome:
    """Make an outcome ready for a journey between processes."""
    if outcome.error is None:
        return outcome
    error = raised(outcome.error).error
    return replace(outcome, error=error if isinstance(error, NerveSegError) else RunError(str(outcome.error)))


class _Crew:
    """Who has what. Times are short and workers few, so everything is looked through every time."""

    def __init__(self, hands: Hands, items: tuple[str, ...], workers: int, prefetch: int, stop: Callable[[], bool]) -> None:
        self._hands = hands
        self._coming = deque(items)
        self._suspects: deque[str] = deque()
        self._deaths: Counter[str] = Counter()
        self._deaths_at_start = 0
        self._rows: dict[int, deque[str]] = {}
        self._working: set[int] = set()
        self._workers = workers
        self._prefetch = prefetch
        self._stop = stop

    def outcomes(self) -> Iterator[Outcome]:
        for _ in range(min(self._workers, len(self._coming))):
            self._hire()
        while self._working or (self._to_do() and not self._stop()):
            for who, answer in self._hands.answers():
                yield from self._hear(who, answer)

    def _to_do(self) -> bool:
        return bool(self._coming or self._suspects)

    def _hire(self) -> None:
        self._rows[self._hands.hire()] = deque()

    def _hear(self, who: int, answer: Answer) -> Iterator[Outcome]:
        match answer:
            case Raised(error, trace):
                error.add_note(f"In a worker:\n{trace}")
                raise error
            case Died(reason):
                yield from self._bury(who, reason)
            case Ready():
                self._deaths_at_start = 0
                self._supply(who)
            case Outcome():
                self._working.discard(who)
                self._rows[who].popleft()
                yield answer
                self._supply(who, answer.begun)

    def _supply(self, who: int, begun: int = 0) -> None:
        row = self._rows[who]
        stop = self._stop()
        new = () if stop else self._next_for(row)
        row.extend(new)
        if stop and begun:
            self._rows[who] = deque(list(row)[:begun])
            self._working.add(who)
            self._hands.give(who, (), fresh=False)
        elif stop or not row:  # what only lies read is left
            del self._rows[who]
            self._hands.dismiss(who)
        else:
            self._working.add(who)
            self._hands.give(who, new)

    def _next_for(self, row: deque[str]) -> tuple[str, ...]:
        if self._suspects and not row:
            return (self._suspects.popleft(),)
        if row and self._deaths[row[0]]:
            return ()
        # Towards the end rows grow short, so that no worker sits on items while another has none.
        wanted = min(1 + self._prefetch, max(1, len(self._coming) // self._workers)) - len(row)
        return tuple(self._coming.popleft() for _ in range(min(wanted, len(self._coming))))

    def _bury(self, who: int, reason: str) -> Iterator[Outcome]:
        row = self._rows.pop(who)
        self._working.discard(who)
        if not row:
            self._count_start(reason)
        for item in row:
            self._deaths[item] += 1
            if self._deaths[item] >= _ENOUGH:
                yield Outcome(item, None, _blamed(item, reason))
            else:
                self._suspects.append(item)
        if row and not self._stop():
            warnings.warn(
                WorkerDied(f"Got a worker that died ({reason}) with {row[0]!r} in work. Its items go to another one."), stacklevel=2
            )
        if self._to_do() and not self._stop():
            self._hire()

    def _count_start(self, reason: str) -> None:
        self._deaths_at_start += 1
        if self._deaths_at_start >= _ENOUGH:
            raise RunError(
                f"Got {_ENOUGH} workers that died before their first item ({reason}). Accepted are workers that start. Use fewer workers, "
                "or see what they say on stderr."
            )


def _blamed(item: str, reason: str) -> NerveSegError:
    return RunError(
        f"Got two workers that died on {item!r} (the last one: {reason}). Accepted is an item that a worker survives. Check the item and "
        "the memory that it needs."
    )
