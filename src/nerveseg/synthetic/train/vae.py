"""The tiny autoencoder: 4 × 4 pixels become one latent of 4 channels. Loss: reconstruction and a little KL; no words, no masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from nerveseg.synthetic.train import loop

__all__ = ["build", "encode", "scaling_factor", "train"]

_SCENES = 10
_QUARTERED = 0.6  # share of the training in which every scene is cut into quarters: four times the variety for the same pixels
_KL = 1e-4


def build() -> Any:
    """An untrained autoencoder of 0.6 M parameters."""
    layout: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "block_out_channels": (16, 32, 64),
    }
    return AutoencoderKL(**layout, layers_per_block=1, latent_channels=4, norm_num_groups=8, sample_size=128, mid_block_add_attention=False)


def train(folder: Path, minutes: float) -> None:
    """Train for ``minutes`` in all, and save the averaged weights under ``folder``/vae with the scaling factor that gives unit variance."""
    torch.manual_seed(0)
    vae = build()
    ema = loop.Ema(vae)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0)

    def step(number: int, progress: float) -> dict[str, float]:
        pixels, _, _ = loop.words_of(loop.images(number * _SCENES, _SCENES, (64, 64), (0, 2)))
        if progress < _QUARTERED:
            pixels = torch.cat([half for row in pixels.chunk(2, 2) for half in row.chunk(2, 3)])
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(pixels * 2 - 1).latent_dist
            error = (vae.decode(posterior.sample()).sample - (pixels * 2 - 1)).float()
        kl = posterior.kl().float().mean() / posterior.mean[0].numel()
        loss = error.abs().mean() + error.square().mean() + _KL * kl
        optimiser.param_groups[0]["lr"] = loop.learning_rate(2e-3, progress, number)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        ema.update(vae)
        return {"loss": float(loss.detach()), "psnr": _psnr(error.detach()), "kl": float(kl.detach())}

    loop.train(folder / "vae-run", {"model": vae, "ema": ema, "optimiser": optimiser}, step, minutes)
    vae.load_state_dict(ema.average)
    vae.register_to_config(scaling_factor=scaling_factor(vae))
    vae.save_pretrained(folder / "vae")


def _psnr(error: Tensor) -> float:
    return float(-10 * torch.log10(error.square().mean() / 4))


@torch.no_grad()
def scaling_factor(vae: Any) -> float:
    """One over the latents' standard deviation, so that scaled latents have unit variance."""
    pixels, _, _ = loop.words_of(loop.images(10**7, 64, (64, 64), (0, 2)))
    return round(1 / float(vae.encode(pixels * 2 - 1).latent_dist.mode().std()), 5)


def encode(vae: Any, pixels: Tensor) -> Tensor:
    """Latents of pixels in [0, 1]: the posterior's mean times the scaling factor."""
    with torch.no_grad():
        return vae.encode(pixels * 2 - 1).latent_dist.mode() * vae.config["scaling_factor"]
