"""HTTP as uvicorn speaks it, with bounds that it has not: on the time of a head, answers that nobody reads, connections, the log."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["ConnectionLimits", "Timed", "most_connections", "seldom", "timed"]

_LOOK = 1.0  # seconds between two looks at what lies unread
_SPARE = 48  # file descriptors that are left for images, models and caches
_FEWEST = 8
_SHED = 4  # connections, or half of all, that are cut where the system gives no more
_TELLS, _WITHIN = 5, 10.0  # log records of one kind, and the seconds in which so many pass
_FULL = (
    b'{"type": "urn:nerveseg:problem:full", "title": "Service Unavailable", "status": 503, '
    b'"detail": "Got more connections than there is room for. Accepted is what comes later. Try again in a moment."}'
)
_TOLD_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-type: application/problem+json\r\n"
    b"content-length: " + str(len(_FULL)).encode() + b"\r\n\r\n" + _FULL
)


class ConnectionLimits:
    """The connections of one server: so many at most, and none for which nothing is done any more.

    Args:
        most: connections at one time.
        seconds: that an answer may lie unread.
        rate: bytes a second that are added to the time for a long one.
    """

    def __init__(self, most: int, seconds: float, rate: float = 256 << 10) -> None:
        self.most, self.seconds, self.rate = most, seconds, rate
        self._here: dict[Timed, float] = {}  # since when each is without a request in hand

    def __len__(self) -> int:
        return len(self._here)

    def enter(self, one: Timed) -> bool:
        """Take a connection; where there are too many one without a request goes for it. False: there is none, and no room."""
        if len(self._here) >= self.most and not self.shed(1):
            return False
        if not self._here:
            one.loop.call_later(_LOOK, self._look)
        self._here[one] = time.monotonic()
        return True

    def leave(self, one: Timed) -> None:
        """Forget a connection."""
        self._here.pop(one, None)

    def shed(self, count: int) -> int:
        """Cut those that have been longest without a request in hand; gives how many."""
        idle = sorted((each for each in self._here if not each.in_hand), key=lambda each: each.idle_since)[:count]
        for each in idle:
            each.cut()
        return len(idle)

    def out_of_resources(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle what an event loop could not: make room where it has no file descriptor; asyncio tries again a second later."""
        if "accept() out of system resource" in str(context.get("message")):
            self.shed(max(_SHED, len(self) // 2))
        loop.default_exception_handler(context)

    def _look(self) -> None:
        now = time.monotonic()
        for each in tuple(self._here):
            each.look(now)
        if self._here:
            asyncio.get_running_loop().call_later(_LOOK, self._look)


class Timed(H11Protocol):
    """One connection. Inherited from uvicorn's protocol, which has no other place to say it.

    Attributes:
        seconds: from a connection's start, or the first byte of a later request, to the end of its head.
        crowd: where it belongs.
        idle_since: when it was last without a request in hand.
    """

    seconds: float = 20.0
    crowd: ConnectionLimits
    idle_since: float = 0.0
    _waiting: asyncio.TimerHandle | None = None
    _unread: tuple[float, int] | None = None  # since when, and how many bytes then
    _before: int = 0
    _resumed: bool = False

    @property
    def in_hand(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        """See asyncio."""
        super().connection_made(transport)
        self.idle_since = time.monotonic()
        if not self.crowd.enter(self):
            transport.write(_TOLD_FULL)
            transport.close()
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """See uvicorn."""
        self.idle_since = time.monotonic()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._unwatch()
        self.crowd.leave(self)
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """See asyncio: the client has read."""
        self._resumed = True
        super().resume_writing()

    def look(self, now: float) -> None:
        """Cut it where an answer lies unread: a whole one, or one broken off, for so long in all; one that grows, without a byte read."""
        size = self.transport.get_write_buffer_size()
        whole = self.transport.is_closing() or not self.in_hand
        moved = not whole and (self._resumed or size < self._before)
        if size == 0 or moved:
            self._unread = None
        elif self._unread is None:
            self._unread = now, size
        elif now - self._unread[0] > self.crowd.seconds + self._unread[1] / self.crowd.rate:
            self.cut()
        self._before, self._resumed = size, False

    def cut(self) -> None:
        """End it at once; what was not read is lost."""
        self.crowd.leave(self)
        self.transport.abort()

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._unwatch()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(self.seconds, self.cut)

    def _unwatch(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


def timed(seconds: float, crowd: ConnectionLimits) -> type[Timed]:
    """The protocol with another time, in a crowd."""
    return type("Timed", (Timed,), {"seconds": seconds, "crowd": crowd})


def most_connections(asked: int) -> int:
    """So many, or as many as this process's limit of open files leaves room for."""
    if sys.platform == "win32":
        return asked
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return asked
    opened = Path("/proc/self/fd")
    held = len(tuple(opened.iterdir())) if opened.is_dir() else _SPARE
    return max(_FEWEST, min(asked, soft - held - _SPARE))


def seldom(clock: Callable[[], float] = time.monotonic) -> Callable[[logging.LogRecord], bool]:
    """A filter for a logger: of records of one kind it lets a few through in a while, so that nobody fills a disk by failing often."""
    told: dict[str, tuple[float, int]] = {}

    def passes(record: logging.LogRecord) -> bool:
        kind = f"{record.pathname}:{record.lineno}"  # a place in a program: there are few
        since, count = told.get(kind, (clock(), 0))
        if clock() - since > _WITHIN:
            since, count = clock(), 0
        told[kind] = since, count + 1
        return count < _TELLS

    return passes
