"""A cache of encodings under unguessable handles: they expire, and the least recently used goes first."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nerveseg.server.problems import Problem

__all__ = ["Handles", "Kept"]

_REMEMBERED = 4096  # names of encodings that are gone, so that 410 can be told from 404


@dataclass(frozen=True, eq=False)
class Kept:
    """One encoding.

    Attributes:
        encoding: what the networks said of an image.
        worker: index of the worker whose device it lies on.
        until: when it goes if nobody uses it, on the store's clock.
    """

    encoding: Any
    worker: int
    until: float


@dataclass(eq=False)
class Handles:
    """A store of encodings. For one thread: the server's event loop.

    Attributes:
        seconds: how long one is kept after its last use.
        room: bytes of all of them.
        clock: seconds, never going back.
    """

    seconds: float
    room: int
    clock: Callable[[], float] = time.monotonic
    bytes: int = 0
    _kept: OrderedDict[str, Kept] = field(default_factory=OrderedDict)
    _gone: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, encoding: Any, worker: int) -> str:
        """Keep an encoding; others go where there is no room. Gives its name.

        Raises:
            Problem: 413, where it alone is larger than the room.
        """
        if encoding.bytes > self.room:
            raise Problem(
                413,
                "encoding-size",
                f"Got an image whose encoding takes {encoding.bytes:,} bytes. Accepted are {self.room:,}. "
                "Shrink the image, or send it to /v1/segment.",
            )
        self.sweep()
        while self.bytes + encoding.bytes > self.room:
            self._drop(next(iter(self._kept)))
        name = secrets.token_urlsafe(24)
        self._kept[name] = Kept(encoding, worker, self.clock() + self.seconds)
        self.bytes += encoding.bytes
        return name

    def get(self, name: str) -> Kept:
        """The encoding of that name, whose time begins anew.

        Raises:
            Problem: 410 for one that is gone, 404 for one that never was (or is long gone).
        """
        self.sweep()
        found = self._kept.get(name)
        if found is None:
            raise self._absent(name)
        self._kept[name] = Kept(found.encoding, found.worker, self.clock() + self.seconds)
        self._kept.move_to_end(name)
        return found

    def remove(self, name: str) -> None:
        """Forget one; errors as `get`."""
        self.sweep()
        if name not in self._kept:
            raise self._absent(name)
        self._drop(name)

    def sweep(self) -> None:
        """Let those go whose time is over."""
        now = self.clock()
        while self._kept and next(iter(self._kept.values())).until <= now:  # in the order of their last use, so of their ends
            self._drop(next(iter(self._kept)))

    def _drop(self, name: str) -> None:
        self.bytes -= self._kept.pop(name).encoding.bytes
        self._gone[name] = None
        while len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)

    def _absent(self, name: str) -> Problem:
        if name in self._gone:
            return Problem(
                410,
                "handle-gone",
                f"Got a handle that is gone. Accepted is one used in the last {self.seconds:g} seconds. "
                "Send the image to /v1/encode again.",
            )
        return Problem(404, "handle", "Got a handle that is not known here. Accepted is one that /v1/encode gave. Send the image there.")
