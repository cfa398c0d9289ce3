"""Run the service, and shut it down gracefully: at SIGTERM accepted requests are answered, and new ones get 503."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from nerveseg.errors import OptionError
from nerveseg.server.app import make_app
from nerveseg.server.listening import BACKLOG, is_loopback
from nerveseg.server.protocol import ConnectionLimits, most_connections, seldom, timed
from nerveseg.server.service import Service

__all__ = ["check_door", "hosts_of", "serve"]

_LOG = logging.getLogger("nerveseg.server")
_MOMENT = 0.05  # seconds between two looks at what is left to do
_KEPT = 65  # seconds that an idle connection is kept: longer than Retry-After says at most, so that who waits finds it
_SHORTEST_TOKEN = 16
_CUT = 1  # exit code where requests were cut: by a second signal, or at the end of drain_seconds


def check_door(host: str, token: str | None, *, open_door: bool) -> None:
    """Refuse to be open to others by accident.

    Raises:
        OptionError: a host that others reach without a token, or a token that can be guessed.
    """
    if token is not None and (len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
        raise OptionError(
            f"Got a token of {len(token)} characters. Accepted are {_SHORTEST_TOKEN} or more, ASCII without spaces. "
            "Make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'."
        )
    if token is None and not open_door and not is_loopback(host):
        raise OptionError(
            f"Got --host {host} without a token: anybody who reaches it could use it. Accepted are loopback addresses, or a token. "
            "Set NERVESEG_TOKEN, or say --no-token if that is meant."
        )


def hosts_of(host: str, token: str | None, *, open_door: bool) -> frozenset[str]:
    """The names that a ``Host`` header may have; empty where it does not matter."""
    return frozenset() if token is not None or open_door else frozenset({"localhost", "127.0.0.1", "::1", host})


def serve(service: Service, door: socket.socket, *, ready: Callable[[str], None] = lambda _: None) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second one ends at once.

    Args:
        service: what answers.
        door: a listening socket.
        ready: told the address as soon as requests are taken.
    """
    crowd = ConnectionLimits(most_connections(service.limits.connections), service.limits.read_seconds)
    service.metrics.watch("connections", "Connections that are open.", lambda: len(crowd))
    config = uvicorn.Config(
        make_app(service),
        http=timed(service.limits.read_seconds, crowd),
        backlog=1,  # asyncio accepts so many at once: where the system has no more, it logs and waits as often, too
        loop="asyncio",
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEPT,
        timeout_graceful_shutdown=5,
    )
    loggers, filter_ = [logging.getLogger(name) for name in ("asyncio", "uvicorn.error")], seldom()
    for logger in loggers:
        logger.addFilter(filter_)
    try:
        asyncio.run(_serve(uvicorn.Server(config), service, crowd, door, ready))
    finally:
        for logger in loggers:
            logger.removeFilter(filter_)


async def _serve(
    server: uvicorn.Server, service: Service, crowd: ConnectionLimits, door: socket.socket, ready: Callable[[str], None]
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(crowd.out_of_resources)
    told = asyncio.Event()

    def tell(number: int, _: FrameType | None) -> None:
        if told.is_set():  # at once: what a thread is at, or has yet to write, is not waited for
            os._exit(_CUT)
        loop.call_soon_threadsafe(_stop, number)

    def _stop(number: int) -> None:
        _LOG.info("signal %d: %d requests are in hand", number, service.open)
        service.draining = True
        told.set()

    serving = asyncio.ensure_future(server.serve(sockets=[door]))
    while not server.started and not serving.done():
        await asyncio.sleep(_MOMENT)
    if not serving.done():
        # uvicorn's own handlers, set when it started, would stop listening at once; `serve` sets the old ones again at its end.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, tell)
        door.listen(BACKLOG)  # uvicorn made it as short as asyncio's
        host, port = door.getsockname()[:2]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        drain = asyncio.ensure_future(_drain(server, service, told))
        await serving
        drain.cancel()
    await serving


async def _drain(server: uvicorn.Server, service: Service, told: asyncio.Event) -> None:
    await told.wait()
    try:
        async with asyncio.timeout(0.95 * service.limits.drain_seconds):
            while service.open:
                await asyncio.sleep(_MOMENT)
    except TimeoutError:
        _LOG.warning("%d requests were not done in time and are cut", service.open)
        os._exit(_CUT)  # threads that are still at work would be waited for
    server.should_exit = True
