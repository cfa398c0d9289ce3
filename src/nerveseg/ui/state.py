"""Per-visitor state (a desk): the encoded image, words and clicks. Desks expire, and are never shared."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from nerveseg.clicks import Click, Correction
from nerveseg.errors import ImageError
from nerveseg.segmentation import Segmentation
from nerveseg.segmenter import Encoding
from nerveseg.words.vocabulary import Background, Vocabulary

__all__ = ["Desk", "Desks", "Wish"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Wish:
    """What a visitor asks of an image.

    Attributes:
        vocabulary: the labels.
        background: what stands for the rest, or None.
        settings: knobs by dotted name that differ from the recipe's.
    """

    vocabulary: Vocabulary
    background: Background | None = None
    settings: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, eq=False)
class Desk:
    """What one visitor has before them; every change makes another.

    Attributes:
        encoding: what the networks said of the image.
        wish: what was asked last; None before anything was.
        result: the answer.
        clicks: clicks so far.
        start: the correction without a click, made at the first one.
        trail: the last corrections, newest last, each without those before it.
        passes: times that networks have seen an image of this visitor.
        undone: clicks that were taken back, the last one last.
        key: a secret of the visitor's tab, by which it finds the desk again after a reload.
        fields: what the page's fields said when it was labelled.
    """

    encoding: Encoding
    wish: Wish | None = None
    result: Segmentation | None = None
    clicks: tuple[Click, ...] = ()
    start: Correction[Segmentation] | None = None
    trail: tuple[Correction[Segmentation], ...] = ()
    passes: int = 1
    undone: tuple[Click, ...] = ()
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    fields: tuple[Any, ...] = ()

    @property
    def bytes(self) -> int:
        """About what it holds in memory."""
        results = [step.result for step in (*self.trail, *filter(None, [self.start]))]
        if not results and self.result is not None:
            results = [self.result]
        held = self.encoding.bytes + sum(_bytes_of(result) for result in results)
        S = None if self.start is None else self.start.ground.S
        return held + (0 if S is None else 4 * S.n * S.n)  # the folded matrix, where it is made


@dataclass(eq=False)
class Desks:
    """Desks by visitor; the one used longest ago goes first where there is no room. Any thread may call.

    Args:
        room: bytes of all of them.
        seconds: how long one is kept after its last use.
        closed: how long one is kept after its page was closed, or is loaded anew.
        clock: seconds, never going back.
    """

    room: int = 2 << 30
    seconds: float = 3600.0
    closed: float = 120.0
    clock: Callable[[], float] = time.monotonic
    _kept: OrderedDict[str, tuple[Desk, float]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """About what all of them hold in memory."""
        return sum(desk.bytes for desk, _ in list(self._kept.values()))

    def get(self, visitor: str) -> Desk:
        """The visitor's desk, whose time begins anew.

        Raises:
            ImageError: there is none, or it is gone.
        """
        with self._lock:
            self._sweep()
            if visitor not in self._kept:
                raise ImageError(
                    f"Got no image, or one that was let go: they are kept for {self.seconds / 60:g} minutes, while there is room. "
                    "Accepted is an image. Drop one on the page, again if need be."
                )
            desk, _ = self._kept.pop(visitor)
            self._kept[visitor] = desk, self.clock() + self.seconds
        return desk

    def put(self, visitor: str, desk: Desk) -> Desk:
        """Keep the visitor's desk in place of the one before; others go where there is no room.

        Raises:
            ImageError: it alone is larger than the room.
        """
        size = desk.bytes
        with self._lock:
            self._kept.pop(visitor, None)
            if size > self.room:
                raise ImageError(
                    f"Got an image that takes {size:,} bytes of memory here. Accepted are {self.room:,}. Shrink it, and drop it again."
                )
            self._kept[visitor] = desk, self.clock() + self.seconds
            self._sweep()
            while self.bytes > self.room:
                self._kept.popitem(last=False)
        return desk

    def drop(self, visitor: str) -> None:
        """Forget a visitor."""
        with self._lock:
            self._kept.pop(visitor, None)

    def leave(self, visitor: str) -> None:
        """Keep a visitor's desk for a moment more: the page was closed, or will be back under another name."""
        with self._lock:
            found = self._kept.pop(visitor, None)
            if found is not None:
                self._kept[visitor] = found[0], min(found[1], self.clock() + self.closed)
                self._kept.move_to_end(visitor, last=False)

    def claim(self, key: str, visitor: str) -> Desk | None:
        """Give a desk to a visitor who knows its key; None where there is none of it."""
        with self._lock:
            self._sweep()
            names = [
                name for name, (desk, _) in self._kept.items() if hmac.compare_digest(desk.key.encode(), key.encode("utf-8", "replace"))
            ]
            if not names:
                return None
            desk, _ = self._kept.pop(names[0])
            self._kept[visitor] = desk, self.clock() + self.seconds
        return desk

    def sweep(self) -> None:
        """Let those go whose time is over."""
        with self._lock:
            self._sweep()

    def _sweep(self) -> None:
        now = self.clock()
        for visitor in [name for name, (_, until) in self._kept.items() if until <= now]:
            del self._kept[visitor]


def _bytes_of(result: Segmentation) -> int:
    tensors = [result.segmentation, result.probabilities, *filter(lambda each: each is not None, [result.refined])]
    return sum(tensor.nbytes for tensor in tensors) + (result.odds.bytes if result.odds is not None else 0)
