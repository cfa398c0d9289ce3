"""Names of classes: lists that ship, one file a data set and origin, and lists of the field's other repositories by path.

A file has one class a line in the order of ids, ``;`` parts the strings of one class, the first is its name; ``#`` starts a comment.
Files of others are read too: where no line has a ``;``, ``,`` parts the strings.

``DATA.synonyms.txt`` is no list to score with but other words for the same classes, after the name of each: what tells how much a score
hangs on names. It is read as the list "synonyms".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from nerveseg.errors import DataError
from nerveseg.words.vocabulary import BACKGROUND, Label

__all__ = ["SYNONYMS", "ClassNames", "has_synonyms", "lists", "read"]

SYNONYMS = "synonyms"
"""What the file of other words for a data set's classes is called."""


@dataclass(frozen=True)
class ClassNames:
    """The classes of a data set in the order of their ids.

    Attributes:
        labels: name and strings of each class. Where class 0 is the background its strings are what the background is asked for by.
        origin: which list: the name of one that ships, or a path.
        digest: sha256 of the names and strings, first 16 digits.
    """

    labels: tuple[Label, ...]
    origin: str

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
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def lists(data: str) -> tuple[str, ...]:
    """The lists that ship for a data set, "official" first."""
    found = sorted(path.name for path in files(__name__).iterdir() if path.name.startswith(f"{data}.") and path.name.endswith(".txt"))
    origins = [name.removeprefix(f"{data}.").removesuffix(".txt") for name in found]
    return tuple(sorted((origin for origin in origins if origin != SYNONYMS), key=lambda origin: (origin != "official", origin)))


def has_synonyms(data: str) -> bool:
    """Whether other words for a data set's classes ship."""
    return files(__name__).joinpath(f"{data}.{SYNONYMS}.txt").is_file()


def read(data: str, names: str | Path = "official", *, count: int | None = None, background: bool = False) -> ClassNames:
    """Read a list of class names.

    Args:
        data: registry name of the data set.
        names: a list that ships (`lists`), or the path of a file.
        count: classes that there must be.
        background: whether class 0 is the background: it is then called so, whichever strings its line has.

    Raises:
        DataError: no such list, a file that cannot be read, or with another number of classes, or a name twice.
    """
    if str(names) in lists(data) or (str(names) == SYNONYMS and has_synonyms(data)):
        origin, text = str(names), files(__name__).joinpath(f"{data}.{names}.txt").read_text("utf-8")
    else:
        origin, text = str(names), _text(Path(names), data)
    lines = [line for line in (raw.split("#")[0].strip() for raw in text.splitlines()) if line]
    mark = ";" if any(";" in line for line in lines) else ","
    labels = tuple(_label([part.strip() for part in line.split(mark) if part.strip()]) for line in lines)
    if count is not None and len(labels) != count:
        raise DataError(
            f"Got {len(labels)} names in {origin} for {data}. Accepted are {count}, one class a line in the order of ids. "
            "Give the list of this data set."
        )
    if background and labels:
        labels = (Label(BACKGROUND, labels[0].strings), *labels[1:])
    called = [label.name for label in labels]
    if twice := next((name for index, name in enumerate(called) if name in called[:index]), None):
        raise DataError(f"Got {twice!r} twice in {origin} for {data}. Accepted is a name of its own for each class. Mend the list.")
    return ClassNames(labels, origin)


def _label(strings: list[str]) -> Label:
    return Label(strings[0], tuple(string.replace("_", " ") for string in strings))


def _text(path: Path, data: str) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(
            f"Got the names {str(path)!r}, which cannot be read ({error}). "
            f"Accepted are {', '.join(lists(data)) or 'no list that ships'}, or the path of a text file. Check it."
        ) from error
