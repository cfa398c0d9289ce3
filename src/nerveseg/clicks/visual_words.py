"""Visual words: the mean token vector under a label's clicks, as one more of its strings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from nerveseg.labels.base import Words

__all__ = ["NAME", "even", "rows", "with_visual"]

NAME = "(clicked)"
"""What stands in the place of a visual word's string."""

_RIDGE = 0.01  # of the mean square along an axis of the token space: what all tokens lack is not stretched to say something


def even(Z: Float[Tensor, "m E"]) -> Float[Tensor, " E"]:
    """The vector whose product with every token is as near to 1 as there is one: what shifts all cosines alike. Cost O(m·E² + E³)."""
    linalg: Any = torch.linalg
    square = Z.T @ Z
    ridge = _RIDGE * square.diagonal().mean().clamp_min(1e-12)
    return linalg.solve(square + ridge * torch.eye(len(square), device=Z.device), Z.sum(0))


def rows(
    Z: Float[Tensor, "m E"],
    index: Int64[Tensor, " t"],
    ids: Int64[Tensor, " t"],
    T: Float[Tensor, "s E"],
    *,
    margin: float,
    level: Float[Tensor, " E"] | None = None,
) -> dict[int, Tensor]:
    """The visual words of one image: label → row.

    Cosines between two token vectors are higher than those between a token and a text: a bare mean vector would win far and wide. With v
    the unit mean of the tokens under the label's clicks and u what shifts all cosines alike (`even`), the row is v + t·u, t such that under
    the clicks its mean cosine is that of the best text there, plus ``margin``. It falls from there as tokens look less like the clicks.

    Args:
        Z: unit token vectors.
        index: tokens under clicks.
        ids: their labels.
        T: unit vectors of all strings, the background's too.
        margin: in cosines. Larger: the word takes more.
        level: u, where it is at hand.
    """
    u = even(Z) if level is None else level
    found: dict[int, Tensor] = {}
    for label in ids.unique().tolist():
        under = Z[index[ids == label]]
        v = F.normalize(under.mean(0), dim=0)
        wanted = (under @ T.T).mean(0).max() + margin
        shift = (under @ u).mean()
        # Where no vector shifts all cosines (tokens that cancel out), the word stands as it is.
        found[label] = v + (wanted - (under @ v).mean()) / shift * u if float(shift) > 0.1 else v
    return found


def with_visual(words: Words, given: Mapping[int, Tensor], labels: int) -> Words:
    """Join visual words to the strings of their labels.

    Args:
        words: as they are without.
        given: label → its row; the label ``labels`` is the background.
        labels: how many labels there are, new ones included.
    """
    strings, groups, vectors = list(words.strings), list(words.groups), list(words.vectors)
    others, other_vectors = list(words.others), list(words.other_vectors)
    for label, row in sorted(given.items()):
        if label == labels:
            others.append(NAME)
            other_vectors.append(row.to(words.vectors))
            continue
        at = sum(group <= label for group in groups)
        strings.insert(at, NAME)
        groups.insert(at, label)
        vectors.insert(at, row.to(words.vectors))
    return dataclasses.replace(
        words,
        strings=tuple(strings),
        groups=tuple(groups),
        others=tuple(others),
        vectors=torch.stack(vectors),
        other_vectors=torch.stack(other_vectors) if other_vectors else words.other_vectors,
    )
