"""Soft scores: the share of each label at each pixel, float16, as one array ``scores`` in a .safetensors file.

The file is one that saved scores are read from: `nerveseg refine FILE IMAGE` walks it, and the label source ``saved`` takes a folder of
them. Its metadata says ``labels`` (a JSON list of names), ``background`` (the id of the background, where there is one), ``at``, and the
recipe, the image's digest and the weights' as ``run``. The label map is not in it: ids may be decided by more than the largest share.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from nerveseg.registry import knob
from nerveseg.segmentation import Segmentation
from nerveseg.writers.base import check_holds, finite, record, replacing

__all__ = ["Options", "holds", "suffix", "write"]

suffix = ".scores.safetensors"
_ALIGNED = 8  # bytes: the data of a .safetensors file starts at a multiple


@dataclass(frozen=True)
class Options:
    """Which scores."""

    at: str = knob(
        "picture",
        "Where the scores are. image: at every pixel, K·H·W·2 bytes, summing to 1 over the labels, with the recipe's temperature; grid: "
        "as the walk leaves them on its token grid, without one, a few hundred times smaller, what they lack to 1 being the rest.",
        choices=("picture", "grid"),
        source="the grid holds all that a walk needs; the image's size is what others read",
    )


def holds(labels: int) -> bool:
    """Any number."""
    return labels >= 1


def write(segmentation: Segmentation, path: Path, options: Options) -> tuple[Path, ...]:
    """Write the scores, a few labels at a time: K·H·W numbers are never held."""
    check_holds(sys.modules[__name__], len(segmentation.labels), path)
    if options.at == "grid":
        size, blocks = segmentation.probabilities.shape[1:], iter([segmentation.probabilities])
    else:
        size, blocks = segmentation.size, (block for _, block in segmentation.score_blocks())
    with replacing(path) as (draft,):
        _save(draft, _head(segmentation, (len(segmentation.labels), size[0], size[1]), options.at), blocks)
    return (path,)


def _head(result: Segmentation, shape: tuple[int, int, int], at: str) -> bytes:
    """The head of a .safetensors file with one float16 array: its length in 8 bytes, and JSON that ends in spaces."""
    said = {
        "labels": json.dumps([label.name for label in result.labels]),
        "at": at,
        "run": json.dumps(finite(record(result)), sort_keys=True, allow_nan=False),
        **({} if result.background is None else {"background": str(result.background)}),
    }
    array = {"dtype": "F16", "shape": list(shape), "data_offsets": [0, 2 * shape[0] * shape[1] * shape[2]]}
    text = json.dumps({"__metadata__": said, "scores": array}, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % _ALIGNED)
    return len(text).to_bytes(8, "little") + text


def _save(draft: Path, head: bytes, blocks: Iterable[Float[Tensor, "c H W"]]) -> None:
    with draft.open("wb") as file:
        file.write(head)
        for block in blocks:
            for one in block:
                file.write(one.half().numpy().astype("<f2").tobytes())
