"""Serve the page, and end at SIGINT or SIGTERM with nothing left behind."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nerveseg.errors import OptionError, RunError

__all__ = ["check_door", "serve", "serving"]

_CONNECTIONS = 256
_SECONDS = 20.0  # that a head may take to arrive, and an answer to be read


def check_door(host: str, *, open_door: bool) -> None:
    """Refuse to be open to others by accident.

    Raises:
        OptionError: a host that others reach, and nobody said that this is meant.
    """
    from nerveseg.server.listening import is_loopback

    if not is_loopback(host) and not open_door:
        raise OptionError(
            f"Got --host {host}: anybody who reaches it could use the page. Accepted are loopback addresses. "
            "Say --open if that is meant, or leave --host out."
        )


@contextmanager
def serving(work: object, host: str, port: int, place: str = "", *, public: frozenset[str] = frozenset()) -> Iterator[str]:
    """Serve the page while the block runs; gives its address. What visitors send lies in a folder of its own, which goes at the end.

    Args:
        work: a `nerveseg.ui.work.Work`.
        host: address to listen on.
        port: 0 takes a free one.
        place: where the work is done, for the visitor.
        public: names under which a proxy shows the page.
    """
    with tempfile.TemporaryDirectory(prefix="nerveseg-app-", ignore_cleanup_errors=True) as folder, _environment(folder):
        from nerveseg.server.listening import is_loopback, listen
        from nerveseg.ui.request_limits import Door, Rules

        here = is_loopback(host)
        names = {"localhost", "127.0.0.1", "::1", host.lower()} | (set() if here else _names())
        rules = Rules(Path(folder), hosts=frozenset(names), public=public, addresses=not here)
        with listen(host, port) as door:
            number = door.getsockname()[1]
            address = f"http://{f'[{host}]' if ':' in host else host}:{number}"
            page = _in_a_loop(lambda: _page(work, place))
            with _answering(Door(page, rules), door):
                yield address


def _page(work: object, place: str) -> Any:
    """Gradio's application, which launches nothing: the server in front of it is ours."""
    from fastapi import FastAPI

    from nerveseg.ui.page import build, looks  # after the environment, which Gradio reads when it is imported
    from nerveseg.ui.request_limits import MOST_BYTES

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gradio's own, of what it passes on
        import gradio as gr

        page = build(work, place)  # pyright: ignore[reportArgumentType]
        return gr.mount_gradio_app(
            FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
            page,
            path="/",
            show_error=False,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            max_file_size=MOST_BYTES,
            **looks(),
        )


@contextmanager
def _answering(app: Any, door: socket.socket) -> Iterator[None]:
    """Answer at a listening socket, in a thread, while the block runs."""
    import uvicorn

    from nerveseg.server.listening import BACKLOG
    from nerveseg.server.protocol import ConnectionLimits, most_connections, seldom, timed

    crowd = ConnectionLimits(most_connections(_CONNECTIONS), _SECONDS)
    config = uvicorn.Config(
        app,
        http=timed(_SECONDS, crowd),
        backlog=1,  # see the service
        loop="asyncio",
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    server, failed, filter_ = uvicorn.Server(config), list[BaseException](), seldom()

    async def answer() -> None:
        asyncio.get_running_loop().set_exception_handler(crowd.out_of_resources)
        await server.serve([door])

    def run() -> None:
        try:
            asyncio.run(answer())
        except BaseException as error:  # a thread's error is told where it is waited for
            failed.append(error)

    loggers = [logging.getLogger(name) for name in ("asyncio", "uvicorn.error", "nerveseg.ui")]
    for logger in loggers:
        logger.addFilter(filter_)
    thread = threading.Thread(target=run, name="nerveseg-page", daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        if not server.started:
            raise RunError("The page did not start. Its log says why. Try again.") from (failed[0] if failed else None)
        door.listen(BACKLOG)  # uvicorn made it as short as asyncio's
        yield
    finally:
        server.should_exit = True
        thread.join(10)
        for logger in loggers:
            logger.removeFilter(filter_)


def _names() -> set[str]:
    """How others in the network may call this machine."""
    name = socket.gethostname().lower()
    return {name, name.partition(".")[0], f"{name.partition('.')[0]}.local"} - {""}


def serve(
    work: object,
    host: str,
    port: int,
    place: str = "",
    *,
    public: frozenset[str] = frozenset(),
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until SIGINT or SIGTERM; see `serving`. ``ready`` is told the address."""
    told = threading.Event()
    before = {number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with serving(work, host, port, place, public=public) as address:
            ready(address)
            told.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_a_loop(make: Callable[[], Any]) -> Any:
    """Call it inside a running event loop: where none runs Gradio makes one for every lock and leaves it open."""

    async def made() -> Any:
        return make()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(made())
        finally:
            loop.close()
    return make()


@contextmanager
def _environment(folder: str) -> Iterator[None]:
    """Gradio asks its makers for nothing, tells them nothing, and keeps its files in a folder that goes."""
    given = {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
