"""Middleware: authentication, size and time limits of requests, and a problem document for uncaught errors."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import ClientDisconnect

from nerveseg.server import origin, problems
from nerveseg.server.deadline import Overdue
from nerveseg.server.problems import Problem
from nerveseg.server.service import Service

__all__ = ["INSTANCE", "UNTIL", "Guard"]

INSTANCE, UNTIL = "nerveseg.instance", "nerveseg.until"
"""Keys of the scope: the request's name, and when its time is up."""

_LOG = logging.getLogger("nerveseg.server")
_ALWAYS = ("/v1/health", "/metrics")  # asked while the service drains
_OPEN = ("/v1/health",)  # asked without a token
_LINGER = 1.0  # seconds that what a refused client still sends is thrown away, so that it can read the answer
_GRACE = 1.0  # seconds in which a worker tells itself that it is late
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'"),
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Guard:
    """ASGI middleware.

    Args:
        app: what is behind the door.
        service: limits, token, counts.
    """

    def __init__(self, app: Any, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let one request in, or say why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        scope[INSTANCE], scope[UNTIL] = f"urn:uuid:{uuid.uuid4()}", started + self._service.limits.seconds
        headers = dict(scope["headers"])
        body = _Body(receive, headers, self._service.limits.body, started + self._service.limits.read_seconds)
        answer = _Answer(send, body)
        try:
            self._admit(scope, headers, body)
        except Problem as problem:
            await _tell(problem, scope, answer)
        else:
            await self._pass(scope, body, answer)
        self._note(scope, answer.status, time.monotonic() - started)

    async def _pass(self, scope: Message, body: _Body, answer: _Answer) -> None:
        self._service.enter(with_body=body.there)
        try:
            async with asyncio.timeout(self._service.limits.seconds + _GRACE):
                await self._app(scope, body.receive, answer.send)
        except ClientDisconnect:
            _LOG.info("%s went away", scope[INSTANCE])
        except TimeoutError:
            await _tell(problems.of(Overdue()), scope, answer)
        except Exception as error:  # the last place before the server's own plain text
            problem = problems.of(error)
            if problem.status >= 500:
                _LOG.exception("%s failed", scope[INSTANCE])
            await _tell(problem, scope, answer)
        finally:
            self._service.leave(with_body=body.there)

    def _admit(self, scope: Message, headers: dict[bytes, bytes], body: _Body) -> None:
        service = self._service
        if service.draining and scope["path"] not in _ALWAYS:
            raise Problem(
                503,
                "draining",
                "The service is ending. Accepted are no new requests. Try another one, or later.",
                headers={"Retry-After": "5"},
            )
        if service.token is None:
            self._known_host(headers)
        elif scope["path"] not in _OPEN and not _same(headers.get(b"authorization", b""), service.token):
            raise Problem(
                401,
                "token",
                "Got no token, or a wrong one. Accepted is the service's. Send it as: Authorization: Bearer TOKEN.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        body.check_length()
        if body.there and service.busy:
            raise service.full()

    def _known_host(self, headers: dict[bytes, bytes]) -> None:
        """Without a token a page from anywhere could ask through a visitor's browser: by a name that leads here, or across sites."""
        hosts, public = self._service.hosts, self._service.public
        if hosts and origin.host_of(headers) not in hosts | public:
            raise Problem(
                421,
                "host",
                "Got a Host that is not this service's. Accepted is the name it listens on. Use that, a token, or --public-host.",
            )
        if origin.foreign(headers, public):
            raise Problem(
                403,
                "origin",
                "Got a request from another site's page, or another port's. Accepted are pages of this one. Use a token, or --public-host.",
            )

    def _note(self, scope: Message, status: int, seconds: float) -> None:
        path = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH") else "other"
        self._service.metrics.requests.labels(method, path, str(status)).inc()
        self._service.metrics.seconds.labels(path).observe(seconds)
        _LOG.info("%s %s %d in %.3f s, %s", method, path, status, seconds, scope[INSTANCE])


class _Body:
    """A request's body: counted, and timed while it comes."""

    def __init__(self, receive: Receive, headers: dict[bytes, bytes], limit: int, until: float) -> None:
        self._receive, self._limit, self._until = receive, limit, until
        self._length = headers.get(b"content-length", b"0")
        self.there = self._length != b"0" or b"transfer-encoding" in headers
        self.complete = not self.there
        self._bytes = 0

    def check_length(self) -> None:
        """Refuse a body by what its head says of it."""
        if self._length.isdigit() and int(self._length[:20]) > self._limit:
            raise self._too_large()

    async def receive(self) -> Message:
        """ASGI's receive."""
        if self.complete:
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._until - time.monotonic())):
                message = await self._receive()
        except TimeoutError as error:
            raise Problem(408, "slow", "Got a body that did not arrive in time. Accepted is what comes at once. Send it faster.") from error
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._limit:
            raise self._too_large()
        self.complete = not message.get("more_body", False)
        return message

    async def throw_away(self) -> None:
        """Read on for a moment, as far as one body more, so that the answer is not lost in a reset."""
        try:
            async with asyncio.timeout(_LINGER):
                while not self.complete and self._bytes <= 2 * self._limit:
                    message = await self._receive()
                    self._bytes += len(message.get("body", b""))
                    self.complete = not message.get("more_body", False)
        except TimeoutError:
            return

    def _too_large(self) -> Problem:
        return Problem(413, "body", f"Got a body of more than {self._limit:,} bytes. Accepted are as many. Send a smaller file.")


class _Answer:
    """An answer on its way: one that comes before the body has, ends the connection."""

    def __init__(self, send: Send, body: _Body) -> None:
        self._send, self._body = send, body
        self.status = 499  # as others call it when the client went away
        self.started = False

    async def send(self, message: Message) -> None:
        """ASGI's send."""
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            more = _HEADERS if self._body.complete else (*_HEADERS, (b"connection", b"close"))
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        elif not self._body.complete and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._body.throw_away()
            message = {"type": "http.response.body"}
        await self._send(message)


async def _tell(problem: Problem, scope: Message, answer: _Answer) -> None:
    if answer.started:  # too late to say it: the connection is cut, so that nobody takes a part for the whole
        return
    content = problem.body(scope[INSTANCE])
    headers = {"content-type": problems.MEDIA, "content-length": str(len(content)), **problem.headers}
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await answer.send({"type": "http.response.start", "status": problem.status, "headers": pairs})
    await answer.send({"type": "http.response.body", "body": content})


def _same(header: bytes, token: str) -> bool:
    """Whether a header carries the token, in the same time whatever it carries."""
    scheme, _, given = header.partition(b" ")
    digests = [hashlib.sha256(text).digest() for text in (given.strip(), token.encode())]
    return hmac.compare_digest(*digests) and scheme.lower() == b"bearer"
