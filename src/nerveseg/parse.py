"""Parse untrusted TOML and JSON with limits on size and depth; anything wrong is an `OSError` or a `ValueError` with a short reason.

The parsers of the standard library leave some texts to other errors: thousands of brackets inside one another to `RecursionError`, a
number of more digits than Python converts to a `ValueError` that tells of Python's settings.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

__all__ = ["LONGEST", "from_json", "from_toml", "text_of"]

LONGEST = 64 << 20
"""Bytes of a text file that are read at most, where a reader says nothing else."""


def text_of(path: Path, *, most: int = LONGEST) -> str:
    """Read a text file in UTF-8.

    Args:
        path: the file; a byte order mark is passed over.
        most: bytes that it may have.

    Raises:
        OSError: no such file, a folder, something that is no plain file. ValueError: too long, or no UTF-8.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder")
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise OSError(f"{path} is no plain file")
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"its byte {error.start} is no UTF-8") from error


def from_json(text: str | bytes) -> Any:
    """Read JSON; raises `ValueError` for all that cannot be read.

    >>> from_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: it has more brackets inside one another than can be followed
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise _too_deep() from error
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise _reason(error) from error


def from_toml(text: str) -> dict[str, Any]:
    """Read TOML; raises `ValueError` for all that cannot be read.

    >>> from_toml("a = " + "9" * 5001)
    Traceback (most recent call last):
    ValueError: it has a number of thousands of digits
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise _too_deep() from error
    except tomllib.TOMLDecodeError:
        raise
    except (ValueError, OverflowError) as error:
        raise _reason(error) from error


def _too_deep() -> ValueError:
    return ValueError("it has more brackets inside one another than can be followed")


def _reason(error: Exception) -> ValueError:
    return ValueError("it has a number of thousands of digits" if "integer string conversion" in str(error) else str(error))
