"""Check G: one finite row per token, and rows that sum to 1 where it must be probabilities."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.errors import ShapeError, StochasticError
from nerveseg.transition.transfer import numbers

__all__ = ["finite_rows", "is_plain", "label_rows"]

# What half precision leaves of a sum of 1: bfloat16 rounds an entry to 1/512 of itself. Entries below 0 are round-off of a difference.
_OFF, _BELOW = 2.0**-8, 1e-5


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor has real numbers, one after the other, that can be read: not sparse, nested, quantised, complex or on ``meta``."""
    held = not tensor.is_nested and tensor.layout == torch.strided and not tensor.is_meta
    return held and not (tensor.is_quantized or tensor.is_complex())


def finite_rows(G: Float[Tensor, "n k"], n: int) -> Float[Tensor, "n k"]:
    """Check that G has one finite row for each of n tokens, and give it in float32.

    Raises:
        ShapeError: another shape, no floats, or a number that is not finite; names the token.
    """
    _shaped(G, n)
    ends = torch.stack([end.float() for end in torch.aminmax(G)])
    if not bool(torch.isfinite(ends).all()):
        raise _not_finite(G)
    return G.float()


def label_rows(G: Float[Tensor, "n k"], n: int) -> Float[Tensor, "n k"]:
    """Check that G has one row of label probabilities for each of n tokens, and give it in float32, as it is.

    Rows may miss 1 by 1/256, which is what half precision leaves; they are not scaled, and walk with the sums that they have.

    Raises:
        ShapeError: as `finite_rows`. StochasticError: an entry below 0, or a row that does not sum to 1; names the token.
    """
    _shaped(G, n)
    rows = G.float()
    sums = rows.sum(dim=1)
    least, largest, low, high = numbers(torch.stack([*torch.aminmax(rows), *torch.aminmax(sums)]))  # the one wait for the device
    if least >= -_BELOW and low >= 1 - _OFF and high <= 1 + _OFF:
        return rows
    if not (abs(least) < torch.inf and abs(largest) < torch.inf):  # NaN is neither
        raise _not_finite(G)
    accepted = f"Accepted are rows of numbers ≥ 0 that sum to 1 (to {_OFF:g}, as half precision leaves them)"
    if least < -_BELOW:
        token, column = (int(at) for at in (rows < -_BELOW).nonzero()[0])
        raise StochasticError(
            f"Got G with {float(rows[token, column]):g} at token {token}, column {column}. {accepted}. "
            "Make probabilities of scores first, by a softmax or a division."
        )
    token = int((sums - 1).abs().argmax())
    raise StochasticError(
        f"Got G with the row sum {float(sums[token]):g} at token {token}. {accepted}. "
        "Divide each row by its sum, or add a column for the rest."
    )


def _shaped(G: Tensor, n: int) -> None:
    if not is_plain(G):
        raise ShapeError(
            f"Got G in {G.dtype} on {G.device}, laid out as {G.layout}. Accepted is a plain tensor. Call .to_dense() or the like."
        )
    if G.ndim != 2 or G.shape[0] != n or G.shape[1] < 1:
        raise ShapeError(f"Got G of shape {tuple(G.shape)}. Accepted is ({n}, k), one row a token. Resample G to the grid of the heads.")
    if not G.is_floating_point():
        raise ShapeError(f"Got G in {G.dtype}. Accepted are finite floats. Convert it with .float().")


def _not_finite(G: Tensor) -> ShapeError:
    token, column = (int(at) for at in (~torch.isfinite(G.float())).nonzero()[0])
    return ShapeError(
        f"Got G with {float(G[token, column])} at token {token}, column {column}. Accepted are finite floats. Mend the label source."
    )
