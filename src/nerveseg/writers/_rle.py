"""COCO's run lengths: pixels column by column, runs of outside and inside in turn, and the string that packs them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int64, UInt16

from nerveseg.errors import ImageError
from nerveseg.segmentation import Segmentation

__all__ = ["counts", "fill", "ignored", "pack", "pack_all", "unpack"]

_BITS = 5  # of a number in each character; the sixth says that more follow
_FIRST = 48  # the character "0"


def counts(mask: Bool[np.ndarray, "b c"], size: tuple[int, int], *, top: int = 0, left: int = 0) -> Int64[np.ndarray, " r"]:
    """Run lengths of a mask in an image, down the columns from the left: outside, inside, outside, …; the first may be 0.

    Args:
        mask: True inside; all else of the image is outside.
        size: (height, width) of the image.
        top: row of the image that the mask's first row is.
        left: column of the image that the mask's first column is.

    Cost O(b·c), not O(height·width).
    """
    height, width = size
    steps = np.diff(np.pad(mask.T, ((0, 0), (1, 1))).astype(np.int8), axis=1)  # ±1 where a column enters and leaves the mask
    column, row = np.nonzero(steps)
    bounds = (column + left).astype(np.int64) * height + row + top
    starts, ends = bounds[0::2], bounds[1::2]
    apart = starts[1:] != ends[:-1]  # False: the run goes on from the foot of one column to the head of the next
    starts, ends = np.concatenate([starts[:1], starts[1:][apart]]), np.concatenate([ends[:-1][apart], ends[-1:]])
    edges = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [height * width]]).astype(np.int64)
    lengths = np.diff(edges)
    return lengths[:-1] if lengths.size > 1 and lengths[-1] == 0 else lengths


def pack(lengths: Int64[np.ndarray, " r"]) -> str:
    """Write run lengths as COCO does: from the fourth on less the one two before, five bits a character, lowest first, with a sign.

    >>> pack(np.array([6, 1, 40, 4, 5, 4, 5, 4, 21]))
    '61X13mN000`0'
    """
    return pack_all(lengths, np.array([lengths.size], dtype=np.int64))[0]


def pack_all(lengths: Int64[np.ndarray, " r"], count: Int64[np.ndarray, " o"]) -> list[str]:
    """As `pack`, for many at once: ``count`` run lengths each, one after the other in ``lengths``."""
    values = lengths.astype(np.int64)
    place = np.arange(values.size) - np.repeat(np.cumsum(count) - count, count)
    late = np.flatnonzero(place >= 3)
    values[late] -= lengths[late - 2]
    needed = np.ones(values.size, dtype=np.int64)
    for size in range(1, 13):  # five bits each: 60 are plenty
        sign = values >> (_BITS * size - 1)
        wide = (sign != 0) & (sign != -1)
        if not bool(wide.any()):
            break
        needed[wide] = size + 1
    digit = np.arange(int(needed.max(initial=1)))
    groups = (values[:, None] >> (_BITS * digit)) & 31
    groups |= np.where(digit < needed[:, None] - 1, 32, 0)
    text = (groups[digit < needed[:, None]] + _FIRST).astype(np.uint8).tobytes().decode("ascii")
    ends = np.cumsum(needed)[np.cumsum(count) - 1].tolist()
    return [text[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


def unpack(text: str) -> Int64[np.ndarray, " r"]:
    """Read run lengths from COCO's string.

    Raises:
        ImageError: a string that is no such packing.

    >>> unpack("61X13mN000`0").tolist()
    [6, 1, 40, 4, 5, 4, 5, 4, 21]
    """
    groups = np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8).astype(np.int64) - _FIRST
    last = (groups & 32) == 0
    if groups.size == 0 or not bool(last[-1]) or bool(((groups < 0) | (groups > 63)).any()):
        raise ImageError(f"Got the run lengths {text[:20]!r}. Accepted are COCO's packed ones. Write the file again.")
    ends = np.flatnonzero(last)
    begins = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(groups.size) - np.repeat(begins, ends - begins + 1)
    values = np.add.reduceat((groups & 31) << (_BITS * place), begins)
    negative = (groups[ends] & 16) != 0
    values -= negative.astype(np.int64) << (_BITS * (ends - begins + 1))
    for first in (1, 2):  # each length from the fourth on stands less the one two before
        values[first::2] = np.cumsum(values[first::2])
    return values


def fill(ids: UInt16[np.ndarray, "H W"], packed: str, value: int) -> None:
    """Set the pixels inside packed run lengths to ``value``, in place.

    Raises:
        ImageError: lengths that are not those of an image of that size.
    """
    lengths = unpack(packed)
    if bool((lengths < 0).any()) or int(lengths.sum()) != ids.size:
        raise ImageError(
            f"Got run lengths over {int(lengths.sum())} pixels. Accepted are {ids.size}, as the image has. Write the file again."
        )
    edges = np.concatenate([[0], np.cumsum(lengths)])
    starts, sizes = edges[1:-1:2], lengths[1::2]
    inside = np.arange(int(sizes.sum())) + np.repeat(starts - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes)
    columns, rows = np.divmod(inside, ids.shape[0])
    ids[rows, columns] = value


def ignored(result: Segmentation) -> str | None:
    """The ignored pixels, packed, for a format that cannot tell them from the background; None where there are none."""
    mask = result.segmentation.numpy() >= len(result.labels)
    return pack(counts(mask, result.size)) if bool(mask.any()) else None
