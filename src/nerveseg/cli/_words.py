"""What people type on the command line → what the library takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerveseg import parse
from nerveseg.errors import LabelError, OptionError
from nerveseg.words.vocabulary import Background, Vocabulary, need_background

if TYPE_CHECKING:
    from nerveseg.clicks import Seed

__all__ = ["read_background", "read_clicks", "read_labels", "read_settings", "read_shard"]


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
            shape = "TABLE.KNOB=VALUE" if "." in example.partition("=")[0] else "KNOB=VALUE"
            raise OptionError(f"Got {option} {entry!r}. Accepted is {shape}. Write it as {option} {example}.")
        if name in settings:
            raise OptionError(f"Got {option} {name} twice. Accepted is one value a knob. Take one out.")
        settings[name] = _value(value)
    return settings


def read_shard(text: str) -> tuple[int, int]:
    """``0/4`` → (0, 4).

    >>> read_shard("1/2")
    (1, 2)
    """
    first, _, second = text.partition("/")
    if not (first.strip().isdigit() and second.strip().isdigit() and int(first) < int(second)):
        raise OptionError(f"Got --shard {text!r}. Accepted is I/N with I from 0 to N − 1. Write the first of four as --shard 0/4.")
    return int(first), int(second)


def _value(text: str) -> Any:
    if text == "null":
        return None
    try:
        return parse.from_toml(f"value = {text}")["value"]
    except ValueError:
        return text


def read_clicks(texts: Sequence[str]) -> tuple[Seed, ...]:
    """``LABEL@x,y`` is a click, ``LABEL@x0,y0,x1,y1`` a box, ``LABEL@x,y x,y …`` a stroke.

    Raises:
        OptionError: anything else.
    """
    from nerveseg.clicks import Seed

    return tuple(Seed(label.strip(), **_places(places, text)) for text in texts for label, _, places in [text.rpartition("@")])


def _places(places: str, text: str) -> dict[str, Any]:
    try:
        parts = [tuple(float(number) for number in part.split(",")) for part in places.split()]
    except ValueError:
        parts = []
    if "@" in text and len(parts) == 1 and len(parts[0]) in (2, 4):
        return {"points": parts} if len(parts[0]) == 2 else {"box": parts[0]}
    if "@" in text and len(parts) > 1 and all(len(part) == 2 for part in parts):
        return {"strokes": [parts]}
    raise OptionError(
        f"Got --click {text!r}. Accepted are LABEL@x,y for a click, LABEL@x0,y0,x1,y1 for a box, and 'LABEL@x,y x,y' for a stroke. "
        "Write it so, in pixels from the top left."
    )
