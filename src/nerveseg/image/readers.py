"""Decode images in separate processes with limits on memory and CPU time.

`load_image` decodes in the calling process. For uploads, and for folders of thousands of files, use `Readers`: a decoder that hangs cannot
be stopped from another thread, but its process can be killed. The processes are kept warm, and end with this one.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nerveseg import errors
from nerveseg.errors import ImageError, ImageTooLarge, RunError
from nerveseg.image.load import MAX_PIXELS, LoadedImage, load_image
from nerveseg.image.process import Died, Process

__all__ = ["Budget", "Readers", "Readings"]

_LOOK = 0.1  # seconds between two looks of one that waits
_LEAST = 8.0  # seconds that an image which takes long is given before it makes room


@dataclass(frozen=True)
class Budget:
    """What the decoding of one image may take.

    Attributes:
        seconds: of the processor.
        seconds_a_megapixel: more of them, for each million pixels that the file states.
        mib: MiB of memory beyond what the idle process takes.
        bytes_a_pixel: more of it, for each pixel that the file states.
    """

    seconds: float = 4.0
    seconds_a_megapixel: float = 0.6
    mib: int = 256
    bytes_a_pixel: int = 40


@dataclass(frozen=True)
class Readings:
    """How the readers are, at one moment.

    Attributes:
        busy: images that are read, and have not taken long.
        slow: images that take long: they no longer keep others waiting.
        waiting: images that wait for a reader.
        ended: processes that had to be ended, or died, so far.
        failed: whether the last process that was started did not come up.
    """

    busy: int
    slow: int
    waiting: int
    ended: int
    failed: bool


@dataclass(eq=False)
class _Turn:
    """One image's turn."""

    slow_since: float | None = None
    ended: bool = False


class Readers:
    """Processes that read images, started when they are needed first. Any thread may call; each call waits for its image.

    An image that takes longer than ``quick`` seconds goes on at low priority beside the others and gives its place to those that wait.
    Where too many take long the one that has taken longest is ended, once it has had some seconds.

    Args:
        most: images that are read at one time.
        slow: images that take long, beside them.
        budget: of each.
        quick: seconds after which an image takes long.
    """

    def __init__(self, most: int = 2, slow: int = 4, budget: Budget | None = None, quick: float = 1.0) -> None:
        self._most, self._slow_most, self._budget, self._quick = max(1, most), max(1, slow), budget or Budget(), quick
        self._changed = threading.Condition()
        self._busy = self._waiting = self._ended = 0
        self._failed = self._closed = False
        self._slow: list[_Turn] = []
        self._idle: list[Process] = []
        self._all: set[Process] = set()
        self._end = weakref.finalize(self, _end_all, self._all, os.getpid())

    @property
    def readings(self) -> Readings:
        """How they are."""
        with self._changed:
            return Readings(self._busy, len(self._slow), self._waiting, self._ended, self._failed)

    @property
    def closed(self) -> bool:
        """Whether they were ended for good."""
        return self._closed

    def warm(self, count: int = 1) -> None:
        """Start processes ahead.

        Raises:
            RunError: one does not come up.
        """
        if os.name == "posix":
            made = [self._process() for _ in range(min(count, self._most))]
            with self._changed:
                self._idle += made

    def close(self) -> None:
        """End the processes; images that are being read fail, and so does every later call."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._end()

    def read(
        self,
        source: bytes | str | Path,
        *,
        max_pixels: int = MAX_PIXELS,
        name: str | None = None,
        until: float = float("inf"),
        gone: Callable[[], bool] = lambda: False,
        **choice: Any,
    ) -> LoadedImage:
        """Read one image; `load_image` in another process.

        Args:
            source: the bytes of an image file, or its path.
            max_pixels: as `load_image` has it.
            name: likewise.
            until: when it has to be there, on `time.monotonic`'s clock.
            gone: whether nobody waits for it any more; asked ten times a second.
            choice: whatever else `load_image` takes, as plain numbers and lists of them.

        Raises:
            ImageError: as `load_image`; an image whose decoding takes too long, or breaks the decoder. ImageTooLarge: one with too
                many pixels, or that takes too much memory. TimeoutError: ``until`` is over, or ``gone``. RunError: no process comes up.
        """
        if os.name != "posix":  # neither sockets as standard input nor limits
            return load_image(source, max_pixels=max_pixels, name=name, **choice)
        given = bytes(source) if isinstance(source, (bytes, bytearray, memoryview)) else source
        asked = {"given": {"max_pixels": max_pixels, "name": name, **choice}, "where": _where(given), "budget": asdict(self._budget)}
        turn = _Turn()
        self._enter(until, gone)
        try:
            process = self._taken()
            try:
                self._check(until, gone)  # it may have been started just now
            except TimeoutError:
                self._keep(process, turn)
                raise
            started = time.monotonic()
            try:
                image = process.ask(asked, given, lambda: self._look(turn, process, started, until, gone))
            except Died as death:
                self._drop(process, died=True)
                raise self._why(death, turn, asked["where"], time.monotonic() - started) from death
            except errors.NerveSegError:
                self._keep(process, turn)
                raise
            except BaseException:
                self._drop(process, died=True)
                raise
            self._keep(process, turn)
            return image
        finally:
            self._leave(turn)

    def _enter(self, until: float, gone: Callable[[], bool]) -> None:
        """Wait for a place."""
        with self._changed:
            self._waiting += 1
            try:
                while self._busy >= self._most:
                    self._check(until, gone)
                    self._changed.wait(_LOOK)
                self._check(until, gone)
                self._busy += 1
            finally:
                self._waiting -= 1

    def _leave(self, turn: _Turn) -> None:
        with self._changed:
            if turn in self._slow:
                self._slow.remove(turn)
            else:
                self._busy -= 1
            self._changed.notify_all()

    def _check(self, until: float, gone: Callable[[], bool]) -> None:
        if self._closed:
            raise RunError("Got an image for readers that were closed. Accepted is none after their end. Make others.")
        if time.monotonic() > until or gone():
            raise TimeoutError

    def _look(self, turn: _Turn, process: Process, started: float, until: float, gone: Callable[[], bool]) -> None:
        """Whether the work may go on; an image that takes long makes room."""
        now = time.monotonic()
        with self._changed:
            self._check(until, gone)
            if turn.slow_since is None and now - started > self._quick:
                if len(self._slow) >= self._slow_most:
                    oldest = self._slow[0]
                    oldest.ended = oldest.ended or (self._waiting > 0 and now - (oldest.slow_since or now) > _LEAST)
                else:
                    turn.slow_since = now
                    self._slow.append(turn)
                    self._busy -= 1
                    process.wait_for_others()
                    self._changed.notify_all()
        if turn.ended:
            raise Died(None, "")

    def _taken(self) -> Process:
        while True:
            with self._changed:
                found = self._idle.pop() if self._idle else None
            if found is None:
                return self._process()
            if found.alive:
                return found
            self._drop(found)

    def _process(self) -> Process:
        try:
            made = Process()
        except RunError:
            self._failed = True
            raise
        self._failed = False
        with self._changed:
            self._all.add(made)
            closed = self._closed
        if closed:
            self._drop(made)
            self._check(float("inf"), lambda: False)
        return made

    def _keep(self, process: Process, turn: _Turn) -> None:
        """Back to those that wait for work; one that was made to wait for others cannot be put back, and ends."""
        if turn.slow_since is not None or self._closed:
            self._drop(process)
            return
        process.hush()
        with self._changed:
            self._idle.append(process)

    def _drop(self, process: Process, *, died: bool = False) -> None:
        process.end()
        with self._changed:
            self._all.discard(process)
            self._ended += died

    def _why(self, death: Died, turn: _Turn, where: str, seconds: float) -> Exception:
        """What a process's death says of its image."""
        advice = "Accepted is an image that decodes in a few seconds. Save it again as PNG or baseline JPEG, or shrink it."
        if self._closed:
            return RunError(f"Got {where} while the readers were closed. Accepted is none after their end. Make others.")
        if turn.ended:
            return ImageError(f"Got {where}, whose decoding took {seconds:.0f} s while others waited, and was ended. {advice}")
        if death.code == -signal.SIGXCPU:
            return ImageError(f"Got {where}, whose decoding took more processor time than is lent, and was ended. {advice}")
        if death.code == -signal.SIGKILL or "MemoryError" in death.said:
            return ImageTooLarge(f"Got {where}, whose decoding took more memory than there is, and was ended. {advice}")
        what = signal.Signals(-death.code).name if death.code is not None and death.code < 0 else f"exit {death.code}"
        last = death.said.strip().rpartition("\n")[2][:200]
        return ImageError(f"Got {where}, which broke its decoder ({', '.join(filter(None, [what, last]))}). {advice}")


def _where(source: bytes | str | Path) -> str:
    return f"{len(source):,} bytes" if isinstance(source, bytes) else repr(str(source)[:200])


def _end_all(processes: set[Process], owner: int) -> None:
    if os.getpid() == owner:  # a fork of that one owns none
        for process in list(processes):
            process.end()
