"""Softmax attention of heads, made a block of rows at a time: what walks on heads share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Rows", "attention", "held", "peaks", "product"]

Rows = Callable[[slice], Float[Tensor, "b n"]]
"""Some rows of an n × n matrix, float32; they belong to the caller unless `held` gave them."""

# Entries of one block of rows: 4 MiB of float32 stay in a core's cache, an accelerator wants more work at a time.
_BLOCK_CPU, _BLOCK_ELSEWHERE = 2**20, 2**26
_HELD = 2**28  # bytes of the largest matrix that is held: 8192 tokens; larger ones are made anew in every pass


def attention(queries: Float[Tensor, "H n d"], keys: Float[Tensor, "H n d"]) -> Rows:
    """Mean over heads of softmax_j(q_i·k_j/√d), float32 whatever comes in; rows sum to 1."""
    q, k = queries.float() / math.sqrt(queries.shape[-1]), keys.float().mT

    def rows(block: slice) -> Float[Tensor, "b n"]:
        total = (q[0, block] @ k[0]).softmax(-1)
        for h in range(1, len(q)):
            total += (q[h, block] @ k[h]).softmax(-1)
        return total.div_(len(q))

    return rows


def held(rows: Rows, n: int, *, limit: int = _HELD) -> Rows:
    """The same rows, made once and kept where all of them fit into ``limit`` bytes; they must not be changed then."""
    if 4 * n * n > limit:
        return rows
    kept: dict[int, Tensor] = {}

    def remembered(block: slice) -> Float[Tensor, "b n"]:
        if block.start not in kept:
            kept[block.start] = rows(block)
        return kept[block.start]

    return remembered


def peaks(rows: Rows, n: int, like: Tensor) -> Float[Tensor, " n"]:
    """The largest entry of each column."""
    found = torch.zeros(n, device=like.device)
    for block in _blocks(n, like):
        torch.maximum(found, rows(block).amax(0), out=found)
    return found


def product(rows: Rows, X: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """The matrix times X, block by block: O(n²·k) beside what the rows cost, and one block of memory."""
    out = torch.empty_like(X)
    for block in _blocks(len(X), X):
        torch.mm(rows(block), X, out=out[block])
    return out


def _blocks(n: int, like: Tensor) -> Iterator[slice]:
    size = max(1, (_BLOCK_CPU if like.device.type == "cpu" else _BLOCK_ELSEWHERE) // n)
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
