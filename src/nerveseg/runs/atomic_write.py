"""Write files atomically: they appear whole or not at all, also after a crash of the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from nerveseg import outputs
from nerveseg.errors import OutputError

__all__ = ["clear", "writing"]


@contextmanager
def writing(path: Path) -> Iterator[TextIO]:
    """Give a file beside ``path``, which takes its place when the block ends well.

    Raises:
        OutputError: a full disk, no permission, a folder that is not there.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with draft.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        outputs.put((draft, path))
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise outputs.refused(path, error) from error
    finally:
        with suppress(OSError):  # what went wrong first is what is told
            draft.unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Delete the drafts that a killed process left; for whoever holds the folder alone."""
    with outputs.told(folder):
        for draft in folder.glob(".*.part"):
            draft.unlink(missing_ok=True)
