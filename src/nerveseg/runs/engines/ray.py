"""A Ray cluster, or one that is started on this machine for the time of the run. Each worker is an actor that loads its models once.

Items go out by name and results come back as JSON, so the cluster's machines need the same files under the same paths, and nerveseg.
"""

from __future__ import annotations

import importlib
import math
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nerveseg.errors import MissingExtra, RunError
from nerveseg.registry import knob
from nerveseg.runs.engines._crew import Answer, Died, Ready, packed, raised, sendable, share_out
from nerveseg.runs.prefetch import Desk
from nerveseg.runs.worker import Make, Outcome

__all__ = ["Options", "execute"]

_MOMENT = 0.2  # seconds between two looks at whether to stop
_PATIENCE = 10.0  # seconds that workers have to end well
_STORE = 128 * 1024 * 1024  # bytes of Ray's shared memory: results are small
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing about a run leaves the cluster
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # workers that ask for no accelerator see what there is: Ray's coming default
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed",  # Ray says it on stdout; we warn of it
}
_ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on every system: processes of a cluster of our own listen on this machine's loopback alone
    "RAY_AUTH_MODE": "token",  # Ray's default, said, so that it does not warn of it
}


@dataclass(frozen=True)
class Options:
    """Knobs of the Ray engine."""

    address: str = knob(
        "",
        "address of a running cluster, or 'auto' for the one this machine belongs to; empty: $RAY_ADDRESS, or else one of its own, here.",
    )
    cpus: float = knob(
        1.0, "cores that each worker asks for, and threads that its numeric libraries get. Larger: fewer at a time.", above=0
    )
    gpus: float = knob(0.0, "accelerators that each worker asks for; a part of one shares it. Larger: fewer at a time.", low=0)


def execute(
    make: Make, items: tuple[str, ...], *, workers: int, prefetch: int, options: Options, stop: Callable[[], bool]
) -> Iterator[Outcome]:
    """Do the items on a cluster; see the package's docstring. Where Ray is connected already, that cluster is taken and stays connected.

    Raises:
        MissingExtra: Ray is not installed. RunError: no cluster there, or one that can never hold a worker.
    """
    ray = _library(options)
    with _cluster(ray, workers, options):
        _check_room(ray, options)
        yield from share_out(_Actors(ray, packed(make), prefetch, options), items, workers=workers, prefetch=prefetch, stop=stop)


class _Desk:
    """What an actor is: `Desk`, with errors as answers."""

    def __init__(self, make: bytes, prefetch: int) -> None:
        self._make = make
        self._prefetch = prefetch
        self._desk: Desk | None = None

    def start(self) -> Answer:
        """Load the models."""
        try:
            desk = Desk(pickle.loads(self._make), self._prefetch)  # noqa: S301 - from the process that started this one
            self._desk = desk.__enter__()
        except Exception as error:
            return raised(error)
        return Ready()

    def step(self, items: tuple[str, ...], *, fresh: bool) -> Answer:
        """Take more items, and give the first outcome of the row."""
        if self._desk is None:
            return raised(RunError("Got an item before the worker was started. Accepted is the other order. Report it."))
        try:
            self._desk.offer(items)
            return sendable(self._desk.next(fresh=fresh))
        except Exception as error:
            return raised(error)

    def finish(self) -> None:
        """End well."""
        if self._desk is not None:
            self._desk.__exit__(None, None, None)


class _Actors:
    """Workers as actors, by the number of their hiring."""

    def __init__(self, ray: Any, make: bytes, prefetch: int, options: Options) -> None:
        self._ray = ray
        self._kind = ray.remote(num_cpus=options.cpus, num_gpus=options.gpus, max_restarts=0, max_task_retries=0)(_Desk)
        self._terms = (make, prefetch)
        self._actors: list[Any] = []
        self._awaited: dict[Any, int] = {}
        self._ending: list[Any] = []

    def hire(self) -> int:
        actor = self._kind.remote(*self._terms)
        self._actors.append(actor)
        who = len(self._actors) - 1
        self._awaited[actor.start.remote()] = who
        return who

    def give(self, who: int, items: tuple[str, ...], *, fresh: bool = True) -> None:
        self._awaited[self._actors[who].step.remote(items, fresh=fresh)] = who

    def answers(self) -> Sequence[tuple[int, Answer]]:
        waiting = list(self._awaited)
        arrived, _ = self._ray.wait(waiting, num_returns=1, timeout=_MOMENT)
        return [(self._awaited.pop(answer), self._hear(answer)) for answer in arrived]

    def dismiss(self, who: int) -> None:
        self._ending.append(self._actors[who].finish.remote())

    def close(self) -> None:
        if self._ending:
            self._ray.wait(self._ending, num_returns=len(self._ending), timeout=_PATIENCE)
        for actor in self._actors:
            self._ray.kill(actor)

    def _hear(self, answer: Any) -> Answer:
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            return Died(str(error).strip().partition("\n")[0].rstrip("."))


@contextmanager
def _cluster(ray: Any, workers: int, options: Options) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    own = {"num_cpus": max(1, math.ceil(workers * options.cpus)), "object_store_memory": _STORE}
    address = _address(options)
    _check_there(address)
    given = {"address": address} if address else {"address": "local", "include_dashboard": False, **own}
    try:
        with _signals_kept():
            ray.init(**given, log_to_driver=False, configure_logging=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise _no_cluster(address, error) from error
    try:
        yield
    finally:
        with _signals_kept():
            ray.shutdown()


def _address(options: Options) -> str:
    return options.address or os.environ.get("RAY_ADDRESS", "")


def _check_there(address: str) -> None:
    """Ray takes minutes to find that nobody answers; a connection of our own takes seconds."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():  # "auto", a name of its own kind, or none
        return
    try:
        with socket.create_connection((host, int(port)), timeout=_PATIENCE):
            return
    except OSError as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> RunError:
    return RunError(
        f"Got no Ray cluster at {address or 'this machine'} ({error}). Accepted is one that runs. Start it, or leave the address out."
    )


def _check_room(ray: Any, options: Options) -> None:
    there = ray.cluster_resources()
    for name, wanted, option in (("CPU", options.cpus, "cpus"), ("GPU", options.gpus, "gpus")):
        if wanted > there.get(name, 0):
            raise RunError(
                f"Got {option} = {wanted:g} a worker on a cluster with {there.get(name, 0):g}. Accepted is at most what "
                "it has. Ask for less."
            )


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray puts handlers of its own in place when it starts; the run has some."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def _library(options: Options) -> Any:
    if "ray" not in sys.modules:  # which reads its environment when it is imported
        for name, value in {**_SETTINGS, **({} if _address(options) else _ALONE)}.items():
            os.environ.setdefault(name, value)
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtra(
            "Got the engine 'ray', which needs the package ray. Accepted is an environment that has it. Run: pip install 'nerveseg[ray]'."
        ) from error
