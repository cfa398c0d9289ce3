"""Turn out-of-memory errors of any device into one error that says what to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nerveseg.errors import OutOfMemory

__all__ = ["enough", "ran_out"]

_WORDS = ("not enough memory", "can't allocate memory", "out of memory", "ALLOC_FAILED")  # the CPU's; MPS's and drivers'; cuBLAS's
_LOWER = (
    "Lower graph.size, labels.short_side or batch, set transition.keep or kernel.name = 'anchor', give fewer labels, or use low_memory."
)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in str(error) for words in _WORDS)


@contextmanager
def enough(what: str = "this image", lower: str = _LOWER) -> Iterator[None]:
    """Say what to lower where memory runs out.

    Args:
        what: what there was no memory for.
        lower: what to do about it, a sentence.

    Raises:
        OutOfMemory: in place of whatever the library raised; other errors pass.
    """
    try:
        yield
    except OutOfMemory:
        raise
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        said = (str(error).strip().splitlines() or ["none is left"])[0].rstrip(".")
        raise OutOfMemory(f"Got no memory for {what}: {said}. Accepted is what fits. {lower}") from error
