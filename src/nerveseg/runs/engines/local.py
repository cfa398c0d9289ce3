"""This machine: one worker in this process, or several in processes of their own.

Processes are spawned, so a script that asks for several needs ``if __name__ == "__main__":``. Each talks through a pipe of its own: one
that is killed can neither hold a lock nor leave half a message in the way of another.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from nerveseg.registry import knob
from nerveseg.runs.engines._crew import Answer, Died, Ready, packed, raised, sendable, share_out
from nerveseg.runs.prefetch import Desk
from nerveseg.runs.worker import Make, Outcome

__all__ = ["Options", "execute"]

_MOMENT = 0.2  # seconds between two looks at whether to stop
_PATIENCE = 10.0  # seconds that a worker has to end well
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Options:
    """Knobs of the local engine."""

    threads: int = knob(
        0,
        "threads of each process's numeric libraries, where there are several processes; 0: this machine's cores divided by them. "
        "Larger: a single item is faster, all together are not.",
        low=0,
        high=1024,
    )


def execute(
    make: Make, items: tuple[str, ...], *, workers: int, prefetch: int, options: Options, stop: Callable[[], bool]
) -> Iterator[Outcome]:
    """Do the items on this machine; see the package's docstring."""
    if workers == 1:
        return _here(make, items, prefetch, stop)
    threads = options.threads or max(1, (os.cpu_count() or 1) // workers)
    return share_out(_Processes(packed(make), prefetch, threads), items, workers=workers, prefetch=prefetch, stop=stop)


def _here(make: Make, items: tuple[str, ...], prefetch: int, stop: Callable[[], bool]) -> Iterator[Outcome]:
    coming = iter(items)
    with Desk(make, prefetch) as desk:
        while not stop():
            while len(desk) < 1 + prefetch and (item := next(coming, None)) is not None:
                desk.offer((item,))
            if not len(desk):
                return
            yield desk.next()
        yield from desk.rest()


class _Processes:
    """Workers in processes, by the number of their hiring."""

    def __init__(self, make: bytes, prefetch: int, threads: int) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._terms = (make, prefetch, threads)
        self._processes: list[SpawnProcess] = []
        self._pipes: dict[int, Connection] = {}

    def hire(self) -> int:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, *self._terms), daemon=True, name="nerveseg-worker")
        process.start()
        theirs.close()  # the process's end is the only one, so that its death ends the pipe
        self._processes.append(process)
        who = len(self._processes) - 1
        self._pipes[who] = ours
        return who

    def give(self, who: int, items: tuple[str, ...], *, fresh: bool = True) -> None:
        self._tell(who, (items, fresh))

    def answers(self) -> Sequence[tuple[int, Answer]]:
        callers = {pipe: who for who, pipe in self._pipes.items()}
        return [(callers[pipe], self._hear(callers[pipe], pipe)) for pipe in wait(list(callers), _MOMENT) if isinstance(pipe, Connection)]

    def dismiss(self, who: int) -> None:
        self._tell(who, None)
        self._pipes.pop(who).close()

    def close(self) -> None:
        for who in self._pipes:
            self._processes[who].kill()
        for process in self._processes:
            process.join(_PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        for pipe in self._pipes.values():
            pipe.close()

    def _tell(self, who: int, message: Any) -> None:
        try:
            self._pipes[who].send(message)
        except OSError:  # it has just died, which `answers` finds as well
            return

    def _hear(self, who: int, pipe: Connection) -> Answer:
        try:
            return pipe.recv()
        except (EOFError, OSError):
            process = self._processes[who]
            process.join(_PATIENCE)
            self._pipes.pop(who).close()
            return Died(_reason(process.exitcode))


def _reason(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"{name}, as where memory runs out" if name == "SIGKILL" else name
    return f"exit code {code}"


class _Gone(Exception):
    """The process that hired this one is not there any more."""


def _serve(pipe: Connection, make: bytes, prefetch: int, threads: int) -> None:
    """What a process does: answers to messages until one says None."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they go to all processes at once; the one that hired us decides
        signal.signal(number, signal.SIG_IGN)
    for name in _THREADS:  # before the libraries come, with what makes the worker
        os.environ.setdefault(name, str(threads))
    try:
        with Desk(pickle.loads(make), prefetch) as desk:  # noqa: S301 - from the process that hired us
            _say(pipe, Ready())
            while (told := _listen(pipe)) is not None:
                items, fresh = told
                desk.offer(items)
                _say(pipe, sendable(desk.next(fresh=fresh)))
    except _Gone:
        return
    except Exception as error:
        with contextlib.suppress(_Gone):
            _say(pipe, raised(error))


def _say(pipe: Connection, answer: Answer) -> None:
    try:
        pipe.send(answer)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise _Gone from error


def _listen(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except (EOFError, OSError) as error:
        raise _Gone from error
