"""cos, unclamped: (8) to the letter, for fidelity studies. Low rank; entries may be negative and row sums may vanish, which is refused."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from nerveseg.errors import StochasticError
from nerveseg.registry import knob
from nerveseg.transition.kernels._rows import unit_pair as prepare

__all__ = ["Options", "features", "prepare"]

low_rank = True
stochastic = False
sharpness = None


@dataclass(frozen=True)
class Options:
    """Knobs of the raw cosine."""

    floor: float = knob(1e-3, "Smallest accepted |mean cosine| of a row; smaller accepts rows that blow up by 1/floor.", above=0, high=1)


def features(A: Float[Tensor, "n d"], B: Float[Tensor, "n d"], options: Options) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Give the unit vectors back.

    Raises:
        StochasticError: a row whose cosines cancel out, so that dividing by their sum means nothing.
    """
    means = (A @ B.mean(dim=0)).abs()
    least, row = means.min(dim=0)
    if float(least) < options.floor:
        raise StochasticError(
            f"Got a row of raw cosines (token {int(row)}) whose mean is {float(least):.1e} in size. "
            f"Accepted is a mean of at least {options.floor:g}. Use the kernel 'cosine', 'shifted' or 'anchor', which cannot cancel out."
        )
    return A, B
