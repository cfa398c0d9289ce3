"""Normalise a word's characters: invisible ones are ignored, and those that cannot be meant are refused."""

from __future__ import annotations

import unicodedata

from nerveseg.errors import LabelError
from nerveseg.words.prompts import clean

__all__ = ["folded", "plain"]

# Text direction overrides can make a label look like another one in a list or a legend.
_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_JOINERS = frozenset("\u200c\u200d")  # Persian, the scripts of India and composed emoji are spelt with them
_FILLERS = str.maketrans(dict.fromkeys("\u115f\u1160\u3164\uffa0\u2800", " "))  # letters by their class, blanks to look at
_HYPHENS = str.maketrans({"\u2010": "-", "\u2011": "-"})
_UNSEEN = frozenset("\u034f\u17b4\u17b5\u180b\u180c\u180d\u180f")  # of no width, and not of the class Cf


def plain(given: str, where: str) -> str:
    """One word as it is meant: composed letters (NFC), full-width forms narrow, single spaces, nothing invisible.

    Args:
        given: the word.
        where: what to call it, as "label 3".

    Raises:
        LabelError: nothing is left, or a letter that no word has: a control character, a line break, an override of the text's direction,
            a tag, a letter that was lost in decoding, a combining mark with nothing before it.
    """
    text = given.strip()
    for letter in text:
        if reason := _refused(letter):
            raise LabelError(f"Got {text[:80]!r} as {where}, with {reason} U+{ord(letter):04X}. Accepted is plain text. Take it out.")
    narrow = "".join(_narrow(letter) for letter in text).translate(_FILLERS).translate(_HYPHENS)
    word = " ".join(unicodedata.normalize("NFC", _seen(narrow)).split())
    if not clean(word):
        raise LabelError(f"Got an empty string as {where}. Accepted is a word. Take out the empty one, or a stray ',' or ';'.")
    for part in clean(word).split():
        if unicodedata.category(part[0])[0] == "M":
            raise LabelError(
                f"Got {text[:80]!r} as {where}, with the combining mark U+{ord(part[0]):04X} that follows no letter. "
                "Accepted is plain text. Take it out, or put its letter before it."
            )
    return word


def folded(word: str) -> str:
    """What makes two words the same: case, width, white space and what cannot be seen do not count."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word.translate(_FILLERS)).casefold())
    return clean("".join(letter for letter in text if not (_unseen(letter) or _selects(letter))).replace("\u2019", "'").translate(_HYPHENS))


def _refused(letter: str) -> str:
    kind, code = unicodedata.category(letter), ord(letter)
    if kind in ("Cc", "Cs"):  # Cs: halves of surrogate pairs, which no file can hold
        return "the control character"
    if kind in ("Zl", "Zp"):
        return "the line break"
    if letter in _OVERRIDES:
        return "the text direction control character"
    if 0xE0000 <= code < 0xE0080:
        return "the invisible tag"
    if code == 0xFFFD:
        return "a letter that was lost in decoding,"
    return "the non-character" if code & 0xFFFE == 0xFFFE or 0xFDD0 <= code < 0xFDF0 else ""


def _narrow(letter: str) -> str:
    return unicodedata.normalize("NFKC", letter) if unicodedata.decomposition(letter).startswith(("<wide>", "<narrow>")) else letter


def _unseen(letter: str) -> bool:
    return letter in _UNSEEN or unicodedata.category(letter) == "Cf"


def _selects(letter: str) -> bool:
    return 0xFE00 <= ord(letter) < 0xFE10 or 0xE0100 <= ord(letter) < 0xE01F0  # variation selectors


def _seen(text: str) -> str:
    """Without what has no width, but for joiners and selectors where they shape a letter."""
    kept: list[str] = []
    for at, letter in enumerate(text):
        before, after = kept[-1] if kept else " ", text[at + 1] if at + 1 < len(text) else " "
        if letter in _JOINERS:
            stays = _shapes(before) and _shapes(after)
        elif _selects(letter):
            stays = _shapes(before) or after == "\u20e3"  # a key cap: 1, selector, frame
        else:
            stays = not _unseen(letter)
        if stays:
            kept.append(letter)
    return "".join(kept)


def _shapes(letter: str) -> bool:
    return not letter.isascii() and not letter.isspace() and (_selects(letter) or not _unseen(letter))
