"""Run a plan in a folder: what is done stays done, whatever stops it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from nerveseg import registry
from nerveseg.errors import NerveSegError, OptionError, OutputError
from nerveseg.reprs import brief
from nerveseg.runs import journal, results
from nerveseg.runs.atomic_write import clear
from nerveseg.runs.lock import locked
from nerveseg.runs.plan import Plan, prepare
from nerveseg.runs.worker import Make, Outcome

__all__ = ["Bad", "Summary", "make_folder", "run"]


@dataclass(frozen=True)
class Bad:
    """An item that ended with an error of ours, which is tried again at the next start."""

    item: str
    type: str
    message: str


@dataclass(frozen=True)
class Summary:
    """How far a job has come.

    Attributes:
        done: items that were finished now.
        skipped: items that were finished before.
        bad: items that ended with an error now, in the order of the plan.
        left: items of this shard that are neither finished nor bad.
    """

    done: int
    skipped: int
    bad: tuple[Bad, ...]
    left: int

    __repr__ = brief


def run(
    plan: Plan,
    make: Make,
    folder: str | Path,
    *,
    engine: str = "local",
    workers: int = 1,
    prefetch: int = 4,
    skip_bad: bool = False,
    fatal: tuple[type[NerveSegError], ...] = (),
    limit: int | None = None,
    said: Callable[[int, int], None] | None = None,
    engine_options: Mapping[str, Any] | None = None,
) -> Summary:
    """Do what is left of a plan.

    The folder gets ``run.json`` and ``items.jsonl`` before the first item, one line in ``journal.jsonl`` as each item ends, and
    ``results.jsonl`` once none is left: the same bytes whatever the engine, the order of finishing, and how often it was stopped.

    SIGINT and SIGTERM let the items in work be finished and journaled; then the signal takes its usual effect. A second one takes it at
    once.

    Args:
        plan: what to do. A folder with another plan is refused.
        make: what makes a worker; it has to pickle where there are several.
        folder: made if it is not there.
        engine: name in the registry kind ``engines``.
        workers: workers that share the items, each with models of its own. Larger: faster, more memory.
        prefetch: items that each worker reads ahead. Larger: hides slow disks, more memory.
        skip_bad: go on after an item whose error is ours. Without it the first one stops the run.
        fatal: errors that stop the run even so, such as a full disk.
        limit: begin at most so many items now and leave the rest. None: all.
        said: called as ``said(finished or bad, items of this shard)``, at the start and after every item.
        engine_options: knobs of the engine.

    Raises:
        NerveSegError: of the first bad item, without ``skip_bad``; what was finished is kept.
        RunError: another plan in the folder, another process at work on it, a damaged journal, a result that is no JSON.
        OptionError: no such knob of the engine, a number out of range. OutputError: a folder that cannot be written.
    """
    module = registry.load("engines", engine)
    options = registry.options(module.Options, engine_options or {}, f"engine {engine}")
    for name, value, low in (("workers", workers, 1), ("prefetch", prefetch, 0), ("limit", 1 if limit is None else limit, 1)):
        if value < low:
            raise OptionError(f"Got {name} = {value}. Accepted is at least {low}. Choose a larger number.")
    place = Path(folder)
    make_folder(place)
    with _patience() as stopped:
        with locked(place):
            clear(place)
            prepare(plan, place)
            with journal.Journal(place) as book:
                before = journal.index(place)
                finished = {item for item, at in before.items() if not at.bad}
                todo = tuple(item for item in plan.mine if item not in finished)
                state = _State(len(plan.mine) - len(todo), len(plan.mine), skip_bad, fatal, said)
                state.say()
                if todo:
                    outcomes = module.execute(
                        make, todo[:limit], workers=workers, prefetch=prefetch, options=options, stop=lambda: stopped() or state.over
                    )
                    with closing(outcomes):  # workers are gone before the lock is
                        for outcome in outcomes:
                            book.write(outcome)
                            state.take(outcome)
            if state.left == 0:
                results.write(place, plan.mine, journal.index(place))
        if state.failure is not None:
            raise state.failure
    order = {item: number for number, item in enumerate(plan.items)} if state.bad else {}
    bad = tuple(sorted(state.bad, key=lambda one: order[one.item]))
    return Summary(state.done, state.skipped, bad, state.left)


@dataclass
class _State:
    skipped: int
    total: int
    skip_bad: bool
    fatal: tuple[type[NerveSegError], ...]
    said: Callable[[int, int], None] | None
    done: int = 0
    bad: list[Bad] = field(default_factory=list)
    failure: NerveSegError | None = None

    @property
    def over(self) -> bool:
        return self.failure is not None

    @property
    def left(self) -> int:
        return self.total - self.skipped - self.done - len(self.bad)

    def take(self, outcome: Outcome) -> None:
        if outcome.error is None:
            self.done += 1
        else:
            self.bad.append(Bad(outcome.item, type(outcome.error).__name__, str(outcome.error)))
            if self.failure is None and (not self.skip_bad or isinstance(outcome.error, self.fatal)):
                self.failure = outcome.error
        self.say()

    def say(self) -> None:
        if self.said is not None:
            self.said(self.total - self.left, self.total)


def make_folder(folder: Path) -> None:
    """Make a folder; raises `OutputError` where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"Got {folder}, which cannot be made ({reason}). Accepted is a folder to write in. Check the place.") from error


@contextmanager
def _patience() -> Iterator[Callable[[], bool]]:
    """Note SIGINT and SIGTERM instead of obeying; the first one has its usual effect when the block is left, a second one at once."""
    if threading.current_thread() is not threading.main_thread():  # only there can signals be handled
        yield lambda: False
        return
    asked: list[int] = []
    usual: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)
        usual.clear()

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        restore()

    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if handler not in (signal.SIG_IGN, None):
            usual[number] = handler
            signal.signal(number, note)
    try:
        yield lambda: bool(asked)
    finally:
        restore()
        if asked:
            signal.raise_signal(asked[0])
