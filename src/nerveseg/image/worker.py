"""The decoding process, ``python -m nerveseg.image.worker``, which `nerveseg.image.readers` starts. It does not import torch.

Descriptor 0 is a socket to the process that started it. A message is a head (JSON) and a body, with the lengths of both before them: the
worker says that it is there, then answers each request (a path, or the bytes of a file) with what `load_image` says, and the pixels. It
ends when the other side does, also while an image is decoded.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any

from PIL import AvifImagePlugin

from nerveseg.errors import ImageTooLarge, NerveSegError
from nerveseg.image import container
from nerveseg.image.load import LoadedImage, load_image
from nerveseg.image.opening import head
from nerveseg.image.process import HEAD

__all__ = ["main"]

_MIB = 1 << 20
_THREADS = 2  # of a decoder that would take one a core, with a stack each
_SMALL = 192 * _MIB  # resident bytes beyond which a process ends after its answer, so that memory goes back


def main() -> int:
    """Answer requests until the other side is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the one that started this, which may still have images to read
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    AvifImagePlugin.DEFAULT_MAX_THREADS = _THREADS
    door = socket.socket(fileno=0)
    with door, door.makefile("rb") as incoming, suppress(ConnectionError):
        door.sendall(HEAD.pack(0, 0))
        while len(start := incoming.read(HEAD.size)) == HEAD.size:
            asked, body = (incoming.read(size) for size in HEAD.unpack(start))
            said, pixels = _answer(json.loads(asked), body, door)
            del body
            text = json.dumps(said).encode()
            door.sendall(HEAD.pack(len(text), len(pixels)) + text)
            door.sendall(pixels)
            del pixels
            if _resident() > _SMALL:
                break
    return 0


def _answer(asked: dict[str, Any], body: bytes, door: socket.socket) -> tuple[dict[str, Any], Any]:
    """One image within its bounds. An error of ours is an answer; any other one ends the process, and the other side says so."""
    source = body if asked["path"] is None else Path(asked["path"])
    given, budget = asked["given"], asked["budget"]
    try:
        with _ending_with(door), _bounds(budget, 0) as lift:
            lift(budget, min(given["max_pixels"], _stated(source, given["max_pixels"])))
            image = load_image(source, **given)
    except (NerveSegError, MemoryError) as error:
        told = _too_much(asked) if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError) else error
        return {"error": type(told).__name__, "message": str(told)}, b""
    facts = {field.name: getattr(image, field.name) for field in fields(LoadedImage) if field.name not in ("pixels", "made")}
    return {"size": image.size, "picture": facts}, image.pixels.reshape(-1).data


def _stated(source: bytes | Path, max_pixels: int) -> int:
    """Pixels that the file's head states; 0 for none. What is wrong with it is told when it is read."""
    with suppress(NerveSegError, OSError, ValueError), _opened(source) as file:
        container.check(file, "an image", max_pixels)
        file.seek(0)
        height, width = head(file.read(), "an image").size
        return height * width
    return 0


def _opened(source: bytes | Path) -> BufferedIOBase:
    return BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _too_much(asked: dict[str, Any]) -> ImageTooLarge:
    budget = asked["budget"]
    return ImageTooLarge(
        f"Got {asked['where']}, whose decoding takes more memory than is lent. Accepted are {budget['mib']} MiB, and "
        f"{budget['bytes_a_pixel']} bytes for each pixel that it states. Save it again as PNG or baseline JPEG."
    )


@contextmanager
def _ending_with(door: socket.socket) -> Iterator[None]:
    """While the block runs the kernel ends this process when the other side is gone: a decoder need not let Python look.

    A socket with O_ASYNC set sends SIGIO when it has something to say, which here is its end alone: nobody writes before the answer.
    """
    number = door.fileno()
    before = fcntl.fcntl(number, fcntl.F_GETFL)
    fcntl.fcntl(number, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(number, fcntl.F_SETFL, before | os.O_ASYNC)
    try:
        if select.select([door], [], [], 0)[0]:  # gone before the signal was asked for
            raise ConnectionError
        yield
    finally:
        fcntl.fcntl(number, fcntl.F_SETFL, before)


@contextmanager
def _bounds(budget: dict[str, float], pixels: int) -> Iterator[Any]:
    """Memory, and processor time, that the block may take; gives what sets them anew. Past the time the kernel ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent, held = used.ru_utime + used.ru_stime, _data()

    def lift(budget: dict[str, float], pixels: int) -> None:
        seconds = budget["seconds"] + budget["seconds_a_megapixel"] * pixels / 1e6
        room = budget["mib"] * _MIB + budget["bytes_a_pixel"] * pixels
        _soft(resource.RLIMIT_CPU, math.ceil(spent + seconds))
        if held is not None:
            _soft(resource.RLIMIT_DATA, held + int(room))

    lift(budget, pixels)
    try:
        yield lift
    finally:
        _soft(resource.RLIMIT_DATA, None)
        _soft(resource.RLIMIT_CPU, None)


def _soft(which: int, value: int | None) -> None:
    """Set a soft limit, as far as the hard one lets; None: to that."""
    hard = resource.getrlimit(which)[1]
    if value is None or (hard != resource.RLIM_INFINITY and value > hard):
        value = hard
    resource.setrlimit(which, (value, hard))


def _statm(field: int) -> int | None:
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[field]) * resource.getpagesize()
    except OSError:  # no Linux: its kernel would not hold the limit either
        return None


def _data() -> int | None:
    """Bytes of this process that RLIMIT_DATA counts; None where the kernel does not say."""
    return _statm(5)


def _resident() -> int:
    return _statm(1) or 0


if __name__ == "__main__":
    sys.exit(main())
