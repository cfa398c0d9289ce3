"""Short reprs: one or two lines that say what a value holds, never its numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

__all__ = ["brief"]

_LONGEST = 300  # letters: fits on three lines of a terminal
_WORD = 40
_FEW = 3


def brief(self: Any) -> str:
    """The ``__repr__`` of a dataclass that holds arrays, networks or long lists.

    Arrays are told by type and shape, lists and mappings by their first entries and their length; what is None or empty is left out.
    """
    parts = [f"{field.name}={_shown(held)}" for field, held in _held(self)]
    name, text = type(self).__name__, ""
    for at, part in enumerate(parts):
        longer = f"{text}, {part}" if text else part
        if len(name) + len(longer) > _LONGEST - 10:
            return f"{name}({text}, … {len(parts) - at} more)"
        text = longer
    return f"{name}({text})"


def _held(value: Any) -> list[tuple[dataclasses.Field[Any], Any]]:
    pairs = [(field, getattr(value, field.name)) for field in dataclasses.fields(value) if field.repr]
    return [(field, held) for field, held in pairs if not (held is None or (isinstance(held, (str, tuple, list, Mapping)) and not held))]


def _shown(value: Any, depth: int = 0) -> str:
    if isinstance(value, (str, bytes)):
        text = repr(value)
        return text if len(text) <= _WORD else f"{text[: _WORD - 2]}…{text[-1]}"
    if value is None or isinstance(value, (bool, int, complex)):
        return repr(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    shape, kind = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and kind is not None:
        return f"{str(kind).removeprefix('torch.')}({'×'.join(map(str, shape))})"
    if depth > 1:
        return f"{type(value).__name__}(…)"
    if isinstance(value, Mapping):
        few = [f"{_shown(key, depth + 1)}: {_shown(held, depth + 1)}" for key, held in list(value.items())[:_FEW]]
        return "{" + _listed(few, len(value)) + "}"
    if isinstance(value, (tuple, list, set, frozenset)):
        few = [_shown(held, depth + 1) for held in list(value)[:_FEW]]
        inside = _listed(few, len(value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    for name in ("name", "id"):
        if isinstance(called := getattr(value, name, None), str) and not isinstance(value, type):
            return f"{type(value).__name__}({_shown(called)})"
    text = repr(value) if type(value).__module__.partition(".")[0] in ("pathlib", "torch") and not callable(value) else ""
    return text if text and len(text) <= 2 * _WORD else f"{type(value).__name__}(…)"


def _listed(few: list[str], count: int) -> str:
    return ", ".join(few) + (f", … {count - len(few)} more" if count > len(few) else "")
