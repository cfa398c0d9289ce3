"""Read a network from a folder, whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nerveseg.errors import WeightsError

__all__ = ["complete", "reading"]


def complete(cls: Any, folder: Path, **given: Any) -> Any:
    """``cls.from_pretrained(folder)`` without the network, refusing a folder that lacks weights (they would be random, and silent).

    Raises:
        WeightsError: weights are missing, or of another shape.
    """
    model, info = cls.from_pretrained(folder, local_files_only=True, output_loading_info=True, **given)
    lacking = sorted(str(key) for kind in ("missing_keys", "mismatched_keys") for key in info[kind])
    if lacking:
        few = ", ".join(lacking[:3])
        raise WeightsError(
            f"Got {folder} without {len(lacking)} weights of {cls.__name__}, such as {few}. Accepted is a whole checkpoint. Fetch it again."
        )
    return model


@contextlib.contextmanager
def reading(folder: Path, what: str) -> Iterator[None]:
    """Turn whatever a library says of a broken folder into `WeightsError`."""
    try:
        yield
    except WeightsError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"Got {folder}, which cannot be read as {what}: {error} Accepted is a folder as from_pretrained reads it. Fetch it again."
        ) from error
