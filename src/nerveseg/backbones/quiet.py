"""Turn off other libraries' progress bars while weights are read, and restore the caller's settings afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["without_bars"]


@contextmanager
def without_bars() -> Iterator[None]:
    """Switch off the bars of transformers, diffusers and the hub's client for a while.

    In several threads at once one may show its bars, but the last to end leaves every switch as the first found it.
    """
    from huggingface_hub import utils as hub

    # What reads weights is imported by now; the other library need not be.
    libraries = [sys.modules[name] for name in ("transformers.utils.logging", "diffusers.utils.logging") if name in sys.modules]
    shown, hidden = [library for library in libraries if library.is_progress_bar_enabled()], hub.are_progress_bars_disabled()
    for library in shown:
        library.disable_progress_bar()  # transformers' switch moves the hub's with it
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()
        if hidden and not hub.are_progress_bars_disabled():
            hub.disable_progress_bars()
