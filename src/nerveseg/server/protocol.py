"""HTTP as uvicorn speaks it, with a time in which a request's head must arrive: uvicorn itself would wait for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Timed", "timed"]


class Timed(H11Protocol):
    """One connection. Inherited from uvicorn's protocol, which has no other place to say it.

    Attributes:
        seconds: from a connection's start, or the first byte of a later request, to the end of its head.
    """

    seconds: float = 20.0
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """See asyncio."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._unwatch()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(self.seconds, self._cut)

    def _unwatch(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _cut(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()


def timed(seconds: float) -> type[Timed]:
    """The protocol with another time."""
    return type("Timed", (Timed,), {"seconds": seconds})
