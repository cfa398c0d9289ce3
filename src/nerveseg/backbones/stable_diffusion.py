"""Stable Diffusion, opened at its self-attention: pixels → queries and keys of named layers, in one unfinished U-Net pass."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.backbones import capture
from nerveseg.backbones.reading import complete, reading
from nerveseg.errors import OptionError, ShapeError, WeightsError

__all__ = ["LayerHeads", "StableDiffusion", "load"]

_BLOCK = ".transformer_blocks.0.attn1"
_ORDER = ("down_blocks", "mid_block", "up_blocks")


@dataclass(frozen=True)
class LayerHeads:
    """Queries and keys of one self-attention layer, float32, before scaling by 1/√d; tokens row by row on ``grid`` = (h, w)."""

    layer: str
    queries: Float[Tensor, "H n d"]
    keys: Float[Tensor, "H n d"]
    grid: tuple[int, int]


@dataclass(frozen=True, eq=False)
class StableDiffusion:
    """A frozen latent diffusion model: the VAE's encoder, the U-Net, the noise schedule and the embedding of the empty prompt.

    Attributes:
        vae: diffusers' ``AutoencoderKL`` without its decoder.
        unet: diffusers' ``UNet2DConditionModel``.
        alphas: ᾱ_t, share of the picture's variance left at step t, float32 on the CPU.
        prompt: the text tower's answer to "", (1, tokens, D).
    """

    vae: Any
    unet: Any
    alphas: Float[Tensor, " T"]
    prompt: Float[Tensor, "1 L D"]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.prompt.device

    @property
    def shrink(self) -> int:
        """Pixels a latent cell, along a side: 8 for the published models."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def multiple(self) -> int:
        """Sides of pictures are multiples of this, so that every level of the U-Net halves evenly: 64 for the published models."""
        return self.shrink * 2 ** (len(self.unet.config.block_out_channels) - 1)

    @property
    def side(self) -> int:
        """Side in pixels of the pictures it was trained on: 512 (SD 1.5, 2.1-base) or 768 (SD 2.1)."""
        size = self.unet.config.sample_size
        return self.shrink * int(size if isinstance(size, int) else min(size))

    @property
    def layers(self) -> tuple[str, ...]:
        """Module paths of all self-attention layers, in the order in which a pass reaches them."""
        found = [name for name, _ in self.unet.named_modules() if name.endswith(".attn1")]
        return tuple(sorted(found, key=lambda name: _ORDER.index(name.split(".", 1)[0])))

    def resolve(self, layers: Sequence[int | str]) -> tuple[str, ...]:
        """Turn layers into module paths: −1 is the last self-attention layer, 0 the first; paths may stop at their ``attentions.N``.

        Raises:
            OptionError: no such layer, none at all, or one named twice.
        """
        known = self.layers
        paths = tuple(_resolve(layer, known) for layer in layers)
        if not paths or len(set(paths)) != len(paths):
            raise OptionError(f"Got layers = {tuple(layers)!r}. Accepted are one or more different layers. Name each of them once.")
        return paths

    @torch.no_grad()
    def attention(
        self,
        pixels: Float[Tensor, "1 3 height width"],
        *,
        t: int,
        layers: Sequence[int | str] = (-1, -2),
        seed: int = 0,
        noise: Float[Tensor, "1 c h w"] | None = None,
    ) -> tuple[LayerHeads, ...]:
        """Noise a picture to step t and read queries and keys of the named layers; the pass ends once they are in hand.

        x_0 = VAE mean × scaling factor; x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε; empty prompt, one pass, no guidance.

        Args:
            pixels: RGB in [−1, 1]; sides are multiples of `multiple`.
            t: step of the schedule, 0 … T − 1; larger: more noise, coarser things decide.
            layers: indices in execution order (negative: from the end) or module paths.
            seed: of ε, drawn on the CPU by a generator of its own, the same on every device; the caller's random state is untouched.
            noise: ε itself, in place of the seed, of the latent's shape.

        Returns:
            One `LayerHeads` a layer, in the order asked for. Memory O(H·n·d): no attention matrix is formed.

        Raises:
            OptionError: a layer or step that does not exist.
            ShapeError: sides that do not halve evenly, or noise of another shape.
        """
        if not 0 <= t < len(self.alphas):
            raise OptionError(f"Got t = {t}. Accepted is 0 to {len(self.alphas) - 1}. Choose a step of the schedule.")
        paths = self.resolve(layers)
        self._check_sides(pixels)
        x_t = self._noised(pixels, t, seed, noise)
        modules = {path: self.unet.get_submodule(path) for path in paths}
        hooked: dict[str, Any] = {}
        for path, module in modules.items():
            hooked[f"{path}.q"], hooked[f"{path}.k"] = capture.projections(module)
        with capture.outputs_of(hooked, stop=True) as seen, capture.stop_once_complete():
            self.unet(x_t, torch.tensor([t], device=self.device), encoder_hidden_states=self.prompt)
        return tuple(self._layer(path, modules[path].heads, seen, x_t.shape[-2:]) for path in paths)

    def _check_sides(self, pixels: Tensor) -> None:
        if pixels.shape[0] != 1 or any(side % self.multiple or not side for side in pixels.shape[-2:]):
            raise ShapeError(
                f"Got pixels of shape {tuple(pixels.shape)}. Accepted is (1, 3, H, W) with sides that are multiples of {self.multiple}. "
                "Resize the picture first."
            )

    def _noised(self, pixels: Tensor, t: int, seed: int, noise: Tensor | None) -> Tensor:
        config = self.vae.config
        dtype = self.unet.dtype
        mean = self.vae.encode(pixels.to(self.device, dtype)).latent_dist.mode()
        shift = getattr(config, "shift_factor", None) or 0.0
        x_0 = (mean - shift) * config.scaling_factor
        if noise is None:
            noise = torch.randn(x_0.shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32)
        if noise.shape != x_0.shape:
            raise ShapeError(
                f"Got noise of shape {tuple(noise.shape)}. Accepted is the latent's, {tuple(x_0.shape)}. Draw it in that shape."
            )
        kept = float(self.alphas[t])
        return math.sqrt(kept) * x_0 + math.sqrt(1 - kept) * noise.to(x_0)

    def _layer(self, path: str, heads: int, seen: dict[str, Tensor], latent: torch.Size) -> LayerHeads:
        Q, K = (capture.split_heads(seen[f"{path}.{part}"], heads) for part in ("q", "k"))
        shrink = math.isqrt(latent[0] * latent[1] // Q.shape[1])
        return LayerHeads(path, Q, K, (latent[0] // shrink, latent[1] // shrink))


def load(folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> StableDiffusion:
    """Read a Stable Diffusion checkpoint from a folder in diffusers' layout, without the network.

    The VAE's decoder and the text tower do not stay in memory: of the text tower only its answer to the empty prompt does. A folder
    may hold that answer itself, as ``empty_prompt.safetensors`` with one tensor ``prompt``, in place of ``text_encoder`` and ``tokenizer``.

    Args:
        folder: with ``unet``, ``vae``, ``scheduler`` and ``text_encoder`` + ``tokenizer`` (or the empty prompt).
        device: where the weights go.
        dtype: of weights and activations; queries and keys come out as float32 in any case.

    Raises:
        WeightsError: a part cannot be read.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    with reading(folder, "Stable Diffusion in diffusers' layout"):
        prompt = _empty_prompt(folder)
        vae = _part(AutoencoderKL, folder / "vae", dtype)
        unet = _part(UNet2DConditionModel, folder / "unet", dtype)
        alphas = _alphas(folder / "scheduler" / "scheduler_config.json")
    vae.decoder = None
    vae.post_quant_conv = None
    if prompt.shape[-1] != unet.config.cross_attention_dim:
        raise WeightsError(
            f"Got {folder} whose text tower answers with {prompt.shape[-1]} numbers a token and whose U-Net reads "
            f"{unet.config.cross_attention_dim}. Accepted are parts that fit. Take all parts from one checkpoint."
        )
    return StableDiffusion(vae.to(device), unet.to(device), alphas, prompt.to(device, dtype))


def _part(cls: Any, folder: Path, dtype: torch.dtype) -> Any:
    half = not any(folder.glob("diffusion_pytorch_model.safetensors*")) and any(folder.glob("*.fp16.safetensors"))
    model = complete(cls, folder, torch_dtype=dtype, variant="fp16" if half else None)
    return model.eval().requires_grad_(requires_grad=False)


@torch.no_grad()
def _empty_prompt(folder: Path) -> Float[Tensor, "1 L D"]:
    ready = folder / "empty_prompt.safetensors"
    if ready.is_file():
        from safetensors.torch import load_file

        return load_file(ready)["prompt"].float()
    from transformers.models.clip.modeling_clip import CLIPTextModel
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    part = folder / "text_encoder"
    half = not any(part.glob("model.safetensors*")) and any(part.glob("model.fp16.safetensors"))
    tower = complete(CLIPTextModel, part, dtype=torch.float32, variant="fp16" if half else None).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    length = tower.config.max_position_embeddings
    tokens = tokenizer("", padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    # No attention mask: the published models were trained on padded prompts without one.
    return tower(input_ids=tokens["input_ids"]).last_hidden_state


def _alphas(path: Path) -> Float[Tensor, " T"]:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    config = json.loads(path.read_text("utf-8"))
    # Every scheduler of a checkpoint shares its betas; only they are read, whichever class the file names.
    names = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
    return DDPMScheduler(**{name: config[name] for name in names if name in config}).alphas_cumprod.float()


def _resolve(layer: int | str, known: tuple[str, ...]) -> str:
    if isinstance(layer, int) and not isinstance(layer, bool) and -len(known) <= layer < len(known):
        return known[layer]
    if isinstance(layer, str):
        for path in (layer, layer + _BLOCK):
            if path in known:
                return path
    raise OptionError(
        f"Got the layer {layer!r}. Accepted are {-len(known)} to {len(known) - 1} or one of {', '.join(known)}. Choose one of them."
    )
