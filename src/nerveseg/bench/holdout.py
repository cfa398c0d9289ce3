"""Split labelled images into two disjoint parts: one to choose on, the other to validate the choice."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from nerveseg.datasets import DataSet, Item
from nerveseg.errors import DataError

__all__ = ["FEW", "FEWEST", "few", "halves", "parted"]

FEWEST = 4
"""Images of a half, below which an interval over them says nothing."""

FEW = 30
"""Images, below which an interval over them is wide, and itself unsure."""


def parted(items: Sequence[Item], most: int | None = None) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Part items in two by a digest of their names: the same parts whatever the order of the list.

    Items that are cut from one image stay together, so that no image is in both.

    Args:
        items: the labelled images.
        most: of the first part. None: half of all, the odd one more.

    Returns:
        The first part, and the rest.

    >>> [[item.id for item in part] for part in parted([Item("a"), Item("b"), Item("c")])]
    [['c', 'b'], ['a']]
    """
    together: dict[str, list[Item]] = {}
    for item in items:
        whole = item.id if item.box is None or item.image is None else str(item.image.name)
        together.setdefault(whole, []).append(item)
    order = [together[name] for name in sorted(together, key=_digest)]
    middle = (len(items) + 1) // 2
    goal = middle if most is None else min(most, middle)
    first: list[Item] = []
    while order and len(first) < goal:
        first += order.pop(0)
    return tuple(first), tuple(item for group in order for item in group)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()


def halves(data: DataSet, limit: int | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the images of the two halves of a data set.

    Args:
        data: the labelled images.
        limit: the first so many of them.

    Raises:
        DataError: too few.
    """
    one, other = (tuple(item.id for item in part) for part in parted(data.items[:limit]))
    if len(other) < FEWEST:
        raise DataError(
            f"Got {len(one) + len(other)} labelled images of {data.name}. Accepted are {2 * FEWEST} and more, as half are kept for the "
            "check. Label more, or take a larger --limit."
        )
    return one, other


def few(count: int) -> str | None:
    """What to say of a result over so few images; None where they are enough."""
    if count >= FEW:
        return None
    return f"{count} images are few: the interval is wide and may itself be off; label {FEW} or more before relying on it"
