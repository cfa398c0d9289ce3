"""What people type on the command line → what the library takes."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nerveseg.errors import LabelError, OptionError
from nerveseg.words.vocabulary import Background, Vocabulary, need_background

__all__ = ["read_background", "read_labels", "read_settings"]


def read_labels(text: str) -> Vocabulary:
    """A file that exists is read, one label a line; anything else is labels parted by ``,`` with synonyms parted by ``;``."""
    try:
        is_file = Path(text).expanduser().is_file()
    except (OSError, ValueError):  # a list of labels may be longer than any file name
        is_file = False
    if is_file:
        return Vocabulary.read(Path(text).expanduser())
    if text.strip().lower().endswith(".txt"):
        raise LabelError(f"Got the label file {text!r}, which does not exist. Accepted are a file, or words parted by ','. Check the path.")
    return Vocabulary.parse_line(text)


def read_background(text: str, vocabulary: Vocabulary) -> Background | None:
    """``none``, ``auto``, or words parted by ``,``; checked against the labels."""
    word = text.strip().lower()
    given: Any = None if word == "none" else "auto" if word == "auto" else Vocabulary.parse_line(text)
    background = Background.parse(given, vocabulary)
    if background is None and len(vocabulary) == 1:
        raise LabelError(
            f"Got the single label {vocabulary.names[0]!r} and no background. Accepted are two labels or more, or one beside a background. "
            "Add --background auto, or --background with the words that stand for the rest."
        )
    need_background(vocabulary, background)
    return background


def read_settings(given: Sequence[str], option: str = "--set", example: str = "walk.alpha=0.9") -> dict[str, Any]:
    """``walk.alpha=0.9`` → ``{"walk.alpha": 0.9}``. Values are TOML's; a bare word is a string, ``null`` is None.

    >>> read_settings(["walk.alpha=0.9", "graph.layers=[-1, -2]", "walk.solver=none"])
    {'walk.alpha': 0.9, 'graph.layers': [-1, -2], 'walk.solver': 'none'}
    """
    settings: dict[str, Any] = {}
    for entry in given:
        name, equals, value = (part.strip() for part in entry.partition("="))
        if not (name and equals and value):
            raise OptionError(f"Got {option} {entry!r}. Accepted is KNOB=VALUE. Write it as {option} {example}.")
        if name in settings:
            raise OptionError(f"Got {option} {name} twice. Accepted is one value a knob. Take one out.")
        settings[name] = _value(value)
    return settings


def _value(text: str) -> Any:
    if text == "null":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
