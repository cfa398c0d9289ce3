"""The networks of a segmenter with their lock: hooks are put on shared modules, so only one thread may run them at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

__all__ = ["SharedNetworks", "turn"]


class SharedNetworks(Mapping[str, Any]):
    """Kind → network, read-only, and a lock.

    A pass puts hooks on a network's modules, tokenizers keep settings, prompts are remembered: one model serves one pass at a time. Whoever
    passes through these networks holds `turn`; segmenters that share them share it.

    Args:
        networks: kind → network.
        turn: the lock of those whose networks these are; None makes one. The same thread may take it again.
    """

    def __init__(self, networks: Mapping[str, Any], turn: AbstractContextManager[Any] | None = None) -> None:
        self._networks = dict(networks)
        self.turn = threading.RLock() if turn is None else turn

    def __getitem__(self, name: str) -> Any:
        return self._networks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._networks)

    def __len__(self) -> int:
        return len(self._networks)


def turn(networks: Mapping[str, Any], otherwise: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
    """The lock that goes with networks; ``otherwise`` where they are a plain mapping."""
    return getattr(networks, "turn", otherwise)
