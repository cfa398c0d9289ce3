"""Strict JSON: NaN, infinity and duplicate names in an object are refused."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["read"]


def read(text: str) -> Any:
    """Read a JSON text.

    >>> read('{"a": [1, 2]}')
    {'a': [1, 2]}

    Raises:
        ValueError: it is none, or not such a one.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _refuse(name: str) -> Any:
    raise ValueError(name)
