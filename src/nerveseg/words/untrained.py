"""Word the warning about words that a text tower was not trained on: one sentence, however many there are."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["untrained"]

_NAMED = 2


def untrained(words: Sequence[str], tower: str) -> str:
    """Name the first words, count the others.

    >>> untrained(["zebra"], "this CLIP")
    "'zebra' is a word that this CLIP was not trained on"
    >>> untrained(["zebra", "zeppelin", "zither", "zucchini"], "this CLIP")
    "'zebra', 'zeppelin' and 2 more are words that this CLIP was not trained on"

    Args:
        words: one or more.
        tower: what was not trained on them, in words.
    """
    if len(words) == 1:
        return f"{words[0]!r} is a word that {tower} was not trained on"
    *first, last = [repr(word) for word in words[:_NAMED]] + ([f"{len(words) - _NAMED} more"] if len(words) > _NAMED else [])
    return f"{', '.join(first)} and {last} are words that {tower} was not trained on"
