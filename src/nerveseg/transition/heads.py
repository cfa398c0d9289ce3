"""The queries and keys of the attention heads that become a graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.errors import ShapeError
from nerveseg.reprs import brief
from nerveseg.transition.rows import is_plain

__all__ = ["Heads"]

_LARGEST = 1e15  # products of two, summed over any width, stay in float32, and so do their sums over any number of tokens


@dataclass(frozen=True, eq=False)
class Heads:
    """Queries and keys of H attention heads over one grid of tokens.

    Args:
        queries: (H, n, d), any float dtype, finite and at most 1e15 in size; row i is token i, counted along the grid's rows.
        keys: (H, n, d), same dtype and device as ``queries``. Rows of zeros are tokens that look like none: their cosines are 0.
        grid: (height, width) in tokens; height · width = n.

    Raises:
        ShapeError: axes that do not fit each other or the grid, an integer dtype, or a value that is not finite or too large; the message
            names tensor and token.

    >>> heads = Heads(torch.ones(2, 6, 4), torch.ones(2, 6, 4), (2, 3))
    >>> heads.n, heads.count, heads.width
    (6, 2, 4)
    """

    queries: Float[Tensor, "H n d"]
    keys: Float[Tensor, "H n d"]
    grid: tuple[int, int]

    __repr__ = brief

    def __post_init__(self) -> None:
        """Refuse what cannot be a graph, before any work is done on it."""
        queries, keys = self.queries, self.keys
        for name, tensor in (("queries", queries), ("keys", keys)):
            if not is_plain(tensor):
                raise ShapeError(
                    f"Got {name} in {tensor.dtype} on {tensor.device}, laid out as {tensor.layout}. Accepted are plain tensors of floats. "
                    "Call .to_dense() or the like."
                )
        if queries.ndim != 3 or queries.shape != keys.shape or 0 in queries.shape:
            raise ShapeError(
                f"Got queries of shape {tuple(queries.shape)} and keys of shape {tuple(keys.shape)}. "
                "Accepted are two tensors of one shape (heads, tokens, width), none of them 0. Stack the heads of one width first."
            )
        height, width = self.grid
        if height * width != self.n or height < 1:
            raise ShapeError(
                f"Got the grid {self.grid} for {self.n} tokens. Accepted is (height, width) with height · width = {self.n}. "
                "Drop class tokens and registers from queries and keys."
            )
        if not (queries.is_floating_point() and queries.dtype == keys.dtype and queries.device == keys.device):
            raise ShapeError(
                f"Got queries in {queries.dtype} on {queries.device} and keys in {keys.dtype} on {keys.device}. "
                "Accepted is one float dtype on one device. Convert them with .to()."
            )
        if _moderate(queries, keys):
            return
        for name, tensor in (("queries", queries), ("keys", keys)):
            wrong = ~(tensor.float().abs() <= _LARGEST)
            if bool(wrong.any()):
                head, token, place = (int(at) for at in wrong.nonzero()[0])
                raise ShapeError(
                    f"Got {name} with {float(tensor[head, token, place]):g} at head {head}, token {token}, column {place}. "
                    f"Accepted are finite numbers of size up to {_LARGEST:g}, whose products float32 holds. "
                    "Run the backbone in float32 or bfloat16: float16 overflows at 65504."
                )

    @property
    def n(self) -> int:
        """Tokens."""
        return self.queries.shape[1]

    @property
    def count(self) -> int:
        """Heads H."""
        return self.queries.shape[0]

    @property
    def width(self) -> int:
        """Width d of one head."""
        return self.queries.shape[2]

    @property
    def bytes(self) -> int:
        """Bytes that queries and keys hold."""
        return self.queries.nbytes + self.keys.nbytes

    def to(self, target: torch.device | torch.dtype | str) -> Heads:
        """Move to a device, or convert to a float dtype."""
        return Heads(self.queries.to(target), self.keys.to(target), self.grid)

    def half(self) -> Heads:
        """Convert to float16, which halves the memory; every computation on them stays in float32."""
        return self.to(torch.float16)


def _moderate(queries: Tensor, keys: Tensor) -> bool:
    # Smallest and largest entries need no mask of n · H · d, hand NaN on, and come with one wait for the device.
    ends = torch.stack([end.float() for side in (queries, keys) for end in torch.aminmax(side)])
    return bool((ends.abs() <= _LARGEST).all())
