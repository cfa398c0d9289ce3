"""Dense CRF (Krähenbühl and Koltun 2011): mean field over all pairs of pixels, by an optional library.

E(x) = Σ_p −ln P_{x_p}(p) + Σ_{p<q} [x_p ≠ x_q] · ( w_pos·k(|p − q|/θ_pos) + w_bi·k(|p − q|/θ_xy, |I_p − I_q|/θ_rgb) ),  k Gaussian

The library is pydensecrf2, a kept-up copy of the authors' C++ program. It is published as source alone, so installing it takes a C++
compiler. It filters on a permutohedral lattice, an approximation that the numbers of published systems contain as well.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.errors import MissingExtra
from nerveseg.image.load import LoadedImage
from nerveseg.registry import knob

__all__ = ["Options", "refine"]

on_logits = False
own_size = False

_LEAST = 1e-5  # probability that a label has at least, so that its energy is finite: the library's own


@dataclass(frozen=True)
class Options:
    """Knobs of the dense CRF."""

    iterations: int = knob(10, "mean-field steps. Larger: nearer to convergence, slower.", low=0, high=1000, source="CaR, TagCLIP: 10")
    pos_weight: float = knob(3.0, "w_pos of nearness alone. Larger: smoother, small parts go.", low=0, high=1000, source="CaR, TagCLIP: 3")
    pos_xy: float = knob(1.0, "θ_pos in pixels. Larger: wider.", above=0, high=1e4, source="CaR, TagCLIP: 1")
    bi_weight: float = knob(
        4.0, "w_bi of nearness with like colour. Larger: follows edges harder.", low=0, high=1000, source="CaR, TagCLIP: 4"
    )
    bi_xy: float = knob(67.0, "θ_xy in pixels. Larger: wider.", above=0, high=1e4, source="CaR, TagCLIP: 67")
    bi_rgb: float = knob(3.0, "θ_rgb, colours in 0…255. Larger: unlike colours join, too.", above=0, high=1e4, source="CaR, TagCLIP: 3")


@torch.no_grad()
def refine(P: Float[Tensor, "K H W"], image: LoadedImage, options: Options) -> Float[Tensor, "K H W"]:
    """Refine maps by the image's colours, as they are (CaR and TagCLIP give their CRF an image that has wrapped around).

    Runs on the CPU in float32 whatever the device. Cost O(iterations·K·H·W): about 7 seconds for 21 labels at 512 × 512, one core.

    Raises:
        MissingExtra: the library is not installed.
    """
    labels, height, width = P.shape
    model = _library().DenseCRF2D(width, height, labels)
    energy = P.detach().float().cpu().clamp(_LEAST, 1).log_().neg_().flatten(1)
    model.setUnaryEnergy(np.ascontiguousarray(energy.numpy()))
    model.addPairwiseGaussian(sxy=options.pos_xy, compat=options.pos_weight)
    model.addPairwiseBilateral(sxy=options.bi_xy, srgb=options.bi_rgb, rgbim=np.array(image.pixels, order="C"), compat=options.bi_weight)
    found = torch.tensor(np.array(model.inference(options.iterations), dtype=np.float32)).view(labels, height, width)
    return (found / found.sum(0)).to(device=P.device, dtype=P.dtype)


def _library() -> Any:
    try:
        return importlib.import_module("pydensecrf.densecrf")
    except ImportError as error:
        raise MissingExtra(
            "Got the refiner 'crf', whose library pydensecrf2 is not installed. Accepted is version 1.1 or newer; it takes a C++ compiler. "
            "Install it with: pip install 'nerveseg[crf]'."
        ) from error
