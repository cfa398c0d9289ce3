"""The graph of Stable Diffusion behind a tiny encoder: TAESD in the place of the VAE, at a ninth of its work.

What the U-Net sees is an estimate of the VAE's answer, so that heads differ a little; not in the papers, not yet validated on real weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.backbones.stable_diffusion import StableDiffusion
from nerveseg.backbones.taesd import TinyEncoder
from nerveseg.errors import OptionError
from nerveseg.graph.stable_diffusion import Options, concat_layers
from nerveseg.image.load import LoadedImage
from nerveseg.transition import Heads

__all__ = ["Options", "heads", "needs"]

needs = ("diffusion", "taesd")


@torch.no_grad()
def heads(image: LoadedImage, networks: Mapping[str, Any], options: Options, *, noise: Float[Tensor, "1 c h w"] | None = None) -> Heads:
    """Read the heads of one image, as the graph ``stable_diffusion`` does after its VAE.

    Args:
        image: any size.
        networks: their ``diffusion`` and ``taesd``.
        options: see `nerveseg.graph.stable_diffusion.Options`.
        noise: ε itself in place of the seed, of the latent's shape.

    Returns:
        Heads, float32. One pass of the tiny encoder and an unfinished U-Net pass; memory O(H·n·d).

    Raises:
        OptionError: layers of different grids where ``mix_grids`` is off, or an encoder whose latents are not this U-Net's.
    """
    backbone: StableDiffusion = networks["diffusion"]
    encoder: TinyEncoder = networks["taesd"]
    channels = (backbone.unet.config.in_channels, encoder.model.config.latent_channels)
    if encoder.shrink != backbone.shrink or channels[0] != channels[1]:
        raise OptionError(
            f"Got a tiny encoder of {channels[1]} channels at 1/{encoder.shrink} for a U-Net of {channels[0]} at 1/{backbone.shrink}. "
            "Accepted is one made for this diffusion model. Take the TAESD of its family."
        )
    x_0 = encoder.latent(backbone.pixels(image, size=options.size, fit=options.fit, resize=options.resize))
    x_t = backbone.noised(x_0, t=options.t, seed=options.seed, noise=noise)
    (seen,) = backbone.cross_attention(x_t, backbone.prompt, t=options.t, cross=(), own=options.layers)
    return concat_layers(seen.own, options)
