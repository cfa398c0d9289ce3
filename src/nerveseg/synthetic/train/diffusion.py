"""The tiny latent diffusion set, trained with the denoising loss only: images, captions, noise; no masks, no labels of pixels.

The U-Net has Stable Diffusion's layout at a reduced width: its top level goes up through two blocks with five self-attention heads each,
the ten heads that the graph is read from. One caption in seven is dropped, so that the empty prompt of segmentation was trained, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from nerveseg.synthetic.train import loop, tokenizer, vae, watch

__all__ = ["build", "train"]

_SMALL = ((64, 64), (64, 64), (64, 96), (96, 64), (80, 80))
_LARGE = ((96, 96), (128, 128), (128, 96), (128, 160), (160, 128))
_NEAR = ((64, 64), (64, 96), (96, 64))
_ZOOMS = (1.0, 1.5, 2.0)  # segmentation looks closer than the scenes are drawn, for a finer grid: images of _NEAR are enlarged
_LARGE_FROM, _LARGE_ONLY_FROM = 0.45, 0.85  # shares of the training
_TOKENS = 6144  # latent tokens in a batch
_DROPPED = 1 / 7


def build(words: int) -> tuple[UNet2DConditionModel, CLIPTextModel, DDPMScheduler]:
    """An untrained U-Net of 7.3 M parameters, its text tower, and the noise schedule of Stable Diffusion."""
    unet = UNet2DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(80, 120, 160),
        layers_per_block=1,
        attention_head_dim=5,  # diffusers' name for the number of heads
        cross_attention_dim=96,
        norm_num_groups=20,
        use_linear_projection=True,
    )
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.CONTEXT,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
    )
    text = CLIPTextModel._from_config(config, attn_implementation="eager")
    noise = DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
    )
    return unet, text, noise


def train(folder: Path, minutes: float) -> None:
    """Train for ``minutes`` in all on the latents of ``folder``/vae, and save the averaged set under ``folder``/diffusion."""
    torch.manual_seed(2)
    coder: AutoencoderKL = AutoencoderKL.from_pretrained(folder / "vae").eval()
    words = tokenizer.save(folder / "diffusion" / "tokenizer")
    unet, text, noise = build(len(words))
    both = nn.ModuleDict({"unet": unet, "text": text})
    ema = loop.Ema(both, 0.9985)
    optimiser = torch.optim.AdamW(both.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    small, large, near, zooms = (loop.cycle(choices, seed) for seed, choices in enumerate((_SMALL, _LARGE, _NEAR, _ZOOMS), 3))
    # The fused attention's backward is the slow part at a few hundred tokens.
    unet.set_attn_processor(AttnProcessor())

    def step(number: int, progress: float) -> dict[str, float]:
        grown = progress > _LARGE_ONLY_FROM or (progress > _LARGE_FROM and number % 2 == 1)
        zoom = next(zooms) if grown else 1.0
        size = next(large) if grown and zoom == 1.0 else next(near) if grown else next(small)
        count = max(4, int(_TOKENS * 16 / (size[0] * size[1] * zoom**2)))
        batch = loop.images(10**8 + number * 64, count, size, (0, 2) if size[0] * size[1] < 8000 else (1, 4))
        pixels, captions, _ = loop.words_of(batch)
        if zoom > 1:
            pixels = F.interpolate(pixels, scale_factor=zoom, mode="bicubic").clamp(0, 1)
        generator = torch.Generator().manual_seed(number)
        optimiser.param_groups[0]["lr"] = loop.learning_rate(1.2e-3, progress, number)
        with torch.autocast("cpu", torch.bfloat16):
            loss, rows = _loss(both, noise, words, vae.encode(coder, pixels).float(), captions, generator)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimiser.step()
        ema.update(both)
        return {"loss": float(loss.detach()), **rows}

    def look() -> dict[str, float]:
        kept = {name: value.clone() for name, value in both.state_dict().items()}
        both.load_state_dict(ema.average)
        seen = watch.attention(unet, lambda pixels: vae.encode(coder, pixels), _embed(text, words, [""]), noise.alphas_cumprod)
        both.load_state_dict(kept)
        return seen

    loop.train(folder / "diffusion-run", {"model": both, "ema": ema, "optimiser": optimiser}, step, minutes, look)
    both.load_state_dict(ema.average)
    unet.set_default_attn_processor()
    for part, name in ((unet, "unet"), (text, "text_encoder"), (noise, "scheduler"), (coder, "vae")):
        part.save_pretrained(folder / "diffusion" / name)


def _loss(
    both: nn.ModuleDict,
    noise: DDPMScheduler,
    words: CLIPTokenizer,
    latents: Tensor,
    captions: list[str],
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, float]]:
    count = len(latents)
    dropped = torch.rand(count, generator=generator) < _DROPPED
    told = ["" if drop else caption for drop, caption in zip(dropped.tolist(), captions, strict=True)]
    # Segmentation reads the attention at little noise, so little noise is trained more often.
    t: Any = (999 * torch.rand(count, generator=generator) ** 1.7).long()
    epsilon = torch.randn(latents.shape, generator=generator)
    noisy, target = noise.add_noise(latents, epsilon, t), noise.get_velocity(latents, epsilon, t)
    guess = both["unet"](noisy, t, _embed(both["text"], words, told)).sample.float()
    each = (guess - target).square().mean((1, 2, 3))
    low = t < 200
    return each.mean(), {"low_noise": float(each[low].detach().mean())} if bool(low.any()) else {}


def _embed(text: nn.Module, words: CLIPTokenizer, strings: list[str]) -> Tensor:
    tokens = words(strings, padding="max_length", max_length=tokenizer.CONTEXT, truncation=True, return_tensors="pt")
    return text(input_ids=tokens["input_ids"]).last_hidden_state
