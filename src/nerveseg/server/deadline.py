"""Cancel work at its deadline, or when its client is gone: checked before each tensor operation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch.overrides import TorchFunctionMode

__all__ = ["Deadline", "Overdue"]


class Overdue(Exception):
    """Raised inside work whose time is up or that nobody waits for."""


class Deadline(TorchFunctionMode):
    """A context in which torch's operations raise `Overdue` once the time is up. It changes no value; a few µs an operation.

    A thread cannot be stopped from outside. An error at an operation, though, is what every stage must bear anyway (memory may run out
    there), so that hooks come off and locks are freed. An operation that has begun is not cut.

    Args:
        until: on `time.monotonic`'s clock.
        gone: whether nobody waits any more.
    """

    def __init__(self, until: float, gone: Callable[[], bool] = lambda: False) -> None:
        super().__init__()
        self._until, self._gone = until, gone

    def check(self) -> None:
        """Raise `Overdue` if it is time."""
        if time.monotonic() > self._until or self._gone():
            raise Overdue

    def __torch_function__(
        self, func: Any, types: Iterable[Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """See torch."""
        self.check()
        return func(*args, **(kwargs or {}))
