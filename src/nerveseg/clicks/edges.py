"""The graph that clicks walk on: S, with the image's own edges in its local part."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from nerveseg.image import LoadedImage
from nerveseg.transition.base import Transition
from nerveseg.transition.operators import SparseRows

__all__ = ["colours", "edged"]


def colours(image: LoadedImage, grid: tuple[int, int]) -> Float[Tensor, "n 3"]:
    """The mean colour of the pixels under each token, R, G and B from 0 to 1, to 1/255. Cost O(H·W)."""
    small = image.to_pil().resize((grid[1], grid[0]), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small, dtype=np.float32) / 255).view(-1, 3)


def edged(S: Any, seen: Float[Tensor, "n 3"], *, sharpness: float, beta: float | None = None) -> Any:
    """Weaken steps between neighbours by the contrast between their colours; what a step loses stays in place.

    L̃_ij = L_ij·exp(−γ‖c_i − c_j‖/m) for neighbours i ≠ j, L̃_ii = 1 − Σ_j L̃_ij, with L the local graph of S, c the tokens' colours and m
    the mean of ‖c_i − c_j‖ over all pairs of neighbours that differ: an image of little contrast has edges too. S̃ = βW + (1 − β)L̃ with W
    the global graph. Rows of S̃ sum to 1, and no step is there that S has not.

    Args:
        S: the transition; what has no local graph is given back as it is.
        seen: each token's colour.
        sharpness: γ ≥ 0. Larger: a walk crosses fewer edges of the image.
        beta: share of the global graph, 0 … 1; None: that of S.

    Cost: O(n), and 36·n bytes.
    """
    if not isinstance(S, Transition) or S.stencil is None:
        return S
    share = S.beta if beta is None or S.spread is None else beta
    if sharpness == 0:
        return S if share == S.beta else dataclasses.replace(S, beta=share)
    indices, values = S.stencil.indices.long(), S.stencil.values
    c = seen.to(values)
    far = (c[:, None] - c[indices]).square().sum(2).sqrt()
    mean = far[far > 0].mean() if bool((far > 0).any()) else far.new_ones(())
    kept = values * torch.exp(far * (-sharpness / mean))
    # Plane 4 of the nine is the token itself.
    kept[:, 4] += (values - kept).sum(1)
    return dataclasses.replace(S, stencil=SparseRows(S.stencil.indices, kept), beta=share)
