"""Names of classes: lists that ship, one file a data set and origin, and lists of the field's other repositories by path.

A file has one class a line in the order of ids, ``;`` parts the strings of one class, the first is its name; ``#`` starts a comment.
Files of others are read too: where no line has a ``;``, a comma with a space parts the strings; numbers before all lines (``0: cat``) are
the ids. Places are ids, so a blank line between names is refused. Spreadsheets, JSON and data.yaml are read as label files are. A list
that another program published is read as that program reads it where its name says so, as in ``sclip:cls_voc21.txt``; see `dialects`.

``DATA.synonyms.txt`` is no list to score with but other words for the same classes, after the name of each: what tells how much a score
hangs on names. It is read as the list "synonyms".
"""

from __future__ import annotations

import hashlib
import re
import warnings
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from nerveseg import text_files
from nerveseg.datasets.classes.dialects import DIALECTS, dialect_of, listed
from nerveseg.errors import DataError, LabelError
from nerveseg.reprs import brief
from nerveseg.words import lists as label_lists
from nerveseg.words.label_line import numbered
from nerveseg.words.normalize import plain
from nerveseg.words.vocabulary import BACKGROUND, Label, Vocabulary

__all__ = ["SYNONYMS", "ClassNames", "CommasPart", "dialect_of", "has_synonyms", "lists", "read"]

_STRUCTURED = (*label_lists.SHEETS, ".json", ".yaml", ".yml")

SYNONYMS = "synonyms"
"""What the file of other words for a data set's classes is called."""


_CLOSE = re.compile(r",[^\s,]")
_WHOSE = ", ".join(DIALECTS)


class CommasPart(UserWarning):
    """Commas of a list were taken to part the strings of a class."""


@dataclass(frozen=True)
class ClassNames:
    """The classes of a data set in the order of their ids.

    Attributes:
        labels: name and strings of each class. Where class 0 is the background its strings are what the background is asked for by.
        origin: which list: the name of one that ships, or a path.
        others: words for the background of a data set that has none among its classes, where a published list has them: they act in
            denominators, and a pixel that goes to them is none of the classes.
        dialect: whose list it is, one of `dialects.DIALECTS`; "" where it does not say.
        first: a string that is the background's and a class's, too, is the background's where pixels go.
    """

    labels: tuple[Label, ...]
    origin: str
    others: tuple[str, ...] = ()
    dialect: str = ""
    first: bool = False

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """One name a class."""
        return tuple(label.name for label in self.labels)

    @property
    def digest(self) -> str:
        """Sha256 of names and strings, the first 16 digits."""
        text = "\n".join("; ".join((label.name, *label.strings)) for label in self.labels)
        if self.dialect:
            text += f"\n\n{'; '.join(self.others)}\n{self.first}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def lists(data: str) -> tuple[str, ...]:
    """The lists that ship for a data set, "official" first."""
    found = sorted(path.name for path in files(__name__).iterdir() if path.name.startswith(f"{data}.") and path.name.endswith(".txt"))
    origins = [name.removeprefix(f"{data}.").removesuffix(".txt") for name in found]
    return tuple(sorted((origin for origin in origins if origin != SYNONYMS), key=lambda origin: (origin != "official", origin)))


def has_synonyms(data: str) -> bool:
    """Whether other words for a data set's classes ship."""
    return files(__name__).joinpath(f"{data}.{SYNONYMS}.txt").is_file()


def read(data: str, names: str | Path = "official", *, count: int | None = None, background: bool | None = None) -> ClassNames:
    """Read a list of class names.

    Args:
        data: registry name of the data set.
        names: a list that ships (`lists`), the path of a file, or ``WHOSE:PATH`` of a published one (`dialects`).
        count: classes that there must be.
        background: whether class 0 is the background: it is then called so, whichever strings its line has. None: it is not, but in a
            published list that has words for it apart from its classes.

    Raises:
        DataError: no such list, a file that cannot be read, or with another number of classes, a name twice, or a comma that may part
            strings or not.
    """
    if (whose := dialect_of(names)) is not None:
        found = listed(names, count=count, background=background)
        return ClassNames(found.labels, str(names), found.others, whose, found.first)
    if str(names) in lists(data) or (str(names) == SYNONYMS and has_synonyms(data)):
        origin, text = str(names), files(__name__).joinpath(f"{data}.{names}.txt").read_text("utf-8")
    else:
        origin, text = str(names), _text(Path(names), data) if Path(names).suffix.lower() not in _STRUCTURED else None
    labels = _labels(text, origin)
    if count is not None and len(labels) != count:
        raise DataError(
            f"Got {len(labels)} names in {origin} for {data}. Accepted are {count}, one class a line in the order of ids. "
            f"Give the list of this data set; of a published one say whose it is, WHOSE:PATH ({_WHOSE})."
        )
    if background and labels:
        labels = (Label(BACKGROUND, labels[0].strings), *labels[1:])
    called = [label.name for label in labels]
    if twice := next((name for index, name in enumerate(called) if name in called[:index]), None):
        raise DataError(f"Got {twice!r} twice in {origin} for {data}. Accepted is a name of its own for each class. Mend the list.")
    return ClassNames(labels, origin)


def _labels(text: str | None, origin: str) -> tuple[Label, ...]:
    """The classes in their order; ``text`` is None for a file that `Vocabulary.read` reads."""
    try:
        if text is None:
            return Vocabulary.read(Path(origin)).labels
        held = _without_gaps(list(label_lists.entries(text)), origin)
        mark = ";" if any(";" in line for _, line in held) else ","
        order = numbered([line for _, line in held], f"the names {origin}", spaces=True, mixed=True)
        if mark == "," and (close := next((line for _, line in order if _CLOSE.search(line)), None)):
            raise DataError(
                f"Got {close!r} in {origin}: one string, or several? Accepted is ';' or ', ' between the strings of a class. Write one of "
                f"them, or say whose list it is ({_WHOSE}): clearclip:PATH parts at every comma, cliper:PATH and tagclip:PATH at none."
            )
        # One mark at the end of a line ends its last string, as published lists have it.
        labels = tuple(_label(line.rstrip().removesuffix(mark).split(mark), f"line {held[at][0]} of {origin}") for at, line in order)
    except LabelError as error:
        raise DataError(str(error)) from error
    if mark == "," and (several := [label for label in labels if len(label.strings) > 1]):
        warnings.warn(
            f"{origin}: ', ' parts the strings of {len(several)} classes, of {several[-1].name!r} for one. Write ';' in its place, or say "
            "whose list it is: sclip:PATH has it so, to cliper:PATH a comma is part of the name.",
            CommasPart,
            stacklevel=3,
        )
    return labels


def _without_gaps(lines: list[tuple[int, str]], origin: str) -> list[tuple[int, str]]:
    """Refuse a blank line between names: whether it stands for an id cannot be told, and all names after it hang on that."""
    filled = [at for at, (_, line) in enumerate(lines) if line]
    inner = lines[filled[0] : filled[-1] + 1] if filled else []
    if gap := next((number for number, line in inner if not line), None):
        raise DataError(
            f"Got the blank line {gap} between names in {origin}. Accepted is one class a line, since the place of a line is its id. "
            "Take the blank line out, or write a name for the id."
        )
    return inner


def _label(strings: list[str], where: str) -> Label:
    words = [plain(string, where) for string in strings]
    return Label(words[0], tuple(word.replace("_", " ") for word in words))


def _text(path: Path, data: str) -> str:
    if not path.exists():
        raise DataError(
            f"Got the names {str(path)!r}, which cannot be read (no such file). "
            f"Accepted are {', '.join(lists(data)) or 'no list that ships'}, or the path of a text file. Check it."
        )
    return text_files.read(path, "the names", DataError)
