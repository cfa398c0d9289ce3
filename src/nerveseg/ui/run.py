"""The process: serves the page on this machine, and ends at SIGINT or SIGTERM with nothing left behind."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nerveseg.errors import OptionError, RunError

__all__ = ["check_door", "free_port", "serve", "serving"]


def check_door(host: str, *, open_door: bool) -> None:
    """Refuse to be open to others by accident.

    Raises:
        OptionError: a host that others reach, and nobody said that this is meant.
    """
    try:
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    if not here and not open_door:
        raise OptionError(
            f"Got --host {host}: anybody who reaches it could use the page. Accepted are loopback addresses. "
            "Say --open if that is meant, or leave --host out."
        )


def free_port(host: str, port: int) -> int:
    """The port if nobody has it; 0 takes a free one.

    Raises:
        RunError: a port that is taken, or an address that is not here.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.create_server((host, port), family=family) as door:
            return int(door.getsockname()[1])
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"Got {host}:{port}, where nothing can listen ({reason}). Accepted is a free port here. Choose another.") from error


@contextmanager
def serving(work: object, host: str, port: int, place: str = "") -> Iterator[str]:
    """Serve the page while the block runs; gives its address. What visitors send lies in a folder of its own, which goes at the end.

    Args:
        work: a `nerveseg.ui.work.Work`.
        host: address to listen on.
        port: 0 takes a free one.
        place: where the work is done, for the visitor.
    """
    number = free_port(host, port)
    with tempfile.TemporaryDirectory(prefix="nerveseg-app-", ignore_cleanup_errors=True) as folder, _environment(folder):
        from starlette.middleware import Middleware

        from nerveseg.ui.door import MOST_BYTES, Door, Rules
        from nerveseg.ui.page import build, looks  # after the environment, which Gradio reads when it is imported

        def launched() -> Any:
            page = build(work, place)  # pyright: ignore[reportArgumentType]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Gradio's own, of what it passes on
                page.launch(
                    server_name=host,
                    server_port=number,
                    share=False,
                    inbrowser=False,
                    prevent_thread_lock=True,
                    quiet=True,
                    show_error=False,
                    footer_links=[],
                    run_history=False,
                    ssr_mode=False,
                    pwa=False,
                    mcp_server=False,
                    enable_monitoring=False,
                    max_file_size=MOST_BYTES,
                    state_session_capacity=256,
                    app_kwargs={"middleware": [Middleware(Door, Rules(Path(folder)))]},
                    **looks(),
                )
            return page

        page = _in_a_loop(launched)
        try:
            yield f"http://{f'[{host}]' if ':' in host else host}:{number}"
        finally:
            page.close(verbose=False)


def serve(work: object, host: str, port: int, place: str = "", *, ready: Callable[[str], None] = lambda _: None) -> None:
    """Serve until SIGINT or SIGTERM; see `serving`. ``ready`` is told the address."""
    told = threading.Event()
    before = {number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with serving(work, host, port, place) as address:
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
