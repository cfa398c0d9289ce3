"""Stable Diffusion with random weights of the real sizes, for the comparisons with programs that look into it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from _shared import Numbers
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn

from nerveseg.backbones.stable_diffusion import StableDiffusion
from nerveseg.backbones.text_tower import TextTower

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
_UNETS = {
    "2.1-base": {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
    "1.5": {"cross_attention_dim": 768, "attention_head_dim": 8, "use_linear_projection": False},
    "small": {"cross_attention_dim": 32, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
    "small-1.5": {"cross_attention_dim": 32, "attention_head_dim": 8, "use_linear_projection": False},
}
_SMALL = {"block_out_channels": (40, 80, 160, 160), "norm_num_groups": 8}  # every head and grid of the real ones, to try a script out
_TOWERS = {  # width, layers, heads, activation
    "2.1-base": (1024, 23, 16, "gelu"),
    "1.5": (768, 12, 12, "quick_gelu"),
    "small": (32, 2, 2, "gelu"),
    "small-1.5": (32, 2, 2, "quick_gelu"),
}


def stable_diffusion(size: str, words: Sequence[str], folder: Path, seed: int = 0, *, sharp: float = 1.3) -> StableDiffusion:
    """Our backbone around random parts of the published sizes.

    Args:
        size: "2.1-base" or "1.5"; "small" and "small-1.5" are narrow ones with the same heads and grids.
        words: English words that the tokenizer holds whole, as CLIP's does with common ones; all others fall into letters.
        folder: where the tokenizer's files go.
        seed: of the values.
        sharp: gain of the U-Net's queries and keys. Larger: its attention has more of a peak.
    """
    draw = Numbers(seed)
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, **_UNETS[size], **(_SMALL if size.startswith("small") else {}))
        vae = AutoencoderKL(
            block_out_channels=(32,) * 4 if size.startswith("small") else (128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            sample_size=512,
        )
    vae.decoder = None
    vae.post_quant_conv = None
    for part in (unet, vae):
        _fill(part, draw, sharp)
    vae.quant_conv.weight[: vae.quant_conv.weight.shape[0] // 2] *= 15  # latents as wide as trained ones, else noise is all there is
    tower = TextTower(_text_model(size, tokenizer(folder, words, pad="" if size.endswith("1.5") else "!"), draw), _tokenizers[str(folder)])
    alphas = DDPMScheduler(**BETAS).alphas_cumprod.float()
    found = StableDiffusion(vae, unet, alphas, tower.embed([tower.framed(())]))
    found._kept["tower"] = tower  # as if it had been read from its folder
    return found


_tokenizers: dict[str, Any] = {}


def tokenizer(folder: Path, words: Sequence[str], *, pad: str = "") -> Any:
    """A byte-level BPE in CLIP's layout that holds each of the words whole; without merges, so that all others fall into letters."""
    from tokenizers import AddedToken
    from transformers.convert_slow_tokenizer import bytes_to_unicode
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    letters = list(bytes_to_unicode().values())
    vocab = letters + [letter + "</w>" for letter in letters]
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocab)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    marks = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    marks["pad_token"] = pad or "<|endoftext|>"
    config = {**marks, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(marks), "utf-8")
    found = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    whole = dict.fromkeys(word for text in words for word in text.replace(",", " ").lower().split())
    found.add_tokens([AddedToken(word, single_word=True, lstrip=True, normalized=True) for word in whole])
    _tokenizers[str(folder)] = found
    return found


def _text_model(size: str, tokens: Any, draw: Numbers) -> Any:
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    width, layers, heads, activation = _TOWERS[size]
    config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        hidden_act=activation,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
    )
    with torch.device("meta"):
        model = CLIPTextModel(config)
    _fill(model, draw)
    return model


def _fill(model: nn.Module, draw: Numbers, sharp: float = 1.3) -> None:
    """Scaled random values in the place of every parameter, and counted positions in that of every buffer."""
    for name, value in list(model.named_parameters()):
        owner = model.get_submodule(name.rpartition(".")[0])
        setattr(owner, name.rpartition(".")[2], nn.Parameter(_value(owner, name, value, draw, sharp), requires_grad=False))
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, torch.arange(buffer.numel()).view(buffer.shape), persistent=False)
    model.eval()


def _value(owner: nn.Module, name: str, like: Tensor, draw: Numbers, sharp: float) -> Tensor:
    if isinstance(owner, (nn.LayerNorm, nn.GroupNorm)):
        return draw.scale(like.numel()) if name.endswith("weight") else draw.normal(like.numel(), std=0.1)
    if isinstance(owner, nn.Embedding):
        return draw.normal(*like.shape, std=0.5)
    if like.ndim < 2:
        return draw.normal(*like.shape, std=0.1)
    gain = sharp if any(part in name for part in ("to_q", "to_k", "q_proj", "k_proj")) else 0.7
    return draw.normal(*like.shape, std=gain / math.sqrt(like[0].numel()))


def schedule(cls: Callable[..., Any]) -> Any:
    """A scheduler of that class with the published checkpoints' settings."""
    more = {"skip_prk_steps": True} if "PNDM" in cls.__name__ else {"clip_sample": False}
    return cls(**BETAS, steps_offset=1, set_alpha_to_one=False, **more)


def note(text: str) -> None:
    """A line beside the table."""
    sys.stderr.write(text + "\n")
