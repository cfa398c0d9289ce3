"""The vocabulary: labels in the caller's order, each with one or more synonyms, and the background."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerveseg.errors import LabelError
from nerveseg.parse import from_json
from nerveseg.reprs import brief
from nerveseg.words import label_line as written
from nerveseg.words import lists
from nerveseg.words.normalize import folded, plain
from nerveseg.words.prompts import clean

__all__ = ["BACKGROUND", "BACKGROUND_WORDS", "Background", "Label", "Vocabulary", "folded", "need_background"]

BACKGROUND = "background"
"""The name that background pixels get; it comes after the caller's labels."""

BACKGROUND_WORDS: tuple[str, ...] = (
    BACKGROUND,
    "scenery",
    "backdrop",
    "sky",
    "ground",
    "floor",
    "wall",
    "ceiling",
    "road",
    "building",
    "grass",
    "tree",
    "water",
    "hill",
    "sand",
    "snow",
    "shadow",
    "empty space",
)
"""What ``background="auto"`` asks for: things that stand behind other things. A caller's own labels are taken out of it."""


@dataclass(frozen=True)
class Label:
    """One label: the name shown to people, and the strings that CLIP is asked for (underscores are spaces there)."""

    name: str
    strings: tuple[str, ...]

    __repr__ = brief


@dataclass(frozen=True)
class Vocabulary:
    """Labels in the caller's order; label i is column i of G and P and id i in the map.

    >>> [label.strings for label in Vocabulary.parse(["cat; kitten", "potted_plant"])]
    [('cat', 'kitten'), ('potted plant',)]
    """

    labels: tuple[Label, ...]

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(label.name for label in self.labels)

    @property
    def strings(self) -> tuple[str, ...]:
        """Every string of every label, in order."""
        return tuple(string for label in self.labels for string in label.strings)

    @property
    def groups(self) -> tuple[int, ...]:
        """For each of `strings` the id of the label it belongs to."""
        return tuple(index for index, label in enumerate(self.labels) for _ in label.strings)

    @property
    def line(self) -> str:
        """The labels as one line, quotes where they are needed; `parse_line` reads it back.

        A name that is none of its label's strings is written as the first of them.
        """
        return ", ".join(
            written.quoted([label.name, *(string for string in label.strings if folded(string) != folded(label.name))])
            for label in self.labels
        )

    @classmethod
    def parse(cls, labels: Any) -> Vocabulary:
        """Read labels in any of the accepted forms.

        Args:
            labels: a list of strings (``;`` parts synonyms, a comma parts nothing), a list of lists of synonyms, a line of words as
                `parse_line` takes it, a `pathlib.Path` of a file as `read` takes it, a dict from prompt to class name (prompts of the same
                class are synonyms), a dict from id to name or from name to id, `Label` objects, or a Vocabulary, which comes back as it is.

        Raises:
            LabelError: no label, an empty or doubled one, a letter that no word has, ids that are not 0 to K − 1, or no order.
        """
        if isinstance(labels, Vocabulary):
            return labels
        if isinstance(labels, str):
            return cls.parse_line(labels)
        if isinstance(labels, Path):
            return cls.read(labels)
        if isinstance(labels, Mapping):
            by_id = _by_id(labels)
            return _checked(_from_prompts(labels)) if by_id is None else cls.parse(by_id)
        if isinstance(labels, (set, frozenset, bytes, bytearray, memoryview)) or not isinstance(labels, Iterable):
            raise LabelError(
                f"Got {type(labels).__name__} for the labels. Accepted is a list, a dict, or a line of words. Labels need an order: give a "
                "list."
            )
        entries = list(labels)
        if entries and all(isinstance(entry, str) for entry in entries):
            entries = [text for _, text in written.numbered(entries, "a list of labels", mixed=True)]
        return _checked([_label(entry, f"label {index}") for index, entry in enumerate(entries)])

    @classmethod
    def parse_line(cls, line: str) -> Vocabulary:
        """Read labels in one line: ``,`` parts labels, ``;`` parts synonyms, double quotes keep either, as in CSV; or JSON.

        >>> Vocabulary.parse_line("cat; kitten, dog").names
        ('cat', 'dog')
        >>> Vocabulary.parse_line('"cat, striped", hat').names
        ('cat, striped', 'hat')
        """
        if not isinstance(line, str):
            raise LabelError(f"Got {type(line).__name__} for a line of labels. Accepted is a string. Use Vocabulary.parse for a list.")
        if not line.strip():
            raise LabelError("Got an empty line of labels. Accepted are words parted by ','. Name at least one.")
        if line.lstrip()[0] in "[{":
            return cls.parse(_json(line))
        parts = written.numbered(written.parted(line), "a line of labels")
        return _checked([_label(part, f"label {index}") for index, (_, part) in enumerate(parts)])

    @classmethod
    def read(cls, path: str | Path) -> Vocabulary:
        """Read a label file, by its ending.

        Args:
            path: ``.csv`` or ``.tsv``: a spreadsheet with the column ``name``, and ``id`` where there is one, or names alone. ``.json``:
                a list, a dict from id to name, or a file with ``id2label``. ``.yaml``: the list ``names`` of a data set. Any other: one
                label a line, written as in `parse_line` but that a comma is refused outside quotes; ``#`` (first, or after a space)
                starts a comment; numbers before all lines (``0: cat``) are the ids. UTF-8, or UTF-16 with its mark.

        Raises:
            LabelError: the file cannot be read, or a line cannot become a label; the message names the line.
        """
        place = Path(path)
        found = lists.read(place)
        if isinstance(found, list):
            return _checked([_joined(words[0], words) for words in found], f" of {place}")
        try:
            return cls.parse(found.content)
        except LabelError as error:
            raise LabelError(f"{str(error).rstrip()} (In {place}.)") from error


@dataclass(frozen=True)
class Background:
    """Everything that is none of the labels: the words that stand for it in the denominator of G.

    Pixels where `rest` wins get the id after the last label, under the name ``background``.

    Attributes:
        strings: the words.
        name: what its pixels are called.
        published: words as a program published them, that may be labels, too, or stand twice: they are taken as they are.
        auto: the words are ours, not the caller's, so that nobody needs to be told which of them a network does not know.
    """

    strings: tuple[str, ...]
    name: str = BACKGROUND
    published: bool = False
    auto: bool = False

    __repr__ = brief

    @property
    def asked(self) -> tuple[str, ...]:
        """The words that the caller gave."""
        return () if self.auto else self.strings

    @classmethod
    def parse(cls, given: Any, vocabulary: Vocabulary) -> Background | None:
        """Read the background argument.

        Args:
            given: None or ``"none"`` (every pixel gets a label), ``"auto"`` (`BACKGROUND_WORDS` without the caller's labels), or words: a
                list, a line, or the `pathlib.Path` of a file, as for labels.
            vocabulary: the labels beside it.

        Raises:
            LabelError: no words, words without an order, a word that is also a label, or a label called ``background``.
        """
        if isinstance(given, str) and given.strip().casefold() in ("none", "auto"):
            given = None if given.strip().casefold() == "none" else "auto"
        if given is None:
            return None
        if isinstance(given, Background):  # read before: nothing in its strings is parted again
            if given.published:
                return given
            given = "auto" if given.auto else [Label(word, (word,)) for word in given.strings]
        taken = {folded(string) for label in vocabulary for string in (label.name, *label.strings)}
        if BACKGROUND in taken:
            raise LabelError(
                f"Got the label {BACKGROUND!r} and a background. Accepted is one of the two. Take the label out or give background=None."
            )
        if isinstance(given, str) and given == "auto":
            # "trees" as a label takes "tree" out as well: the two would share the probability of the same pixels.
            roots = {key.rstrip("s") for key in taken}
            return cls(tuple(word for word in BACKGROUND_WORDS if folded(word).rstrip("s") not in roots), auto=True)
        if isinstance(given, (bytes, Mapping)) or not isinstance(given, Iterable | Path):
            raise LabelError(f"Got background={given!r}. Accepted are None, 'auto', or words: a list, a line or a Path. Give one of these.")
        words = [string for label in Vocabulary.parse(given) for string in label.strings]
        for word in words:
            if folded(word) in taken:
                raise LabelError(f"Got {word!r} both as a label and as background. Accepted is one of the two. Take it out of one list.")
        return cls(tuple(words))


def need_background(vocabulary: Vocabulary, background: Background | None) -> None:
    """Refuse one label alone without a background: every pixel would get it, whatever the image shows."""
    if len(vocabulary) == 1 and background is None:
        raise LabelError(
            f"Got the single label {vocabulary.names[0]!r} and no background. Accepted are two labels or more, or one beside a background. "
            "Give background='auto', or the words that stand for the rest."
        )


def _label(entry: Any, where: str) -> Label:
    if isinstance(entry, Label):
        return _joined(plain(_text(entry.name, where), where), [plain(_text(string, where), where) for string in entry.strings], where)
    parts = list(entry) if isinstance(entry, (tuple, list)) else [entry]
    words = [word for part in parts for word in written.strings(_text(part, where), where)]
    return _joined(words[0] if words else "", words, where)


def _text(given: Any, where: str) -> str:
    if not isinstance(given, str):
        raise LabelError(f"Got {given!r} ({type(given).__name__}) as {where}. Accepted is a string. Give the word in quotes.")
    return given


def _joined(name: str, words: Iterable[str], where: str = "a label") -> Label:
    """Synonyms that differ in case or spaces only are kept once, so that a sum over synonyms counts them once."""
    kept: dict[str, str] = {}
    for word in words:
        kept.setdefault(folded(word), clean(word))
    if not kept:
        raise LabelError(f"Got no string for {where}. Accepted is one string or more. Give the word to look for.")
    return Label(name, tuple(kept.values()))


def _json(line: str) -> Any:
    try:
        return from_json(line)
    except ValueError as error:
        raise LabelError(
            f"Got labels that begin with {line.lstrip()[0]!r} and are no JSON ({type(error).__name__}: {error}). Accepted are words parted "
            'by ",", or a JSON list such as ["cat", "dog"]. Write double quotes in it, or leave the brackets out.'
        ) from error


def _by_id(given: Mapping[Any, Any]) -> list[Any] | None:
    """The names of a dict from id to name, or from name to id, in the order of the ids; None for prompts and their classes."""
    if not given:
        return None
    if all(_is_id(key) for key in given):
        pairs = {int(key): name for key, name in given.items()}
    elif all(isinstance(value, int) and not isinstance(value, bool) for value in given.values()):
        pairs = {int(value): name for name, value in given.items()}
    else:
        return None
    if sorted(pairs) != list(range(len(given))):
        lacking = min(set(range(len(given))) - set(pairs))
        raise LabelError(
            f"Got {len(given)} labels by id without the id {lacking}. Accepted are the ids 0 to {len(given) - 1}, each once. "
            "Number them so, or give a list."
        )
    return [pairs[at] for at in range(len(pairs))]


def _is_id(key: Any) -> bool:
    return (isinstance(key, int) and not isinstance(key, bool)) or (
        isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 9
    )


def _from_prompts(ontology: Mapping[Any, Any]) -> list[Label]:
    joined: dict[str, list[str]] = {}
    for prompt, name in ontology.items():
        shown = plain(_text(name, f"the class of {prompt!r}"), f"the class of {prompt!r}")
        joined.setdefault(shown, []).extend(_label(prompt, f"the prompt of {shown!r}").strings)
    return [_joined(name, words, name) for name, words in joined.items()]


def _checked(labels: list[Label], origin: str = "") -> Vocabulary:
    if not labels:
        raise LabelError(f"Got no labels{origin}. Accepted is one label or more. Name what to look for.")
    owner: dict[str, int] = {}
    for index, label in enumerate(labels):
        for key in {folded(word) for word in (label.name, *label.strings)}:
            if key in owner:
                first = labels[owner[key]].name
                raise LabelError(
                    f"Got {key!r} twice{origin}, in label {owner[key]} ({first!r}) and in label {index} ({label.name!r}). Accepted are "
                    "words that differ in more than case, spaces and what cannot be seen. Take one out, or join them as synonyms with ';'."
                )
        owner.update(dict.fromkeys({folded(word) for word in (label.name, *label.strings)}, index))
    return Vocabulary(tuple(labels))
