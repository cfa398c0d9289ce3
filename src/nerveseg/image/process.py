"""The parent's side of one decoding process: requests, answers, and how it is ended."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nerveseg import errors
from nerveseg.errors import ImageError, RunError
from nerveseg.image.load import LoadedImage

__all__ = ["HEAD", "Died", "Process"]

HEAD = struct.Struct("!QQ")
"""Before each message: bytes of its head, which is JSON, and of its body."""

_STARTING = 60.0  # seconds that a process may take to be there, on a machine that is busy
_ENDING = 5.0  # seconds in which one that has closed its side is gone
_LOOK = 0.1  # seconds between two looks at whether the work may go on
_NICE = 10  # of a process whose image takes long
_LONGEST_HEAD = 1 << 24
_LOG = 1 << 16  # bytes of what decoders say that are kept


class Died(Exception):
    """The process ended before it answered: its exit code, None where it has to be ended, and what it said."""

    def __init__(self, code: int | None, said: str) -> None:
        super().__init__(code, said)
        self.code, self.said = code, said


class Process:
    """One reading process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._door, other = socket.socketpair()
        self._log, said = os.pipe()
        os.set_blocking(self._log, False)
        os.set_blocking(said, False)  # what decoders say past its room is lost, and holds nobody up
        places = [place for place in sys.path if isinstance(place, str) and place]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-P", "-W", "ignore", "-m", "nerveseg.image.worker"]
        try:
            with other:
                self._child = subprocess.Popen(command, stdin=other.fileno(), stdout=subprocess.DEVNULL, stderr=said, env=environment)  # noqa: S603  (our own module)
        except OSError as error:
            self._door.close()
            os.close(self._log)
            raise RunError(
                f"Got no process that reads images ({error.strerror or error}). Accepted is one more. Free processes, files and memory."
            ) from error
        finally:
            os.close(said)
        until = time.monotonic() + _STARTING
        try:
            self._fill(memoryview(bytearray(HEAD.size)), lambda: _on_time(until))
        except (Died, TimeoutError) as error:
            text = error.said if isinstance(error, Died) else f"not there after {_STARTING:g} s"
            self.end()
            raise RunError(
                f"Got a reading process that did not come up ({text.strip().rpartition(chr(10))[2][:200]}). Accepted is one that does. "
                "Try `python -m nerveseg.image.worker < /dev/null`."
            ) from error

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._child.poll() is None

    def ask(self, asked: dict[str, Any], source: bytes | str | Path, look: Callable[[], None]) -> LoadedImage:
        """Have an image read; ``look`` is called now and then, and may raise."""
        body = source if isinstance(source, bytes) else b""
        text = json.dumps({**asked, "path": None if isinstance(source, bytes) else str(source)}).encode()
        self._send(memoryview(HEAD.pack(len(text), len(body)) + text), look)
        self._send(memoryview(body), look)
        start = bytearray(HEAD.size)
        self._fill(memoryview(start), look)
        head_size, body_size = HEAD.unpack(start)
        content = bytearray(min(head_size, _LONGEST_HEAD))
        self._fill(memoryview(content), look)
        told = json.loads(content)
        if "error" in told:
            kind = getattr(errors, told["error"]) if told["error"] in errors.__all__ else ImageError
            raise kind(told["message"])
        height, width = told["size"]
        if height * width > asked["given"]["max_pixels"] or height * width * 3 != body_size:
            raise Died(None, "an answer of another size")
        pixels = np.empty((height, width, 3), np.uint8)
        self._fill(pixels.reshape(-1).data, look)
        pixels.setflags(write=False)
        facts: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in told["picture"].items()}
        return LoadedImage(pixels, **facts)

    def wait_for_others(self) -> None:
        """Go on at low priority."""
        if self.alive:
            os.setpriority(os.PRIO_PROCESS, self._child.pid, _NICE)

    def hush(self) -> None:
        """Forget what its decoders said."""
        self._said()

    def end(self) -> None:
        """End it, if it still runs."""
        with self._lock:
            self._child.kill()
            self._child.wait()
            self._door.close()
            if self._log >= 0:
                os.close(self._log)
                self._log = -1

    def _send(self, view: memoryview, look: Callable[[], None]) -> None:
        while view:
            self._wait(look, select.POLLOUT)
            try:
                view = view[self._door.send(view, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._death() from error

    def _fill(self, view: memoryview, look: Callable[[], None]) -> None:
        while view:
            self._wait(look, select.POLLIN)
            try:
                count = self._door.recv_into(view)
            except OSError as error:
                raise self._death() from error
            if not count:
                raise self._death()
            view = view[count:]

    def _wait(self, look: Callable[[], None], event: int) -> None:
        poll = select.poll()
        try:
            poll.register(self._door, event)
        except ValueError as error:  # ended by another thread
            raise self._death() from error
        while not poll.poll(_LOOK * 1000):
            look()

    def _death(self) -> Died:
        try:
            code = self._child.wait(_ENDING)
        except subprocess.TimeoutExpired:
            code = None
        return Died(code, self._said())

    def _said(self) -> str:
        with self._lock:
            try:
                return os.read(self._log, _LOG).decode("utf-8", "backslashreplace") if self._log >= 0 else ""
            except BlockingIOError:
                return ""


def _on_time(until: float) -> None:
    if time.monotonic() > until:
        raise TimeoutError
