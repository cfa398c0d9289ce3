"""What to look for: labels in the caller's order, each with one or more strings that mean it, and the background."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerveseg.errors import LabelError
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

# Text direction overrides: they can make a label look like another one in a list or a legend.
_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Label:
    """One label: the name shown to people, and the strings that CLIP is asked for (underscores are spaces there)."""

    name: str
    strings: tuple[str, ...]


@dataclass(frozen=True)
class Vocabulary:
    """Labels in the caller's order; label i is column i of G and P and id i in the map.

    >>> [label.strings for label in Vocabulary.parse(["cat; kitten", "potted_plant"])]
    [('cat', 'kitten'), ('potted plant',)]
    """

    labels: tuple[Label, ...]

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

    @classmethod
    def parse(cls, labels: Any) -> Vocabulary:
        """Read labels in any of the accepted forms.

        Args:
            labels: a list of strings (``;`` parts synonyms), a list of lists of synonyms, a dict from prompt to class name
                (prompts of the same class are synonyms), `Label` objects, or a Vocabulary, which comes back as it is.

        Raises:
            LabelError: no label, an empty or doubled one, a control character, or a bare string.
        """
        if isinstance(labels, Vocabulary):
            return labels
        if isinstance(labels, (str, bytes)):
            raise LabelError(
                f"Got the single string {labels!r} for the labels. Accepted is a list of strings. "
                "Write [...] around one label, or use Vocabulary.parse_line for words parted by commas."
            )
        if isinstance(labels, Mapping):
            return _checked(_from_prompts(labels))
        if isinstance(labels, (set, frozenset)) or not isinstance(labels, Iterable):
            raise LabelError(
                f"Got {type(labels).__name__} for the labels. Accepted is a list or a dict. Labels need an order: give a list."
            )
        return _checked([_label(entry, f"label {index}") for index, entry in enumerate(labels)])

    @classmethod
    def parse_line(cls, line: str) -> Vocabulary:
        """Read labels as the command line takes them: ``,`` parts labels, ``;`` parts synonyms.

        >>> Vocabulary.parse_line("cat; kitten, dog").names
        ('cat', 'dog')
        """
        if not isinstance(line, str):
            raise LabelError(f"Got {type(line).__name__} for a line of labels. Accepted is a string. Use Vocabulary.parse for a list.")
        if not line.strip():
            raise LabelError("Got an empty line of labels. Accepted are words parted by ','. Name at least one.")
        return _checked([_label(part, f"label {index}") for index, part in enumerate(line.split(","))])

    @classmethod
    def read(cls, path: str | Path) -> Vocabulary:
        """Read a file in UTF-8: one label a line, ``;`` parts synonyms, ``#`` (first, or after a space) starts a comment.

        Raises:
            LabelError: the file cannot be read, or a line cannot become a label; the message names the line.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise LabelError(
                f"Got the label file {path} with a byte at {error.start} that is not UTF-8. Accepted is UTF-8. Save it as UTF-8."
            ) from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise LabelError(
                f"Got the label file {path}, which cannot be read ({reason}). Accepted is a text file. Check the path."
            ) from error
        found: list[Label] = []
        # split, not splitlines: the latter also breaks at form feeds and the like, which are refused as control characters instead.
        for number, line in enumerate(text.split("\n"), start=1):
            words = _without_comment(line)
            if "," in words:
                raise LabelError(
                    f"Got {words!r} in line {number} of {path}. Accepted is one label a line. Part synonyms by ';', labels by lines."
                )
            if words:
                found.append(_label(words, f"line {number} of {path}"))
        return _checked(found)


@dataclass(frozen=True)
class Background:
    """Everything that is none of the labels: the words that stand for it in the denominator of G.

    Pixels where `rest` wins get the id after the last label, under the name ``background``.

    Attributes:
        strings: the words.
        name: what its pixels are called.
        published: words as a program published them, that may be labels, too, or stand twice: they are taken as they are.
    """

    strings: tuple[str, ...]
    name: str = BACKGROUND
    published: bool = False

    @classmethod
    def parse(cls, given: Any, vocabulary: Vocabulary) -> Background | None:
        """Read the background argument.

        Args:
            given: None (every pixel gets a label), ``"auto"`` (`BACKGROUND_WORDS` without the caller's labels), or a list of words.
            vocabulary: the labels beside it.

        Raises:
            LabelError: another string, no words, a word that is also a label, or a label called ``background``.
        """
        if given is None:
            return None
        if isinstance(given, Background):
            if given.published:
                return given
            given = given.strings
        taken = {folded(string) for label in vocabulary for string in (label.name, *label.strings)}
        if BACKGROUND in taken:
            raise LabelError(
                f"Got the label {BACKGROUND!r} and a background. Accepted is one of the two. Take the label out or give background=None."
            )
        if isinstance(given, str) and given == "auto":
            # "trees" as a label takes "tree" out as well: the two would share the probability of the same pixels.
            roots = {key.rstrip("s") for key in taken}
            return cls(tuple(word for word in BACKGROUND_WORDS if folded(word).rstrip("s") not in roots))
        if isinstance(given, (str, bytes, Mapping)):
            raise LabelError(f"Got background={given!r}. Accepted are None, 'auto' or a list of words. Write [...] around a single word.")
        words = [string for label in Vocabulary.parse(given) for string in label.strings]
        for word in words:
            if folded(word) in taken:
                raise LabelError(f"Got {word!r} both as a label and as background. Accepted is one of the two. Take it out of one list.")
        return cls(tuple(words))


def need_background(vocabulary: Vocabulary, background: Background | None) -> None:
    """Refuse one label alone without a background: every pixel would get it, whatever the picture shows."""
    if len(vocabulary) == 1 and background is None:
        raise LabelError(
            f"Got the single label {vocabulary.names[0]!r} and no background. Accepted are two labels or more, or one beside a background. "
            "Give background='auto', or the words that stand for the rest."
        )


def folded(word: str) -> str:
    """What makes two words the same: case, width and white space do not count."""
    return clean(unicodedata.normalize("NFKC", word)).casefold()


def _word(given: Any, where: str) -> str:
    if not isinstance(given, str):
        raise LabelError(f"Got {given!r} ({type(given).__name__}) as {where}. Accepted is a string. Give the word in quotes.")
    word = given.strip()
    for letter in word:
        # Cc: control characters, Cs: halves of surrogate pairs, which no file can hold.
        if unicodedata.category(letter) in ("Cc", "Cs") or letter in _OVERRIDES:
            raise LabelError(
                f"Got {word!r} as {where}, with the control character U+{ord(letter):04X}. Accepted is plain text. Take it out."
            )
    if not clean(word):
        raise LabelError(f"Got an empty string as {where}. Accepted is a word. Take out the empty one, or a stray ',' or ';'.")
    return " ".join(word.split())


def _label(entry: Any, where: str) -> Label:
    if isinstance(entry, Label):
        return _joined(_word(entry.name, where), [_word(string, where) for string in entry.strings], where)
    parts = [entry] if isinstance(entry, str) or not isinstance(entry, (tuple, list)) else list(entry)
    words = [_word(piece, where) for part in parts for piece in (part.split(";") if isinstance(part, str) else [part])]
    return _joined(words[0] if words else "", words, where)


def _joined(name: str, words: Iterable[str], where: str) -> Label:
    """Synonyms that differ in case or spaces only are kept once, so that a sum over synonyms counts them once."""
    kept: dict[str, str] = {}
    for word in words:
        kept.setdefault(folded(word), clean(word))
    if not kept:
        raise LabelError(f"Got no string for {where}. Accepted is one string or more. Give the word to look for.")
    return Label(name, tuple(kept.values()))


def _from_prompts(ontology: Mapping[Any, Any]) -> list[Label]:
    joined: dict[str, list[str]] = {}
    for prompt, name in ontology.items():
        shown = _word(name, f"the class of {prompt!r}")
        joined.setdefault(shown, []).extend(_label(prompt, f"the prompt of {shown!r}").strings)
    return [_joined(name, words, name) for name, words in joined.items()]


def _without_comment(line: str) -> str:
    hash_at = next((at for at, letter in enumerate(line) if letter == "#" and (at == 0 or line[at - 1].isspace())), len(line))
    return line[:hash_at].strip()


def _checked(labels: list[Label]) -> Vocabulary:
    if not labels:
        raise LabelError("Got no labels. Accepted is one label or more. Name what to look for.")
    owner: dict[str, int] = {}
    for index, label in enumerate(labels):
        for key in {folded(word) for word in (label.name, *label.strings)}:
            if key in owner:
                first = labels[owner[key]].name
                raise LabelError(
                    f"Got {key!r} twice, in label {owner[key]} ({first!r}) and in label {index} ({label.name!r}). "
                    "Accepted are words that differ in more than case and spaces. Take one out, or join them as synonyms with ';'."
                )
        owner.update(dict.fromkeys({folded(word) for word in (label.name, *label.strings)}, index))
    return Vocabulary(tuple(labels))
