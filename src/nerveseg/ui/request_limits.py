"""Middleware: allow only those routes of Gradio's server that the page needs, with limits on size and time.

Gradio counts a file, not what is sent beside it, waits for slow senders for ever, and leaves what broke off or was made for a download
in its folder. The door stands in front of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.formparsers import MultiPartException

from nerveseg.server import origin

__all__ = ["MOST_BYTES", "Door", "Rules", "tidy"]

MOST_BYTES = 50 << 20
"""Bytes of a file that the page takes."""

_UPLOAD = "/gradio_api/upload"
_POST = (_UPLOAD, "/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset")
_GET = (
    *("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", "/gradio_api/theme.css", "/gradio_api/info"),
    *("/gradio_api/startup-events", "/gradio_api/queue/data", "/gradio_api/upload_progress", "/gradio_api/app_id"),
)
_GET_BELOW = ("/assets/", "/static/", "/svelte/", "/gradio_api/file=", "/gradio_api/heartbeat/")
_LINGER = 1.0  # seconds that what a refused sender still sends is thrown away, so that the answer can be read
_LOG = logging.getLogger("nerveseg.ui")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True)
class Rules:
    """How much, and for how long.

    Attributes:
        folder: where Gradio keeps what is sent and what is served.
        upload: bytes of a body that brings a file.
        body: bytes of any other.
        seconds: that a body may take, and as much more as it has brought at ``rate``: who sends nothing is cut off after them.
        rate: bytes a second.
        uploads: that may be on their way at one time.
        room: bytes of ``folder``; older files go to make room.
        keep: seconds that a file is kept.
        young: seconds in which it is kept even where there is no room.
        hosts: names that a ``Host`` header may have, beside addresses where the door is open.
        public: names under which a proxy shows the page.
        addresses: whether any address may be a host: where others reach the page.
    """

    folder: Path
    hosts: frozenset[str] = frozenset({"localhost", "127.0.0.1", "::1"})
    public: frozenset[str] = frozenset()
    addresses: bool = False
    upload: int = MOST_BYTES + (64 << 10)
    body: int = 256 << 10
    seconds: float = 15.0
    rate: float = 32 << 10
    uploads: int = 32
    room: int = 1 << 30
    keep: float = 3600.0
    young: float = 60.0


class Door:
    """ASGI middleware.

    Args:
        app: Gradio's.
        rules: what may pass.
    """

    def __init__(self, app: Any, rules: Rules) -> None:
        self._app, self._rules = app, rules
        self._uploads = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let one request in, or say why not."""
        if scope["type"] == "websocket":  # the page has none, and nobody's origin is asked there
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        upload = scope["path"] == _UPLOAD
        body = _Body(receive, dict(scope["headers"]), self._rules.upload if upload else self._rules.body, self._rules)
        answer = _Answer(send, body)
        self._uploads += upload
        try:
            refused = await self._refused(scope, body, upload=upload) or await self._pass(scope, body, answer)
        finally:
            self._uploads -= upload
        if refused is not None and not answer.started:
            await answer.tell(*refused)
            await body.throw_away()
            await send({"type": "http.response.body", "body": b""})

    async def _refused(self, scope: Message, body: _Body, *, upload: bool) -> tuple[int, str] | None:
        headers = dict(scope["headers"])
        host = origin.host_of(headers)
        if host not in self._rules.hosts | self._rules.public and not (self._rules.addresses and origin.is_address(host)):
            return (
                421,
                "Got a Host that is not this page's. Accepted is the address it listens on. Use that, or start it with --public-host.",
            )
        if origin.foreign(headers, self._rules.public):
            return 403, "Got a request from another site's page, or another port's. Accepted are this page's own. Open the page itself."
        if not _known(scope["method"], scope["path"]):
            return 404, "Got an address that is not here. Accepted is the page's own. Open the page."
        if body.too_long():
            return body.refused
        if upload and self._uploads > self._rules.uploads:
            return 503, "Got more files than can be received at one time. Accepted is what comes later. Try again in a moment."
        if upload and not await asyncio.to_thread(tidy, self._rules):
            return 503, "Got a file for which there is no room now. Accepted is what comes later. Try again in a minute."
        return None

    async def _pass(self, scope: Message, body: _Body, answer: _Answer) -> tuple[int, str] | None:
        try:
            await self._app(scope, body.receive, answer.send)
        except Exception:  # the last place before the server's own plain text
            if body.ended:
                return body.refused
            _LOG.exception("The page failed at %s.", scope["path"][:200])
            return 500, "Got an error that nerveseg did not expect. The log of `nerveseg app` says more."
        return body.refused


_SKEW = 60.0  # seconds that the disk's clock may be ahead of this one


class _Body:
    """A request's body: counted, and timed while it comes. Where it ends early those who read it get the error that makes Gradio drop the
    file.

    Attributes:
        refused: status and sentence, where it was.
        ended: whether it was refused, or its sender went away.
    """

    def __init__(self, receive: Receive, headers: dict[bytes, bytes], limit: int, rules: Rules) -> None:
        self._receive, self._limit, self._rate, self._until = receive, limit, rules.rate, time.monotonic() + rules.seconds
        self._length = headers.get(b"content-length", b"0")
        self.refused: tuple[int, str] | None = None
        self.ended = False
        self._complete, self._bytes = self._length == b"0" and b"transfer-encoding" not in headers, 0

    def too_long(self) -> bool:
        """Whether the head says so."""
        if self._length.isdigit() and int(self._length[:20]) > self._limit:
            self._refuse_long()
        return self.refused is not None

    async def receive(self) -> Message:
        """ASGI's receive."""
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._until + self._bytes / self._rate - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            self.refused = 408, "Got a file that did not arrive in time. Accepted is what comes at once. Send it again, or a smaller one."
            raise self._broken_off() from None
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._limit:
            self._refuse_long()
        if self.refused is not None or message["type"] == "http.disconnect":
            raise self._broken_off()
        self._complete = not message.get("more_body", False)
        return message

    async def throw_away(self) -> None:
        """Read on for a moment, as far as one body more, so that the answer is not lost in a reset."""
        try:
            async with asyncio.timeout(_LINGER):
                while not self._complete and self._bytes <= 2 * self._limit:
                    message = await self._receive()
                    self._bytes += len(message.get("body", b""))
                    self._complete = not message.get("more_body", False)
        except TimeoutError:
            return

    def _broken_off(self) -> MultiPartException:
        self.ended = True
        return MultiPartException("broken off")

    def _refuse_long(self) -> None:
        self.refused = 413, f"Got more than {self._limit:,} bytes. Accepted are as many. Send a smaller file."


class _Answer:
    """An answer on its way; what Gradio says of a body that ended early is dropped."""

    def __init__(self, send: Send, body: _Body) -> None:
        self._send, self._body = send, body
        self.started = False

    async def send(self, message: Message) -> None:
        """ASGI's send."""
        if not self._body.ended or self.started:
            await self._pass(message)

    async def _pass(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            message = {**message, "headers": [*message.get("headers", ()), (b"x-content-type-options", b"nosniff")]}
        await self._send(message)

    async def tell(self, status: int, text: str) -> None:
        """Say why not, as plain text; the connection ends after it."""
        content = text.encode()
        kind = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(content)).encode()), (b"connection", b"close")]
        await self._pass({"type": "http.response.start", "status": status, "headers": kind})
        await self._pass({"type": "http.response.body", "body": content, "more_body": True})


def tidy(rules: Rules) -> bool:
    """Let files go whose time is over, then the oldest where they take more than there is room for.

    Returns:
        Whether a file of the largest size fits.
    """
    now, found = time.time(), list[tuple[float, int, Path]]()  # a time that is yet to come, by a clock that was set, is as old as it is far
    for path in rules.folder.rglob("*"):
        try:
            told = path.lstat()
        except OSError:  # gone meanwhile
            continue
        if not path.is_dir():
            found.append((abs(now - told.st_mtime), told.st_size, path))
        elif abs(now - told.st_mtime) > rules.keep:
            _drop(path.rmdir)
    held = sum(size for _, size, _ in found)
    for age, size, path in sorted(found, reverse=True):
        over = held > rules.room - rules.upload
        if age > (rules.young if over else rules.keep):
            _drop(path.unlink)
            held -= size
    return held <= rules.room - rules.upload


def _drop(call: Callable[[], object]) -> None:
    try:
        call()
    except OSError:  # gone meanwhile, or a folder with something in it
        return


def _known(method: str, path: str) -> bool:
    if method == "POST":
        return path in _POST
    return method in ("GET", "HEAD") and (path in _GET or path.startswith(_GET_BELOW))
