"""CLIP as transformers reads it, opened at the last block: pixels → the input of every block, words → unit vectors."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from nerveseg.backbones import capture
from nerveseg.backbones._prompts import averaged, cut
from nerveseg.backbones.reading import complete, holds, reading
from nerveseg.errors import ShapeError, WeightsError
from nerveseg.reprs import brief
from nerveseg.transition.transfer import sent
from nerveseg.weights import config

__all__ = ["ACTIVATIONS", "AS_TRAINED", "POSITIONS", "Blocks", "Clip", "ClipActivations", "attention", "load", "resize_positions"]

POSITIONS = ("bilinear", "bicubic", "bicubic-offset", "bicubic-antialias")
"""How position embeddings reach another grid: CLIPer's; MaskCLIP's and transformers'; SCLIP's, with its scale of (h + 0.1)/h₀; GEM's."""


ACTIVATIONS = ("own", "gelu", "quick_gelu")
"""What stands between the two layers of a feed-forward part: "own" is what the checkpoint was trained with."""


@dataclass(frozen=True)
class Blocks:
    """How the vision tower's blocks are run, where a program does not run them as they were trained.

    Attributes:
        activation: one of `ACTIVATIONS`.
        norm_eps: what layer norms add to the variance; 0 is the checkpoint's own.
    """

    activation: str = "own"
    norm_eps: float = 0.0


AS_TRAINED = Blocks()


@dataclass(frozen=True)
class ClipActivations:
    """What one image left in CLIP's vision tower; m = n + 1 tokens, the class token first, then the patches row by row.

    Attributes:
        inputs: the input of every block, x_0 … x_{L−1}.
        output: the output of the last block left as it is, x_L, before LN_post.
        attention: softmax attention of each head summed over blocks 0 … L−2 (by head index, as CLIPer does), or None.
        grid: patches (h, w), h·w = n.
    """

    inputs: tuple[Float[Tensor, "m D"], ...]
    output: Float[Tensor, "m D"]
    attention: Float[Tensor, "H m m"] | None
    grid: tuple[int, int]

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Clip:
    """A frozen CLIP, in evaluation mode, without gradients.

    Attributes:
        model: transformers' ``CLIPModel``.
        tokenizer: transformers' ``CLIPTokenizer``.
        words: the words it was trained on, where its folder says so (``words.json``); None for the published ones.
    """

    model: Any
    tokenizer: Any
    words: frozenset[str] | None = None
    _variants: dict[Blocks, Clip] = field(default_factory=dict, repr=False)
    passes: ClassVar[tuple[str, ...]] = ("vision", "visions", "image", "text")

    __repr__ = brief

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.visual_projection.weight.device

    @property
    def patch(self) -> int:
        """Side of a patch in pixels; images come in multiples of it."""
        return int(self.model.config.vision_config.patch_size)

    @property
    def side(self) -> int:
        """Side in pixels of the square images it was trained on."""
        return int(self.model.config.vision_config.image_size)

    @property
    def heads(self) -> int:
        """Heads H of a vision block."""
        return int(self.model.config.vision_config.num_attention_heads)

    @property
    def width(self) -> int:
        """Length D of the vectors that images and words share."""
        return int(self.model.config.projection_dim)

    @property
    def scale(self) -> float:
        """The learnt logit scale, exp(τ): 100 for the published checkpoints."""
        return float(self.model.logit_scale.detach().float().exp())

    def run_as(self, blocks: Blocks) -> Clip:
        """The same weights, not copied, in a vision tower whose blocks are run as told; itself where that is as trained."""
        if blocks == AS_TRAINED:
            return self
        if blocks not in self._variants:
            self._variants[blocks] = dataclasses.replace(self, model=_with_blocks(self.model, blocks), _variants={})
        return self._variants[blocks]

    @torch.no_grad()
    def vision(
        self,
        pixels: Float[Tensor, "1 3 height width"],
        *,
        positions: str = "bilinear",
        attention: bool = False,
        blocks: Blocks = AS_TRAINED,
    ) -> ClipActivations:
        """Run the vision tower on one image. See `visions`."""
        return self.visions(pixels, positions=positions, attention=attention, blocks=blocks)[0]

    @torch.no_grad()
    def visions(
        self,
        pixels: Float[Tensor, "b 3 height width"],
        *,
        positions: str = "bilinear",
        attention: bool = False,
        blocks: Blocks = AS_TRAINED,
    ) -> tuple[ClipActivations, ...]:
        """Run the vision tower on images of one size.

        Args:
            pixels: RGB, normalised with CLIP's mean and deviation (`nerveseg.image.geometry`); sides are multiples of `patch`.
            positions: one of `POSITIONS`; the model's own embeddings are used as they are on the grid it was trained on.
            attention: keep the summed attention, H·m² floats more an image and one more q·k a block.
            blocks: how the tower's blocks are run.

        Raises:
            ShapeError: a side is no multiple of the patch.
        """
        if blocks != AS_TRAINED:
            return self.run_as(blocks).visions(pixels, positions=positions, attention=attention)
        tower = self.model.vision_model
        grid = _grid(pixels, self.patch)
        layers = tower.encoder.layers
        hooked = {f"{name}.{i}": getattr(block.self_attn, name) for i, block in enumerate(layers[:-1]) for name in ("q_proj", "k_proj")}
        with (
            capture.inputs_of({str(i): block for i, block in enumerate(layers)}) as inputs,
            capture.outputs_of(hooked if attention else {}) as seen,
        ):
            output = tower.encoder(inputs_embeds=tower.pre_layrnorm(self._embed(pixels, grid, positions))).last_hidden_state
        summed = self._attention_sums(seen, len(pixels), len(layers) - 1) if attention else None
        return tuple(
            ClipActivations(
                inputs=tuple(inputs[str(i)][b] for i in range(len(layers))),
                output=output[b],
                attention=None if summed is None else summed[b],
                grid=grid,
            )
            for b in range(len(pixels))
        )

    def together(self, name: str, questions: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]) -> Sequence[Any] | None:
        """Answer the same pass over several images of one size (`nerveseg.backbones.batching`); only `vision` is put together."""
        if name != "vision":
            return None
        return self.visions(torch.cat([given[0] for given, _ in questions]), **questions[0][1])

    def _embed(self, pixels: Tensor, grid: tuple[int, int], positions: str) -> Tensor:
        embeddings = self.model.vision_model.embeddings
        weight = embeddings.patch_embedding.weight
        patches = embeddings.patch_embedding(sent(pixels, weight.device, weight.dtype)).flatten(2).transpose(1, 2)
        token = embeddings.class_embedding.to(weight.dtype).expand(len(pixels), 1, -1)
        return torch.cat([token, patches], dim=1) + resize_positions(embeddings.position_embedding.weight, grid, positions)

    def _attention_sums(self, seen: dict[str, Tensor], count: int, blocks: int) -> list[Float[Tensor, "H m m"]]:
        if not blocks:
            raise WeightsError(
                "Got a CLIP of one block. Accepted are two or more where attention is asked for. Choose another label source."
            )
        # One image at a time on a CPU, where H × m × m (38 MB in ViT-L/14) is more than its caches hold; all of them elsewhere.
        step = 1 if self.device.type == "cpu" else count
        return [total for first in range(0, count, step) for total in self._attention_sum(seen, slice(first, first + step), blocks)]

    def _attention_sum(self, seen: dict[str, Tensor], part: slice, blocks: int) -> Float[Tensor, "b H m m"]:
        # Three buffers for all blocks: new ones for each would take longer than what is computed in them.
        total, logits, maps = torch.empty(0), torch.empty(0), torch.empty(0)
        for i in range(blocks):
            Q, K = (_heads(seen[f"{name}.{i}"][part], self.heads) for name in ("q_proj", "k_proj"))
            if i == 0:
                total, logits, maps = (Q.new_empty(len(Q), Q.shape[1], Q.shape[1]) for _ in range(3))
            torch.baddbmm(logits, Q, K.mT, beta=0, alpha=Q.shape[-1] ** -0.5, out=logits)
            torch.softmax(logits, -1, out=maps if i else total)
            if i:
                total.add_(maps)
        return total.view(-1, self.heads, *total.shape[1:])

    @torch.no_grad()
    def own_attention(self, x: Float[Tensor, "m D"]) -> Float[Tensor, "H m m"]:
        """softmax(QKᵀ/√d) of the last block on its input x, float32: what `last_block` mixes with to be left as it is."""
        Q, K, _ = self.qkv(x)
        return attention(Q, K)

    @torch.no_grad()
    def qkv(
        self, x: Float[Tensor, "m D"], block: int = -1
    ) -> tuple[Float[Tensor, "H m d"], Float[Tensor, "H m d"], Float[Tensor, "H m d"]]:
        """Queries, keys and values of a block on its input x (after its LN1), float32, not yet scaled by 1/√d."""
        layer = self.model.vision_model.encoder.layers[block]
        u = layer.layer_norm1(x)[None]
        projections = (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj)
        Q, K, V = (capture.split_heads(project(u), self.heads) for project in projections)
        return Q, K, V

    @torch.no_grad()
    def last_block(
        self, x: Float[Tensor, "m D"], mixing: Float[Tensor, "H m m"] | None, *, residual: bool, ffn: bool, at: int = -1
    ) -> Float[Tensor, "m D"]:
        """The last block, or another, with its attention replaced: O·(M_h v_h) per head, v of LN1(x).

        Args:
            x: tokens that enter, of the last block's input or (CLIPer) of any other layer.
            mixing: one matrix a head; None is the identity, the value path alone.
            residual: add x, as the block itself does.
            ffn: run the block's own feed-forward part, with its residual, on the result.
            at: which block.
        """
        block = self.model.vision_model.encoder.layers[at]
        v = self.values(x, at=at)
        y = self.merge_heads(v if mixing is None else mixing.to(v.dtype) @ v, at=at)
        if residual:
            y = x + y
        if ffn:
            y = y + block.mlp(block.layer_norm2(y))
        return y

    @torch.no_grad()
    def values(self, x: Float[Tensor, "*L m D"], *, at: int = -1) -> Float[Tensor, "*L H m d"]:
        """Values of the last block, or another, on LN1(x), a head each."""
        block = self.model.vision_model.encoder.layers[at]
        return block.self_attn.v_proj(block.layer_norm1(x)).unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    @torch.no_grad()
    def merge_heads(self, v: Float[Tensor, "*L H m d"], *, at: int = -1) -> Float[Tensor, "*L m D"]:
        """The output projection O of a block over its heads, mixed by whatever attention."""
        return self.model.vision_model.encoder.layers[at].self_attn.out_proj(v.transpose(-3, -2).flatten(-2))

    @torch.no_grad()
    def project(self, y: Float[Tensor, "*L m D"]) -> Float[Tensor, "*L m E"]:
        """LN_post, then the visual projection, on every token (both were trained on the class token alone); float32, not normalised."""
        return self.model.visual_projection(self.model.vision_model.post_layernorm(y)).float()

    @torch.no_grad()
    def image(
        self, pixels: Float[Tensor, "b 3 height width"], *, positions: str = "bilinear", inside: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b E"]:
        """Unit vectors of images of one size, float32, as the class token gives them.

        Args:
            pixels: as in `visions`.
            positions: one of `POSITIONS`.
            inside: in every block the class token attends to itself and to these patches alone; None: to all.
        """
        tower = self.model.vision_model
        x = tower.pre_layrnorm(self._embed(pixels, _grid(pixels, self.patch), positions))
        mask: Tensor | None = None
        if inside is not None:
            row = torch.zeros(inside.shape, device=x.device, dtype=x.dtype).masked_fill(~inside.to(x.device), -torch.inf)
            mask = F.pad(row[:, None, None], (1, 0, 0, inside.shape[1]))  # all other rows, and the class token itself, stay free
        output: Any = tower.encoder(inputs_embeds=x, attention_mask=mask)
        return F.normalize(self.project(output.last_hidden_state[:, 0]), dim=-1)

    @torch.no_grad()
    def text(self, strings: Sequence[str], templates: Sequence[str] = ("{}",), *, batch: int = 256) -> Float[Tensor, "s E"]:
        """Encode strings: every template is encoded and brought to unit length, then their mean is, too.

        Args:
            strings: words as they are meant to be read; longer ones than the text tower takes are cut (see `truncated`).
            templates: prompts with one place for the word.
            batch: prompts a pass; larger is faster and takes more memory.

        Returns:
            Unit rows, float32. Cost: strings × templates passes of the text tower.
        """
        return averaged(self.model, self.tokenizer, strings, templates, batch=batch)

    def truncated(self, strings: Sequence[str], templates: Sequence[str] = ("{}",)) -> tuple[str, ...]:
        """The strings of which some prompt has more tokens (77 in the published models) than the text tower takes, and is cut."""
        return cut(self.model, self.tokenizer, strings, templates)

    def unknown(self, strings: Sequence[str]) -> tuple[str, ...]:
        """The strings that this CLIP was not trained on, as far as its folder says; always empty for the published ones."""
        known = self.words
        if known is None:
            return ()
        texts = {string: string.strip().lower() for string in strings}
        return tuple(string for string, text in texts.items() if text not in known and not known.issuperset(text.split()))


def _with_blocks(model: Any, blocks: Blocks) -> Any:
    """A model of the same parameters, whose vision tower has modules of its own."""
    from transformers.activations import ACT2FN

    tower = model.vision_model
    kept = [*tower.parameters(), *tower.buffers(), tower.config]
    own = copy.deepcopy(tower, {id(one): one for one in kept})
    for module in own.modules():
        module._forward_hooks.clear()  # of a pass that was under way
        module._forward_pre_hooks.clear()
        if blocks.norm_eps and isinstance(module, nn.LayerNorm):
            module.eps = blocks.norm_eps
    if blocks.activation != "own":
        for layer in own.encoder.layers:
            layer.mlp.activation_fn = ACT2FN[blocks.activation]
    made = copy.copy(model)
    made._modules = {**model._modules, "vision_model": own}
    return made


def _heads(x: Float[Tensor, "b m D"], heads: int) -> Float[Tensor, "bH m d"]:
    """Part a projection into float32 heads, those of all images side by side."""
    parted = x.unflatten(-1, (heads, -1)).transpose(1, 2)
    return parted.to(torch.float32, memory_format=torch.contiguous_format).flatten(0, 1).contiguous()


def attention(left: Float[Tensor, "H m d"], right: Float[Tensor, "H m d"]) -> Float[Tensor, "H m m"]:
    """softmax(left·rightᵀ/√d) of every head."""
    return (left @ right.mT / math.sqrt(left.shape[-1])).softmax(-1)


def load(folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Clip:
    """Read a CLIP from a folder as ``from_pretrained`` does, without the network.

    Args:
        folder: with ``config.json``, weights, tokenizer files and, optionally, ``words.json``: a list of the words it was trained on.
        device: where the weights go.
        dtype: of weights and activations; scores come out as float32 in any case.

    Raises:
        WeightsError: the folder cannot be read as a CLIP.
    """
    from transformers.models.clip.modeling_clip import CLIPModel
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    with reading(folder, "a CLIP"):
        model = complete(CLIPModel, folder, dtype=dtype)
        holds(folder, "tokenizer.json | vocab.json", "tokenizer.json | merges.txt")
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    end = model.config.text_config.eos_token_id
    # 2 is what older configurations say; the model then reads the token with the highest id.
    if end not in (2, tokenizer.eos_token_id):
        raise WeightsError(
            f"Got {folder} whose model reads the token {end} and whose tokenizer ends with {tokenizer.eos_token_id}. "
            "Accepted are a model and a tokenizer that agree. Set text_config.eos_token_id in config.json."
        )
    words = folder / "words.json"
    trained = _trained(words) if words.is_file() else None
    return Clip(model.eval().requires_grad_(requires_grad=False).to(device), tokenizer, trained)


def _trained(path: Path) -> frozenset[str]:
    """The words that a folder says it was trained on."""
    held = config.read(path)
    if not isinstance(held, list) or not all(isinstance(word, str) for word in held):
        raise WeightsError(f'Got {path}, which is no list of words. Accepted is JSON such as ["cat", "dog"]. Mend it, or take it away.')
    return frozenset(word.strip().lower() for word in held)


def resize_positions(weight: Float[Tensor, "m D"], grid: tuple[int, int], mode: str) -> Float[Tensor, "m2 D"]:
    """Bring position embeddings from their own square grid to another, the class token's kept as it is.

    Args:
        weight: class token first, then the square grid row by row.
        grid: patches (h, w) wanted.
        mode: one of `POSITIONS`; each is the identity on the own grid.
    """
    if mode not in POSITIONS:
        raise ShapeError(f"Got positions = {mode!r}. Accepted are {', '.join(POSITIONS)}. Choose one of them.")
    side = math.isqrt(len(weight) - 1)
    if grid == (side, side):
        return weight
    own = weight[1:].float().T.unflatten(1, (side, side))[None]
    how = {"mode": mode.partition("-")[0], "align_corners": False}
    if mode == "bicubic-offset":
        ratio = [(length + 0.1) / side for length in grid]
        resized = F.interpolate(own, scale_factor=ratio, **how)
    else:
        resized = F.interpolate(own, size=grid, antialias=mode == "bicubic-antialias", **how)
    return torch.cat([weight[:1], resized[0].flatten(1).T.to(weight.dtype)])


def _grid(pixels: Tensor, patch: int) -> tuple[int, int]:
    height, width = pixels.shape[-2:]
    if height % patch or width % patch or not height or not width:
        raise ShapeError(
            f"Got pixels of shape {tuple(pixels.shape)}. Accepted are sides that are multiples of {patch}, the patch. Resize first."
        )
    return height // patch, width // patch
