"""Parse what is typed on the command line: labels, settings, clicks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerveseg import parse
from nerveseg.errors import LabelError, OptionError
from nerveseg.text_files import address, local
from nerveseg.words.label_line import looks_like_file, strings
from nerveseg.words.vocabulary import Background, Vocabulary, need_background

if TYPE_CHECKING:
    from nerveseg.clicks import Click

__all__ = ["background_words", "read_background", "read_clicks", "read_labels", "read_settings", "read_shard"]


def read_labels(text: str, option: str = "--labels") -> Vocabulary:
    """A file that exists is read, whatever its ending; anything else is a line of labels, as `Vocabulary.parse_line` takes it.

    Raises:
        LabelError: also for what is written like a file that is not there.
    """
    if (url := address(text.strip())) is not None:
        raise LabelError(f"Got {option} {url!r}, an address. Accepted are a file, or words parted by ','. Download it and name the file.")
    place = Path(local(text.strip())).expanduser()
    try:
        is_file, is_folder = place.exists() and not place.is_dir(), place.is_dir()
    except (OSError, ValueError):  # a list of labels may be longer than any file name
        is_file = is_folder = False
    if is_file:
        return Vocabulary.read(place)
    if looks_like_file(text):
        what = "which is a folder" if is_folder else f"a file that does not exist (looked in {Path.cwd()})"
        raise LabelError(
            f"Got {option} {text!r}, {what}. Accepted are a file, or words parted by ','. Check the path, or put the word in double "
            "quotes within the shell's."
        )
    return Vocabulary.parse_line(text)


def background_words(text: str) -> Any:
    """``none`` → None, ``auto`` → "auto", a file or a line of words → their `Vocabulary`."""
    word = text.strip().lower()
    return {"none": None, "auto": "auto"}[word] if word in ("none", "auto") else read_labels(text, "--background")


def read_background(text: str, vocabulary: Vocabulary) -> Background | None:
    """``none``, ``auto``, or words as for labels, from a file too; checked against the labels."""
    background = Background.parse(background_words(text), vocabulary)
    if background is None and len(vocabulary) == 1:
        raise LabelError(
            f"Got the single label {vocabulary.names[0]!r} and no background. Accepted are two labels or more, or one beside a background. "
            "Add --background auto, or --background with the words that stand for the rest."
        )
    need_background(vocabulary, background)
    return background


def read_settings(given: Sequence[str], option: str = "--set", example: str = "walk.alpha=0.9") -> dict[str, Any]:
    """``walk.alpha=0.9`` → ``{"walk.alpha": 0.9}``. Values are TOML's; a bare word is a string, ``null`` is None.

    >>> read_settings(["walk.alpha=0.9", "graph.layers=[-1, -2]", "walk.name=none"])
    {'walk.alpha': 0.9, 'graph.layers': [-1, -2], 'walk.name': 'none'}
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


def read_clicks(texts: Sequence[str]) -> tuple[Click, ...]:
    """``LABEL@x,y`` is a click, ``LABEL@x0,y0,x1,y1`` a box, ``LABEL@x,y x,y …`` a stroke. The label is written as in ``--labels``.

    Raises:
        OptionError: anything else. LabelError: what cannot be a label.
    """
    from nerveseg.clicks import Click

    return tuple(Click(_label(label, text), **_places(places, text)) for text in texts for label, _, places in [text.rpartition("@")])


def _label(text: str, whole: str) -> str:
    if not text.strip():
        raise OptionError(f"Got --click {whole!r} without a label. Accepted are LABEL@x,y and its like. Write the label before the @.")
    words = strings(text, f"the label of --click {whole!r}")
    if len(words) > 1:
        raise OptionError(f"Got --click {whole!r} with {len(words)} words. Accepted is one label. Name it by one of its words.")
    return words[0]


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
