"""Escape CSV cells that a spreadsheet would run as formulas."""

from __future__ import annotations

from typing import Any

__all__ = ["cell"]

_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def cell(value: Any) -> Any:
    """A value as a cell: a text that a spreadsheet would run as a formula gets a ``'`` before it, which it shows as text.

    Numbers stay numbers, negative ones too. Whoever reads the file by program takes one leading ``'`` off.

    >>> [cell(one) for one in ("=1+1", "cat", "-", -0.5)]
    ["'=1+1", 'cat', "'-", -0.5]
    """
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(_STARTS) else value
