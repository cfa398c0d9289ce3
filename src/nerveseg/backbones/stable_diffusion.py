"""Stable Diffusion, opened at its attention: pixels and prompts → queries and keys of named layers, in one unfinished U-Net pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.backbones import capture, text_tower
from nerveseg.backbones.reading import complete, reading
from nerveseg.backbones.text_tower import TextTower
from nerveseg.errors import OptionError, ShapeError, WeightsError
from nerveseg.image import geometry
from nerveseg.image.load import LoadedImage
from nerveseg.reprs import brief
from nerveseg.transition.transfer import sent
from nerveseg.weights import check, config

__all__ = ["RESIZES", "CrossHeads", "Latents", "LayerHeads", "PromptPass", "StableDiffusion", "load"]

_BLOCK = ".transformer_blocks.0."
_ORDER = ("down_blocks", "mid_block", "up_blocks")
_HALF = (0.5, 0.5, 0.5)  # mean and deviation that bring RGB to [−1, 1], the VAE's range
_MAX_TOKENS = 16384  # 1024 × 1024 pixels: self-attention takes n² work; larger images go in tiles
RESIZES = ("bicubic", *geometry.SAMPLINGS)
"""How an image reaches the VAE's size: bicubic smooths where it shrinks; the others look at the nearest pixels alone."""
_PROMPTS_KEPT = 256  # embedded prompts: 40 to 80 MB of the published models


@dataclass(frozen=True)
class LayerHeads:
    """Queries and keys of one self-attention layer, float32, before scaling by 1/√d; tokens row by row on ``grid`` = (h, w)."""

    layer: str
    queries: Float[Tensor, "H n d"]
    keys: Float[Tensor, "H n d"]
    grid: tuple[int, int]

    __repr__ = brief


@dataclass(frozen=True)
class CrossHeads:
    """Queries of tokens and keys of a prompt's L words in one cross-attention layer, float32, before scaling by 1/√d."""

    layer: str
    queries: Float[Tensor, "H n d"]
    keys: Float[Tensor, "H L d"]
    grid: tuple[int, int]

    __repr__ = brief

    def probabilities(self) -> Float[Tensor, "H n L"]:
        """softmax(QKᵀ/√d) over the prompt's words: rows sum to 1. Memory H·n·L floats, for this layer alone."""
        return (self.queries @ self.keys.mT * self.queries.shape[-1] ** -0.5).softmax(-1)


@dataclass(frozen=True)
class PromptPass:
    """What one pass with one prompt left behind: the asked cross-attention and self-attention layers, in the order asked for."""

    cross: tuple[CrossHeads, ...]
    own: tuple[LayerHeads, ...]

    __repr__ = brief


@dataclass(frozen=True)
class Latents:
    """The VAE's answer to an image, both parts times the scaling factor: x_0 = mean, or a sample mean + deviation · ε."""

    mean: Float[Tensor, "b c h w"]
    deviation: Float[Tensor, "b c h w"]

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class StableDiffusion:
    """A frozen latent diffusion model: the VAE's encoder, the U-Net, the noise schedule and the embedding of the empty prompt.

    Attributes:
        vae: diffusers' ``AutoencoderKL`` without its decoder.
        unet: diffusers' ``UNet2DConditionModel``.
        alphas: ᾱ_t, share of the image's variance left at step t, float32 on the CPU.
        prompt: the text tower's answer to "", (1, tokens, D).
        folder: where the text tower is read from when words first ask for it (`text_tower`); None: words cannot go through.
    """

    vae: Any
    unet: Any
    alphas: Float[Tensor, " T"]
    prompt: Float[Tensor, "1 L D"]
    folder: Path | None = None
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False)
    passes: ClassVar[tuple[str, ...]] = ("attention", "latents", "cross_attention", "prompt_embeddings")

    __repr__ = brief

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
        """Sides of images are multiples of this, so that every level of the U-Net halves evenly: 64 for the published models."""
        return self.shrink * 2 ** (len(self.unet.config.block_out_channels) - 1)

    @property
    def side(self) -> int:
        """Side in pixels of the images it was trained on: 512 (SD 1.5, 2.1-base) or 768 (SD 2.1)."""
        size = self.unet.config.sample_size
        return self.shrink * int(size if isinstance(size, int) else min(size))

    @property
    def layers(self) -> tuple[str, ...]:
        """Module paths of all self-attention layers, in the order in which a pass reaches them."""
        return self._named(".attn1")

    @property
    def cross_layers(self) -> tuple[str, ...]:
        """Module paths of all cross-attention layers, in the order in which a pass reaches them."""
        return self._named(".attn2")

    def _named(self, ending: str) -> tuple[str, ...]:
        # Found once: the U-Net does not change, and a walk over its modules costs as much as launching a tenth of its pass.
        if ending not in self._kept:
            found = [name for name, _ in self.unet.named_modules() if name.endswith(ending)]
            self._kept[ending] = tuple(sorted(found, key=lambda name: _ORDER.index(name.split(".", 1)[0])))
        return self._kept[ending]

    def depth(self, layer: str) -> int:
        """How often the latent is halved before a layer of the U-Net sees it: 0 is the finest grid."""
        part, _, rest = layer.partition(".")
        last = len(self.unet.config.block_out_channels) - 1
        if part == "mid_block":
            return last
        place = int(rest.split(".", 1)[0])
        return place if part == "down_blocks" else last - place

    def resolve(self, layers: Sequence[int | str], *, cross: bool = False) -> tuple[str, ...]:
        """Turn layers into module paths: −1 is the last self-attention layer, 0 the first; paths may stop at their ``attentions.N``.

        Args:
            layers: indices or paths.
            cross: of the cross-attention layers.

        Raises:
            OptionError: no such layer, none at all, or one named twice.
        """
        known, kind = (self.cross_layers, "attn2") if cross else (self.layers, "attn1")
        paths = tuple(_resolve(layer, known, kind) for layer in layers)
        if not paths or len(set(paths)) != len(paths):
            raise OptionError(f"Got layers = {tuple(layers)!r}. Accepted are one or more different layers. Name each of them once.")
        return paths

    def text_tower(self) -> TextTower:
        """The text tower, read from `folder` on first use and kept until `drop_text_tower`.

        Raises:
            WeightsError: the checkpoint has none, so that only the empty prompt goes through it.
        """
        if "tower" not in self._kept:
            if self.folder is None:
                raise WeightsError(
                    "Got words for a diffusion model made without a folder. Accepted is one read by load(). Read it from its checkpoint."
                )
            self._kept["tower"] = text_tower.load(self.folder, device=self.device, dtype=self.prompt.dtype)
        return self._kept["tower"]

    def drop_text_tower(self) -> None:
        """Free the text tower; embedded prompts stay, and the next new words read it again."""
        self._kept.pop("tower", None)

    def prompt_embeddings(self, prompts: Sequence[str | tuple[int, ...]]) -> Float[Tensor, "b L D"]:
        """Embed prompts as the U-Net reads them; those met before (the last 256) come from memory.

        Args:
            prompts: texts, or framed tokens (`TextTower.framed`); longer ones than the tower reads are cut.

        Raises:
            WeightsError: words cannot go through this checkpoint.
        """
        tower = self.text_tower()
        framed = [tower.framed(tower.pieces(prompt)) if isinstance(prompt, str) else prompt for prompt in prompts]
        known: dict[tuple[int, ...], Tensor] = self._kept.setdefault("prompts", {})
        new = [ids for ids in dict.fromkeys(framed) if ids not in known]
        made = dict(zip(new, tower.embed(new).to(self.prompt), strict=True)) if new else {}
        rows = torch.stack([made[ids] if ids in made else known[ids] for ids in framed])
        for ids in new[-_PROMPTS_KEPT:]:
            while len(known) >= _PROMPTS_KEPT:
                known.pop(next(iter(known)))
            known[ids] = made[ids].clone()  # a row of its own, so that it does not keep the whole batch alive
        return rows

    def pixels(self, image: LoadedImage, *, size: int, fit: str, resize: str = "bicubic") -> Float[Tensor, "1 3 height width"]:
        """An image as the VAE takes it: RGB in [−1, 1], sides that are multiples of `multiple`.

        Args:
            image: any size.
            size: pixels of the shorter side; 0: as trained.
            fit: ``square`` squashes it, ``aspect`` keeps its proportions.
            resize: one of `RESIZES`.

        Raises:
            OptionError: a square of more than 16384 tokens (1024 × 1024 pixels): self-attention takes n² work.
        """
        cells = max(1, _MAX_TOKENS * self.shrink**2 // self.multiple**2)
        frame = geometry.fit(image.size, fit, size or self.side, self.multiple, max_tokens=cells)
        if resize == "bicubic":
            return geometry.to_tensor(image, frame.fitted, _HALF, _HALF)[None]
        return geometry.sampled(image, frame.fitted, _HALF, _HALF, how=resize)[None]

    @torch.no_grad()
    def latents(self, pixels: Float[Tensor, "b 3 height width"]) -> Latents:
        """The VAE encoder's pass over images of one size: mean and deviation of their latents.

        Args:
            pixels: RGB in [−1, 1]; sides are multiples of `multiple`.

        Raises:
            ShapeError: sides that do not halve evenly.
        """
        self._check_sides(pixels)
        config = self.vae.config
        found = self.vae.encode(sent(pixels, self.device, self.unet.conv_in.weight.dtype)).latent_dist
        shift = getattr(config, "shift_factor", None) or 0.0
        return Latents((found.mode() - shift) * config.scaling_factor, found.std * config.scaling_factor)

    def noised(
        self, x_0: Float[Tensor, "1 c h w"], *, t: int, seed: int = 0, noise: Float[Tensor, "1 c h w"] | None = None
    ) -> Float[Tensor, "1 c h w"]:
        """x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε.

        Args:
            x_0: a latent.
            t: step of the schedule, 0 … T − 1.
            seed: of ε, drawn on the CPU by a generator of its own, the same on every device.
            noise: ε itself, in place of the seed.

        Raises:
            OptionError: a step that does not exist. ShapeError: noise of another shape.
        """
        self._check_step(t)
        if noise is None:
            noise = torch.randn(x_0.shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32)
        if noise.shape != x_0.shape:
            raise ShapeError(
                f"Got noise of shape {tuple(noise.shape)}. Accepted is the latent's, {tuple(x_0.shape)}. Draw it in that shape."
            )
        kept = float(self.alphas[t])
        return math.sqrt(kept) * x_0 + math.sqrt(1 - kept) * sent(noise, x_0.device, x_0.dtype)

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
        """Noise an image to step t and read queries and keys of the named layers; the pass ends once they are in hand.

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
        self._check_step(t)
        self.resolve(layers)  # a layer that is not there costs no pass of the VAE
        x_t = self.noised(self.latents(pixels).mean, t=t, seed=seed, noise=noise)
        (found,) = self.cross_attention(x_t, self.prompt, t=t, cross=(), own=layers)
        return found.own

    @torch.no_grad()
    def together(self, name: str, questions: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]) -> Sequence[Any] | None:
        """Answer the same pass over several images of one size (`nerveseg.backbones.batching`); only `attention` is put together."""
        if name != "attention":
            return None
        knobs = questions[0][1]
        x_0 = self.latents(torch.cat([given[0] for given, _ in questions])).mean
        noised = [
            self.noised(x_0[b : b + 1], t=knobs["t"], seed=named.get("seed", 0), noise=named.get("noise"))
            for b, (_, named) in enumerate(questions)
        ]
        found = self.cross_attention(torch.cat(noised), self.prompt, t=knobs["t"], cross=(), own=knobs["layers"])
        return [one.own for one in found]

    @torch.no_grad()
    def cross_attention(
        self,
        x_t: Float[Tensor, "a c h w"],
        prompts: Float[Tensor, "b L D"],
        *,
        t: int,
        cross: Sequence[int | str],
        own: Sequence[int | str] = (),
    ) -> Iterator[PromptPass]:
        """Pass a noised latent through the U-Net with each prompt, in one batch that ends once every named layer has been reached.

        Args:
            x_t: from `noised`; one for all prompts, one a prompt, or several for one prompt.
            prompts: from `prompt_embeddings`.
            t: the step that x_t is at.
            cross: cross-attention layers to read, as in `resolve`; none reads none.
            own: self-attention layers to read in the same pass; none reads none.

        Yields:
            One `PromptPass` a prompt, in order: queries and keys; `CrossHeads.probabilities` forms the softmax of one layer when asked.

        Raises:
            OptionError: a layer or step that does not exist, or no layer at all.
        """
        self._check_step(t)
        crossed = self.resolve(cross, cross=True) if cross or not own else ()
        owned = self.resolve(own) if own else ()
        modules = {path: self.unet.get_submodule(path) for path in (*crossed, *owned)}
        hooked: dict[str, Any] = {}
        for path, module in modules.items():
            hooked[f"{path}.q"], hooked[f"{path}.k"] = capture.projections(module)
        batch = max(len(prompts), len(x_t))
        with capture.outputs_of(hooked, stop=True) as seen, capture.stop_once_complete():
            self.unet(
                x_t.expand(batch, -1, -1, -1), torch.full((1,), t, device=self.device), encoder_hidden_states=prompts.expand(batch, -1, -1)
            )

        def heads(path: str, b: int) -> tuple[Tensor, Tensor]:
            Q, K = (capture.split_heads(seen[f"{path}.{part}"][b : b + 1], modules[path].heads) for part in ("q", "k"))
            return Q, K

        grids = {path: (x_t.shape[-2] >> self.depth(path), x_t.shape[-1] >> self.depth(path)) for path in modules}
        return (
            PromptPass(
                tuple(CrossHeads(path, *heads(path, b), grids[path]) for path in crossed),
                tuple(LayerHeads(path, *heads(path, b), grids[path]) for path in owned),
            )
            for b in range(batch)
        )

    def _check_step(self, t: int) -> None:
        if not 0 <= t < len(self.alphas):
            raise OptionError(f"Got t = {t}. Accepted is 0 to {len(self.alphas) - 1}. Choose a step of the schedule.")

    def _check_sides(self, pixels: Tensor) -> None:
        if any(side % self.multiple or not side for side in pixels.shape[-2:]):
            raise ShapeError(
                f"Got pixels of shape {tuple(pixels.shape)}. Accepted is (b, 3, H, W) with sides that are multiples of {self.multiple}. "
                "Resize the image first."
            )


def load(folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> StableDiffusion:
    """Read a Stable Diffusion checkpoint from a folder in diffusers' layout, without the network.

    The VAE's decoder and the text tower do not stay in memory: of the text tower only its answer to the empty prompt does, until words
    ask for it (`StableDiffusion.text_tower`). A folder may hold that answer itself, as ``empty_prompt.safetensors`` with one tensor
    ``prompt``, in place of ``text_encoder`` and ``tokenizer``; words cannot go through it then.

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
        vae = _part(AutoencoderKL, folder / "vae", dtype)
        unet = _part(UNet2DConditionModel, folder / "unet", dtype)
        prompt = _empty_prompt(folder)
        alphas = _alphas(folder / "scheduler" / "scheduler_config.json")
    vae.decoder = None
    vae.post_quant_conv = None
    if prompt.shape[-1] != unet.config.cross_attention_dim:
        raise WeightsError(
            f"Got {folder} whose text tower answers with {prompt.shape[-1]} numbers a token and whose U-Net reads "
            f"{unet.config.cross_attention_dim}. Accepted are parts that fit. Take all parts from one checkpoint."
        )
    return StableDiffusion(vae.to(device), unet.to(device), alphas, prompt.to(device, dtype), Path(folder))


def _part(cls: Any, folder: Path, dtype: torch.dtype) -> Any:
    return complete(cls, folder, torch_dtype=dtype).eval().requires_grad_(requires_grad=False)


@torch.no_grad()
def _empty_prompt(folder: Path) -> Float[Tensor, "1 L D"]:
    ready = folder / "empty_prompt.safetensors"
    if ready.is_file():
        from safetensors.torch import load_file

        check.tensors(ready)
        return load_file(ready)["prompt"].float()
    tower = text_tower.load(folder)
    return tower.embed([tower.framed(())])


def _alphas(path: Path) -> Float[Tensor, " T"]:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    held = config.read(path)
    # Every scheduler of a checkpoint shares its betas; only they are read, whichever class the file names.
    names = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
    return DDPMScheduler(**{name: held[name] for name in names if name in held}).alphas_cumprod.float()


def _resolve(layer: int | str, known: tuple[str, ...], kind: str) -> str:
    if isinstance(layer, int) and not isinstance(layer, bool) and -len(known) <= layer < len(known):
        return known[layer]
    if isinstance(layer, str):
        for path in (layer, layer + _BLOCK + kind):
            if path in known:
                return path
    raise OptionError(
        f"Got the layer {layer!r}. Accepted are {-len(known)} to {len(known) - 1} or one of {', '.join(known)}. Choose one of them."
    )
