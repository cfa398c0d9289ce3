"""A griffe extension for the API reference: doctests at the end of a docstring become fenced blocks, not quotations."""

from __future__ import annotations

import re
from typing import Any

import griffe

_DOCTEST = re.compile(r"(?:^[ ]*>>> .*\n?(?:^[ ]*\S.*\n?)*)+", re.MULTILINE)


def fenced(text: str) -> str:
    """Put every run of doctest lines, up to the next blank line, between fences."""
    return _DOCTEST.sub(lambda found: f"```pycon\n{found.group().rstrip()}\n```\n", text)


class DoctestFences(griffe.Extension):
    """Rewrites docstrings as they are collected."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Look at one object's docstring."""
        if obj.docstring is not None and ">>> " in obj.docstring.value:
            obj.docstring.value = fenced(obj.docstring.value)
