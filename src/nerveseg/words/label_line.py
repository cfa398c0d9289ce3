r"""Parse labels from one line (``cat; kitten, dog``), for the command line, the page, the service and Python; and one entry of a list.

``,`` parts labels and ``;`` the strings of one label (the full-width and Arabic forms too). A string that holds one of these, a quote or
a backslash stands in double quotes, as in CSV, with ``""`` for a quote: ``"cat, striped"; tabby, hat``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from nerveseg.errors import LabelError
from nerveseg.words.normalize import plain

__all__ = ["counted", "looks_like_file", "numbered", "parted", "quoted", "strings", "without_comment"]

_COMMAS = frozenset(",\uff0c\u3001\uff64\ufe50\ufe51\u060c")
_SEMICOLONS = frozenset(";\uff1b\ufe54\u061b\u037e")
_STRAIGHT, _CURLED = frozenset('"\uff02'), frozenset("\u201c\u201d\u201e\u201f")
_QUOTES = _STRAIGHT | _CURLED
_PAIRS = {"(": ")", "[": "]", "{": "}", "«": "»", "「": "」", "『": "』", "《": "》", "【": "】"}
_WIDE = str.maketrans("（）［］｛｝", "()[]{}")
_ENDINGS = "txt|text|csv|tsv|tab|json|jsonl|ya?ml|toml|xml|xlsx?|xlsm|ods|numbers|names|lst|list|md|docx?|pdf|npy|npz|pkl|safetensors|html?"
_FILE = re.compile(rf"(?:\.{{1,2}}|~)?[/\\].*|[a-z]:[/\\].*|[a-z][a-z0-9+.-]*:/+.*|.*[^\s.]\.(?:{_ENDINGS})", re.IGNORECASE | re.DOTALL)
_BARE = re.compile(r"[^\W\d_](?:[\w '-]*\w)?")
_STRONG = re.compile(r"\s*(\d+)(?:\s*:\s*(?=[^\d\s])|\s*\t\s*)")
_WEAK = re.compile(r"\s*(\d+)(?:\s*[:,=)]\s*|\s*\.\s+|\s+)(?=[^\d\s])")
_QUOTING = 'Put a word that holds one in double quotes, "" for a quote: \'"cat, striped", hat\''


def parted(line: str) -> list[str]:
    """The labels of a line as they are written, quotes kept; a separator inside quotes parts nothing.

    Raises:
        LabelError: a quote that is not closed.
    """
    found, first, closing = list[str](), 0, frozenset[str]()
    for at, letter in enumerate(line):
        if letter in closing:
            closing = frozenset()
        elif closing:
            continue
        elif letter in _QUOTES:
            closing = _STRAIGHT if letter in _STRAIGHT else _CURLED
        elif letter in _COMMAS:
            found.append(line[first:at])
            first = at + 1
    if closing:
        raise LabelError(f"Got {line[:200]!r} with a quote that is not closed. Accepted are quotes in pairs. {_QUOTING}.")
    return [*found, line[first:]]


def strings(entry: str, where: str) -> list[str]:
    """The strings of one label: parted at ``;``, quotes taken off, each as it is meant.

    Args:
        entry: one of `parted`, an entry of a list, or a line of a file. A comma parts nothing here.
        where: what to call it, as "label 3".

    Raises:
        LabelError: an empty string; a quote, a backslash or a bracket that goes with nothing; a word that is written like a file; a letter
            that no word has.
    """
    found, at = list[str](), 0
    while True:
        word, at = _string(entry, at, where)
        found.append(word)
        if at >= len(entry):
            return found
        at += 1


def _string(entry: str, at: int, where: str) -> tuple[str, int]:
    """A string that begins at a place, and the place where it ends: at a ``;`` or at the end."""
    while at < len(entry) and entry[at].isspace():
        at += 1
    if at < len(entry) and entry[at] in _QUOTES:
        return _within(entry, at, where)
    end = next((place for place in range(at, len(entry)) if entry[place] in _SEMICOLONS), len(entry))
    word = entry[at:end].strip()
    _check(word, where)
    return plain(word, where), end


def _within(entry: str, at: int, where: str) -> tuple[str, int]:
    ends = _STRAIGHT if entry[at] in _STRAIGHT else _CURLED
    letters, place = list[str](), at + 1
    while place < len(entry):
        if entry[place] in ends:
            if ends is _CURLED or entry[place + 1 : place + 2] not in _STRAIGHT or place + 1 == len(entry):
                break
            place += 1
        letters.append(entry[place])
        place += 1
    after = place + 1
    while after < len(entry) and entry[after].isspace():
        after += 1
    if place >= len(entry) or (after < len(entry) and entry[after] not in _SEMICOLONS):
        wrong = "is not closed" if place >= len(entry) else f"is followed by {entry[after : after + 20]!r}"
        raise LabelError(f"Got {entry[:80]!r} as {where}, whose quote {wrong}. Accepted are quotes around whole words. {_QUOTING}.")
    return plain("".join(letters), where), after


def _check(word: str, where: str) -> None:
    """Refuse what says that the word was meant otherwise: it may have been parted where nobody wanted it."""
    came = f"Got {word[:80]!r} as {where}"
    if odd := next((letter for letter in word if letter in _QUOTES or letter == "\\"), ""):
        raise LabelError(f"{came}, with a stray {odd}. Accepted are words without quotes or backslashes. {_QUOTING}.")
    if word[:1] in ("'", "\u2018"):
        raise LabelError(f"{came}, which begins with a single quote. Accepted are double quotes around words. {_QUOTING}.")
    if odd := _unbalanced(word):
        raise LabelError(f"{came}, with {odd!r} alone. Accepted are brackets in pairs within a word. {_QUOTING}.")
    if looks_like_file(word):
        raise LabelError(
            f"{came}, which is written like a file. Accepted are words, or a label file that is there (in Python as a pathlib.Path). "
            "Check the path, or put the word in double quotes."
        )


def _unbalanced(word: str) -> str:
    open_ones: list[str] = []
    for letter in word.translate(_WIDE):
        if letter in _PAIRS:
            open_ones.append(letter)
        elif letter in _PAIRS.values() and not (open_ones and _PAIRS[open_ones.pop()] == letter):
            return letter
    return open_ones[-1] if open_ones else ""


def looks_like_file(text: str) -> bool:
    r"""Whether a word is written as a path or with the ending of a list: ``./x``, ``labels.txt``, ``C:\names``.

    >>> looks_like_file("classes.csv"), looks_like_file("and/or"), looks_like_file("St. Bernard")
    (True, False, False)
    """
    return _FILE.fullmatch(text.strip()) is not None


def numbered(entries: Sequence[str], origin: str, *, spaces: bool = False, mixed: bool = False) -> list[tuple[int, str]]:
    r"""Entries in the order of the numbers that they begin with, numbers taken off; those without numbers as they are.

    Args:
        entries: labels as they are written: ``0: cat``, ``0\tcat``.
        origin: what to call all of them, as "the label file names.txt".
        spaces: also ``0 cat``, ``0, cat``, ``0. cat``, as files have them.
        mixed: leave entries alone where only some have a number, in place of refusing them.

    Returns:
        Each entry's place in ``entries``, and its text.

    Raises:
        LabelError: numbers that are not 0 to K − 1, each once, or that some entries lack.
    """
    form = _WEAK if spaces and all(_WEAK.match(entry) or _STRONG.match(entry) for entry in entries) else _STRONG
    found = [_STRONG.match(entry) or form.match(entry) for entry in entries]
    held = [match for match in found if match is not None]
    if not held or (mixed and len(held) < len(found)):
        return list(enumerate(entries))
    if len(held) < len(found):
        lacking = next(entry for entry, match in zip(entries, found, strict=True) if match is None)
        raise LabelError(
            f"Got {origin} with a number before some words and none before {lacking.strip()[:80]!r}. Accepted are numbers before all or "
            "none. Take them out, or put a word that begins so in double quotes."
        )
    numbers = [int(match[1][:12]) for match in held]
    if sorted(numbers) != list(range(len(numbers))):
        wanted = set(range(len(numbers)))
        lacking_ids, extra = sorted(wanted - set(numbers)), sorted(set(numbers) - wanted)
        twice = f"lacking {lacking_ids[0]}" + (f", with {extra[0]}" if extra else ", with one of them twice")
        raise LabelError(
            f"Got {origin} with {len(numbers)} numbered words, {twice}. Accepted are the numbers 0 to {len(numbers) - 1}, each once, since "
            "they are the ids. Number them so, or take the numbers out."
        )
    place = {number: at for at, number in enumerate(numbers)}
    return [(place[number], entries[place[number]][held[place[number]].end() :]) for number in range(len(numbers))]


def counted(entry: str) -> list[str]:
    """The strings of an entry, not read: for limits that are checked first. Quoted separators count, too."""
    return re.split(f"[{''.join(_SEMICOLONS)}]", entry)


def quoted(words: Iterable[str]) -> str:
    """Strings of one label → how they are written, quotes where they are needed: what `strings` turns back."""
    return "; ".join(word if _BARE.fullmatch(word) else '"' + word.replace('"', '""') + '"' for word in words)


def without_comment(line: str) -> str:
    """A line of a file up to a ``#`` that is first, or after a space, and not in quotes."""
    inside = False
    for at, letter in enumerate(line):
        if letter in _STRAIGHT:
            inside = not inside
        elif letter == "#" and not inside and (at == 0 or line[at - 1].isspace()):
            return line[:at].strip()
    return line.strip()
