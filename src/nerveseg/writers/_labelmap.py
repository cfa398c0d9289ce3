"""What Pascal VOC's folders and CVAT's masks share: 0 is the background, ids are larger by one, and ``labelmap.txt``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16

from nerveseg.errors import OutputError
from nerveseg.masks.palette import voc_palette
from nerveseg.segmentation import Segmentation
from nerveseg.words.vocabulary import BACKGROUND
from nerveseg.writers.base import check_holds, check_names

__all__ = ["LABELS", "SHIFT", "check", "labelmap", "shifted", "unshifted", "values"]

SHIFT = 1
IGNORED = "ignored"
LABELS = 254
"""Labels beside the background: values 1 … 254, since 0 is the background and 255 ignored."""


def check(writer: Any, result: Segmentation, stem: str, path: Path) -> None:
    """Refuse too many labels, names that ``labelmap.txt`` cannot hold, and stems that a list of lines cannot hold."""
    zero = _zero([label.name for label in result.labels], result.background)
    check_holds(writer, len(result.labels) - (zero is not None), path)
    check_names(result, ":\n\r", path, blank=False)
    for text, what in [(label.name, "label") for label in result.labels] + [(stem, "picture")]:
        lone = text.encode("utf-8", "replace").decode("utf-8") != text  # bytes of a file's name that are no UTF-8
        if lone or text.startswith("#") or text != text.strip() or "\n" in text or "\r" in text:
            raise OutputError(
                f"Got the {what} {text!r} for {path}. Accepted in this format are names in one line of UTF-8 that neither start with # "
                "nor have spaces at their ends. Rename it, or choose another format."
            )


def values(common: Mapping[str, Any]) -> tuple[list[int], int | None]:
    """Value in the file of each id, and the id that is 0 there (None: no label is the background)."""
    names = [label["name"] for label in common["labels"]]
    zero = _zero(names, common["background"])
    return [0 if index == zero else index + SHIFT for index in range(len(names))], zero


def shifted(result: Segmentation, common: Mapping[str, Any], ignored: int) -> UInt8[np.ndarray, "H W"]:
    """The label map in the file's values."""
    ids = result.segmentation.numpy()
    table = np.array([*values(common)[0], ignored], dtype=np.uint8)
    return table[np.minimum(ids, len(result.labels))]


def unshifted(stored: UInt8[np.ndarray, "H W"], common: Mapping[str, Any]) -> UInt16[np.ndarray, "H W"]:
    """Ids from the file's values; 0, where no label is the background, and what is no label are ignored."""
    table = np.full(256, common["ignore_index"], dtype=np.uint16)
    for index, value in enumerate(values(common)[0]):
        table[value] = index
    return table[stored]


def labelmap(common: Mapping[str, Any], *, ignored: int | None = None) -> str:
    """The lines ``name:r,g,b::``, the background first; colours are Pascal VOC's for the value.

    Args:
        common: what the parts share.
        ignored: the value of ignored pixels, where there are some; readers by colour want a line for each. The line is called as VOC
            calls it, ``ignored``, unless a label has that name.
    """
    colours = voc_palette().tolist()
    found, zero = values(common)
    rows = [(0, BACKGROUND if zero is None else common["labels"][zero]["name"])]
    rows += [(value, label["name"]) for value, label in zip(found, common["labels"], strict=True) if value]
    if ignored is not None and IGNORED not in {name for _, name in rows}:
        rows.append((ignored, IGNORED))
    lines = ["# label:color_rgb:parts:actions", *(f"{name}:{','.join(map(str, colours[value]))}::" for value, name in rows)]
    return "\n".join(lines) + "\n"


def _zero(names: list[str], background: int | None) -> int | None:
    """The label that is the background: the one that was asked for, else one of that name, which the format keeps for 0."""
    if background is not None:
        return background
    return names.index(BACKGROUND) if BACKGROUND in names else None
