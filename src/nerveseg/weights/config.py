"""Read ``config.json`` and other small files of a checkpoint with limits, before a library builds what they describe."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nerveseg import parse
from nerveseg.errors import WeightsError

__all__ = ["LEAD", "buildable", "read", "stand_in"]

LEAD = 64
"""Bytes at a file's start by which `stand_in` knows it."""

_LONGEST = 16 << 20  # bytes of a small file: the largest tokenizer has 4 MB
_MOST_LAYERS = 1000
_WIDE = 4096  # a width up to this cannot fill a memory, whatever the weights
_LAYERS = re.compile(r"(?:num_)?(?:hidden_|encoder_|decoder_)?layers(?:_per_block)?|depths?|num_blocks")
_WIDTHS = re.compile(
    r"\w*(?:hidden_size|intermediate_size|projection_dim|_dim|_channels|channels|vocab_size|position_embeddings|block_out_channels)"
)
_COUNTS = re.compile(r"\w*(?:patch_size|image_size|num_attention_heads|num_heads|sample_size|group_norm_num_groups|norm_num_groups)")
_LARGEST_COUNT = 1 << 16


def read(path: Path) -> Any:
    """Read a small JSON file of a checkpoint.

    Raises:
        WeightsError: not there, too long, no JSON, or something else in its place, which is named.
    """
    try:
        text = parse.text_of(path, most=_LONGEST)
    except (OSError, ValueError) as error:
        raise WeightsError(f"Got {path}, which cannot be read: {error}. Accepted is a whole file of JSON. Fetch it again.") from error
    if said := stand_in(text.encode()):
        raise WeightsError(f"Got {path}, which is {said}")
    try:
        return parse.from_json(text)
    except ValueError as error:
        raise WeightsError(f"Got {path}, which is no JSON: {error}. Accepted is a whole file. Fetch it again.") from error


def stand_in(start: bytes) -> str | None:
    """What lies in the place of a file, with the way out, as its first bytes tell; None where they tell nothing."""
    lead = start[:LEAD].lstrip(b"\xef\xbb\xbf \r\n\t")
    if lead.startswith(b"version https://git-lfs"):
        return (
            "a pointer of Git LFS: the repository was cloned without its large files. Accepted is the file itself. Run `git lfs pull` in "
            "its folder, or fetch it anew with nerveseg weights fetch."
        )
    if lead.lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return (
            "a web page that was saved in its place, such as that of a login or an error. Accepted is the file itself. Take the address "
            "of the download, or fetch it with nerveseg weights fetch."
        )
    if start[:LEAD] and not start[:LEAD].strip(b"\0"):
        return "nothing but zeros: room was made for a download that never came. Accepted is a whole file. Fetch it again."
    return None


def buildable(path: Path, shapes: Mapping[str, Sequence[int]]) -> Mapping[str, Any]:
    """Read ``config.json``, and refuse sizes that no weight beside it has: building such a network could take all memory, or for ever.

    Args:
        path: the file.
        shapes: weight → shape.

    Raises:
        WeightsError: no JSON object, a size of 0 or less, more layers than weights, or a width that nothing has.
    """
    config = read(path)
    if not isinstance(config, dict):
        raise WeightsError(
            f"Got {path}, which is no object of JSON. Accepted is a configuration as from_pretrained reads it. Fetch it again."
        )
    sides = {side for shape in shapes.values() for side in shape}
    layers = min(_MOST_LAYERS, max(1, len(shapes)))
    for name, value in _numbers(config):
        key = name.rpartition(".")[2]
        if _LAYERS.fullmatch(key) and not 0 <= value <= layers:
            raise _bad(path, name, value, f"0 to {layers}, as there are {len(shapes)} weights")
        if _WIDTHS.fullmatch(key) and (value < 1 or (value > _WIDE and value not in sides)):
            raise _bad(path, name, value, f"1 to {_WIDE}, or a length that one of the weights has")
        if _COUNTS.fullmatch(key) and not 1 <= value <= _LARGEST_COUNT:
            raise _bad(path, name, value, f"1 to {_LARGEST_COUNT}")
    return config


def _numbers(table: Any, lead: str = "") -> Iterator[tuple[str, int | float]]:
    """Every number below a table, by dotted name; those of a list have its name."""
    if isinstance(table, bool):
        return
    if isinstance(table, (int, float)):
        yield lead, table
    elif isinstance(table, Mapping):
        for key, value in table.items():
            yield from _numbers(value, f"{lead}.{key}" if lead else str(key))
    elif isinstance(table, list):
        for value in table:
            yield from _numbers(value, lead)


def _bad(path: Path, name: str, value: float, accepted: str) -> WeightsError:
    return WeightsError(
        f"Got {path} with {name} = {value:.6g}. Accepted is {accepted}. Take configuration and weights from one checkpoint, or mend it."
    )
