"""Map over images in a few threads: PIL and hashing release the interpreter lock, so a batch is read on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["apart", "map_threads"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST = 8  # threads: past eight, what Python itself does for each image is what they wait for


def map_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply ``work`` to items in a few threads.

    Args:
        work: must be safe beside itself. Modes that belong to a thread, as torch's inference mode, are not those of the caller.
        items: any number.

    Returns:
        The results in the items' order; the first error, in that order, is raised.
    """
    threads = min(len(items), os.cpu_count() or 1, _MOST)
    if threads < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


def apart(sources: Sequence[Any]) -> bool:
    """Whether images may be read at one time: files and bytes; PIL images, which read themselves when first looked at, may be shared."""
    return all(isinstance(source, (str, Path, bytes)) for source in sources)
