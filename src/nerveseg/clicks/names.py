"""Map the labels of clicks to columns of P; unknown labels get new columns."""

from __future__ import annotations

from collections.abc import Sequence

from nerveseg.clicks.click import Click
from nerveseg.errors import LabelError
from nerveseg.words.vocabulary import Background, Label, Vocabulary, folded

__all__ = ["columns"]


def columns(vocabulary: Vocabulary, background: Background | None, clicks: Sequence[Click]) -> tuple[Vocabulary, tuple[int, ...]]:
    """Find the column that each click speaks for.

    Args:
        vocabulary: the labels that have words.
        background: what stands for the rest, or None.
        clicks: their labels may be a label's name or any of its synonyms; case and spaces do not count.

    Returns:
        The labels, new ones appended in the order of their first click and without strings, and each click's column. The background's is
        the one after the last label, which is `rest`.

    Raises:
        LabelError: a name that cannot be a label, or ``background`` where there is none.
    """
    places = {folded(word): at for at, label in enumerate(vocabulary) for word in (label.name, *label.strings)}
    new: list[Label] = []
    found: list[int] = []
    for click in clicks:
        word = folded(click.label)
        if background is not None and word == folded(background.name):
            found.append(-1)
            continue
        if word not in places:
            if background is not None and word in {folded(string) for string in background.strings}:
                raise LabelError(
                    f"Got a click for {click.label!r}, which is a word of the background. Accepted are labels and {background.name!r}. "
                    "Name the background, or take the word out of it."
                )
            named = Vocabulary.parse([Label(click.label, (click.label,))]).names[0]  # as it is: nothing in it is parted
            places[word] = len(vocabulary) + len(new)
            new.append(Label(named, ()))
        found.append(places[word])
    extended = Vocabulary((*vocabulary.labels, *new))
    return extended, tuple(len(extended) if at < 0 else at for at in found)
