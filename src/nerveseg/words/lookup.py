"""Find a label's index by its name, one of its strings, or its id."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Sequence
from typing import Any

from nerveseg.errors import LabelError
from nerveseg.words.normalize import folded
from nerveseg.words.vocabulary import Label

__all__ = ["place"]


def place(labels: Sequence[Label], key: Any) -> int:
    """Find a label's id.

    Args:
        labels: in the order of their ids.
        key: a name, any string of a label (case, spaces and underscores do not count), or an id.

    Raises:
        LabelError: no such label; the message has the nearest names.
    """
    if isinstance(key, str):
        word = folded(key)
        owner = {folded(string): at for at, label in reversed(list(enumerate(labels))) for string in label.strings}
        owner |= {folded(label.name): at for at, label in reversed(list(enumerate(labels)))}
        if word in owner:
            return owner[word]
        near = difflib.get_close_matches(word, owner, n=3)
        names = list(dict.fromkeys(labels[owner[one]].name for one in near))
        known = names or [label.name for label in labels[:8]]
        more = ", …" if not names and len(labels) > len(known) else ""
        hint = f"Did you mean {' or '.join(map(repr, names))}?" if names else "Name one of them."
        raise LabelError(f"Got the label {key!r}, which was not asked for. Accepted are {', '.join(known)}{more}. {hint}")
    try:
        at = operator.index(key)
    except TypeError:
        at = -1
    if isinstance(key, bool) or not 0 <= at < len(labels):
        raise LabelError(f"Got {key!r} for a label. Accepted are a name, or an id from 0 to {len(labels) - 1}. Name one of the labels.")
    return at
