"""Read the class lists of published programs as those programs read them; each has a dialect of its own.

    sclip:configs/cls_coco_object.txt                                   whose : path
    cliper:data/voc/cls_voc21.txt
    tagclip:clip_text.py#class_names_voc,BACKGROUND_CATEGORY_VOC        of a Python file: the classes, then the background's words

All agree on one class a line. They differ in what parts the strings of a class (a comma with a space is two strings to SCLIP and one to
ProxyCLIP) and in where the background stands. In most it is class 0 where a benchmark has one, and nowhere else. CLIPer has its words in
the first line for every benchmark, and TagCLIP in a list of its own; where the background is no class these act in the denominator alone.
A Python file is parsed, not run: lists, tuples and dicts of strings that are written out, of modules, classes and ``METAINFO``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nerveseg.errors import DataError
from nerveseg.words.vocabulary import BACKGROUND, Label

__all__ = ["DIALECTS", "Dialect", "Listed", "dialect_of", "listed"]


@dataclass(frozen=True)
class Dialect:
    """How a program reads its lists.

    Attributes:
        mark: what parts the strings of one class; "": nothing does, commas and all.
        heads: the first line of every list is the background's words, parted by white space and commas.
        first: where a string is both the background's and a class's, the background gets its pixels: it is class 0, and the first of two
            equals wins. Else both keep it.
    """

    mark: str
    heads: bool = False
    first: bool = True


DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        "sclip": Dialect(", "),
        "naclip": Dialect(", "),
        "clearclip": Dialect(","),
        "proxyclip": Dialect("; "),
        "corrclip": Dialect("; "),
        "lposs": Dialect(";"),
        "cliper": Dialect("", heads=True, first=False),
        "tagclip": Dialect("", first=False),
        "car": Dialect("", first=False),
        "maskclip": Dialect(""),
        "groupvit": Dialect(""),
        "mmseg": Dialect(""),
    }
)
"""Whose list → how it is read; "mmseg" is any class file of MMSegmentation."""


@dataclass(frozen=True)
class Listed:
    """A list as its program reads it.

    Attributes:
        labels: classes in the order of ids; where the background is one of them it is called so and comes first.
        others: words for a background that is no class.
        first: see `Dialect`.
    """

    labels: tuple[Label, ...]
    others: tuple[str, ...]
    first: bool


def dialect_of(names: str | Path) -> str | None:
    """Whose list a name such as ``sclip:cls_voc21.txt`` says it is; None where it says nothing."""
    whose, colon, rest = str(names).partition(":")
    return whose if colon and rest and whose in DIALECTS else None


def listed(names: str | Path, *, count: int | None = None, background: bool | None = None) -> Listed:
    """Read a published list.

    Args:
        names: ``WHOSE:PATH``; of a Python file ``WHOSE:PATH#CLASSES`` or ``WHOSE:PATH#CLASSES,BACKGROUND``, unless one list alone fits.
        count: classes that there must be, the background included where it is one.
        background: whether class 0 is the background. None: it is one where the list has words for it apart from the classes.

    Raises:
        DataError: a file that cannot be read, an empty line between two classes, another number of classes.
    """
    origin = str(names)
    whose, _, place = origin.partition(":")
    dialect = DIALECTS[whose]
    path, _, wanted = place.partition("#") if ".py#" in place else (place, "", "")
    apart: list[str] | None = None
    if path.endswith(".py"):
        rows, apart = _of_python(_text(path, origin), wanted, origin, count)
    else:
        rows = _lines(_text(path, origin), origin)
    if dialect.heads and apart is None:
        apart, rows = [word for word in re.split(r"[\s,]+", rows[0]) if word], rows[1:]
    if background and apart is None:
        apart, rows = _strings(rows[0], dialect.mark), rows[1:]
    with_class = apart is not None if background is None else background
    if count is not None and len(rows) + with_class != count:
        raise DataError(
            f"Got {len(rows)} classes{' and a background' if with_class else ''} in {origin}, as that program reads it. "
            f"Accepted are {count - with_class}{' and a background' if with_class else ''}. Give the list of this data set, "
            "or say whose it is."
        )
    labels = _named([_strings(row, dialect.mark) for row in rows])
    words = tuple(apart or ())
    if with_class:
        return Listed((Label(BACKGROUND, words), *labels), (), dialect.first)
    return Listed(labels, words, dialect.first)


def _text(path: str, origin: str) -> str:
    try:
        return Path(path).expanduser().read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"Got the names {origin!r}, which cannot be read ({error}). Accepted is {_FORMS}. Check the path.") from error


_FORMS = f"WHOSE:PATH of a text file or a Python file, WHOSE one of {', '.join(DIALECTS)}"


def _lines(text: str, origin: str) -> list[str]:
    rows = text.rstrip().split("\n")
    for number, row in enumerate(rows, start=1):
        if not row.strip():
            raise DataError(f"Got an empty line {number} in {origin}. Accepted is one class a line: the ids would shift. Take it out.")
    return rows


def _strings(row: str, mark: str) -> list[str]:
    # White space around a string is none to any of their tokenizers.
    return [part.strip() for part in (row.split(mark) if mark else [row]) if part.strip()]


def _named(rows: Sequence[list[str]]) -> tuple[Label, ...]:
    """A class is called by its first string; a second class that begins with the same one gets a number."""
    seen: dict[str, int] = {}
    labels: list[Label] = []
    for strings in rows:
        seen[strings[0]] = seen.get(strings[0], 0) + 1
        again = seen[strings[0]]
        labels.append(Label(strings[0] if again == 1 else f"{strings[0]} ({again})", tuple(strings)))
    return tuple(labels)


def _of_python(text: str, wanted: str, origin: str, count: int | None) -> tuple[list[str], list[str] | None]:
    """Classes and, where a second list is named, the background's words."""
    try:
        found = dict(_assigned(ast.parse(text).body))
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise DataError(
            f"Got the names {origin!r}, which is no Python that can be parsed ({error}). Accepted is {_FORMS}. Check it."
        ) from error
    chosen = [name.strip() for name in wanted.split(",")] if wanted else []
    fits = [name for name, entries in found.items() if count in (None, len(entries))]
    if not chosen and len({tuple(found[name]) for name in fits}) == 1:
        chosen = fits[:1]
    if not chosen or len(chosen) > 2 or not all(name in found for name in chosen):
        some = ", ".join(f"{name} ({len(entries)})" for name, entries in found.items()) or "none"
        raise DataError(
            f"Got the names {origin!r}, which do not say one list of that file. Accepted are its lists of strings: {some}. "
            "Write PATH#CLASSES, or PATH#CLASSES,BACKGROUND where the background has one of its own."
        )
    classes = found[chosen[0]]
    return classes, found[chosen[1]] if len(chosen) == 2 else None


def _assigned(body: Sequence[ast.stmt], owner: str = "") -> Iterator[tuple[str, list[str]]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _assigned(node.body, f"{node.name}.")
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        value = getattr(node, "value", None)
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(value, ast.expr):
                yield from _entries(f"{owner}{target.id}", value)


def _entries(name: str, value: ast.expr) -> Iterator[tuple[str, list[str]]]:
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "dict":  # METAINFO = dict(classes=(…))
        for keyword in value.keywords:
            yield from _entries(f"{name}.{keyword.arg}", keyword.value)
        return
    try:
        held: Any = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return  # computed, not written out
    if isinstance(held, dict) and all(isinstance(entry, str) for entry in held.values()):
        held = list(held.values())
    elif isinstance(held, dict):
        nested = [(f"{name}.{key}", entry) for key, entry in held.items() if isinstance(key, str)]
        yield from ((inner, list(entry)) for inner, entry in nested if _are_strings(entry))
        return
    if _are_strings(held):
        yield name, list(held)


def _are_strings(held: Any) -> bool:
    return isinstance(held, (list, tuple)) and bool(held) and all(isinstance(entry, str) and entry.strip() for entry in held)
