"""Convert to float64 block by block, to compute the certificate of a walk without a copy of everything."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["by_blocks", "totals", "totals_in", "wide"]

# Entries that are widened at a time: 2 MiB of float64 stay in a core's cache, an accelerator wants more work at a time.
_BLOCK_CPU, _BLOCK_ELSEWHERE = 2**18, 2**25


def wide(x: Tensor) -> Tensor:
    """The same numbers in float64: where they are, or on the CPU where the device knows no float64 (MPS)."""
    return x.to("cpu" if x.device.type == "mps" else x.device, torch.float64)


def by_blocks(matrix: Float[Tensor, "n m"]) -> Iterator[tuple[slice, Float[Tensor, "b m"]]]:
    """Blocks of rows in float64: (which rows, they themselves). The whole matrix in float64 is never held."""
    entries = _BLOCK_CPU if matrix.device.type in ("cpu", "mps") else _BLOCK_ELSEWHERE
    step = max(1, entries // matrix.shape[1])
    for start in range(0, matrix.shape[0], step):
        block = slice(start, start + step)
        yield block, wide(matrix[block])


def totals(rows: Float[Tensor, "*H b n"]) -> Float[Tensor, "*H b 1"]:
    """Row sums, added up in float64 where there is one: what is divided by them sums to 1 up to one rounding an entry."""
    return rows.sum(dim=-1, keepdim=True, dtype=totals_in(rows)).to(rows.dtype)


def totals_in(x: Tensor) -> torch.dtype:
    """The dtype that sums over many entries of a tensor are added up in."""
    return torch.float32 if x.device.type == "mps" else torch.float64
