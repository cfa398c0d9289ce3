"""DINO and DINOv2 as transformers reads them: pixels → queries, keys, values or normed tokens of any block, class token dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nerveseg.backbones import capture
from nerveseg.backbones.clip import POSITIONS, resize_positions
from nerveseg.backbones.reading import complete, holds, reading
from nerveseg.errors import OptionError, ShapeError, WeightsError
from nerveseg.reprs import brief
from nerveseg.weights import config

__all__ = ["MEAN", "PARTS", "POSITIONS", "STD", "Dino", "load"]

MEAN = (0.485, 0.456, 0.406)  # ImageNet's, RGB in 0…1: what DINO and DINOv2 were trained on
STD = (0.229, 0.224, 0.225)
PARTS = ("output", "q", "k", "v")
"""What a block is asked for: its tokens after the last norm, or its queries, keys or values, head by head."""

_PROJECTIONS = {"q": ("q_proj", "query"), "k": ("k_proj", "key"), "v": ("v_proj", "value")}


@dataclass(frozen=True, eq=False)
class Dino:
    """A frozen DINO or DINOv2, in evaluation mode, without gradients.

    Attributes:
        model: transformers' ``ViTModel``, ``Dinov2Model`` or ``Dinov2WithRegistersModel``.
    """

    model: Any

    __repr__ = brief

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._projection.weight.device

    @property
    def patch(self) -> int:
        """Side of a patch in pixels; images come in multiples of it."""
        size = self.model.config.patch_size
        return int(size if isinstance(size, int) else size[0])

    @property
    def side(self) -> int:
        """Side in pixels of the square images it was trained on: 224 (DINO) or 518 (DINOv2)."""
        size = self.model.config.image_size
        return int(size if isinstance(size, int) else size[0])

    @property
    def heads(self) -> int:
        """Heads H of a block."""
        return int(self.model.config.num_attention_heads)

    @property
    def depth(self) -> int:
        """Blocks L."""
        return len(self._blocks)

    @property
    def before(self) -> int:
        """Tokens before the patches: the class token and the registers."""
        return 1 + int(getattr(self.model.config, "num_register_tokens", 0))

    @property
    def positions(self) -> str:
        """How transformers brings this model's position embeddings to another grid, one of `POSITIONS`."""
        return "bicubic" if self.before == 1 else "bicubic-antialias"

    @property
    def _projection(self) -> nn.Conv2d:
        return self.model.embeddings.patch_embeddings.projection

    @property
    def _blocks(self) -> nn.ModuleList:
        # ViT's blocks stood in an encoder before transformers 5.
        return self.model.layers if hasattr(self.model, "layers") else self.model.encoder.layer

    @torch.no_grad()
    def tokens(
        self, pixels: Float[Tensor, "1 3 height width"], *, layer: int = -1, kind: str = "output", positions: str = ""
    ) -> Float[Tensor, ...]:
        """Read one part of one block. See `parts`."""
        return self.parts(pixels, ((layer, kind),), positions=positions)[0]

    @torch.no_grad()
    def parts(
        self, pixels: Float[Tensor, "1 3 height width"], wanted: Sequence[tuple[int, str]], *, positions: str = ""
    ) -> tuple[Float[Tensor, ...], ...]:
        """Read parts of blocks in one pass, which ends once they are in hand.

        Args:
            pixels: RGB, normalised with `MEAN` and `STD`; sides are multiples of `patch`.
            wanted: (block, part); blocks are counted from the end (−1 is the last), parts are those of `PARTS`.
            positions: one of `POSITIONS`; "" is transformers' way for this model, "bicubic-offset" that of the published programs. On the
                grid it was trained on the embeddings are used as they are.

        Returns:
            One float32 tensor each, patches only, row by row: (n, D) for ``output``, (H, n, d) else. ``output`` is the block's result
            after the model's last norm. No attention matrix is formed.

        Raises:
            OptionError: a block or a part that does not exist. ShapeError: sides that are no multiples of the patch.
        """
        blocks = [self._resolve(layer) for layer, _ in wanted]
        hooked = {name: self._module(block, part) for block, (_, part) in zip(blocks, wanted, strict=True) for name in [f"{block}.{part}"]}
        x = self._embed(pixels, positions or self.positions)
        with capture.outputs_of(hooked, stop=True) as seen, capture.stop_once_complete():
            for block in self._blocks:
                x = block(x)
                x = x[0] if isinstance(x, tuple) else x
        return tuple(self._part(seen[f"{block}.{part}"], part) for block, (_, part) in zip(blocks, wanted, strict=True))

    def _resolve(self, layer: int) -> int:
        if isinstance(layer, bool) or not isinstance(layer, int) or not -self.depth <= layer < 0:
            raise OptionError(f"Got the layer {layer!r}. Accepted are -{self.depth} to -1, from the end. Choose a block that it has.")
        return self.depth + layer

    def _module(self, block: int, part: str) -> nn.Module:
        if part not in PARTS:
            raise OptionError(f"Got the part {part!r} of a block. Accepted are {', '.join(PARTS)}. Choose one of them.")
        layer = self._blocks[block]
        if part == "output":
            return layer
        attention: Any = layer.attention
        attention = getattr(attention, "attention", attention)
        return next(getattr(attention, name) for name in _PROJECTIONS[part] if hasattr(attention, name))

    def _part(self, found: Tensor, part: str) -> Tensor:
        if part == "output":
            return self.model.layernorm(found)[0, self.before :].float()
        return capture.split_heads(found[:, self.before :], self.heads)

    def _embed(self, pixels: Tensor, positions: str) -> Float[Tensor, "1 m D"]:
        p = self.patch
        height, width = pixels.shape[-2:]
        if pixels.shape[0] != 1 or height % p or width % p or not height or not width:
            raise ShapeError(
                f"Got pixels of shape {tuple(pixels.shape)}. Accepted is (1, 3, H, W) with sides that are multiples of {p}, the patch. "
                "Resize the image first."
            )
        embeddings, weight = self.model.embeddings, self._projection.weight
        patches = self._projection(pixels.to(weight.device, weight.dtype)).flatten(2).transpose(1, 2)
        x = torch.cat([embeddings.cls_token, patches], dim=1)
        x = x + resize_positions(embeddings.position_embeddings[0], (height // p, width // p), positions)
        if self.before > 1:
            x = torch.cat([x[:, :1], embeddings.register_tokens, x[:, 1:]], dim=1)
        return x


def load(folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Dino:
    """Read a DINO or DINOv2 from a folder as ``from_pretrained`` does, without the network.

    Args:
        folder: with ``config.json`` (model_type vit, dinov2 or dinov2_with_registers) and weights.
        device: where the weights go.
        dtype: of weights and activations; tokens come out as float32 in any case.

    Raises:
        WeightsError: the folder cannot be read as one of these.
    """
    holds(folder, "config.json")
    with reading(folder, "a DINO or DINOv2"):
        told = config.read(folder / "config.json")
        kind = str(told.get("model_type")) if isinstance(told, dict) else "nothing"
        cls, given = _class(kind, folder)
        model = complete(cls, folder, dtype=dtype, **given)
    return Dino(model.eval().requires_grad_(requires_grad=False).to(device))


def _class(kind: str, folder: Path) -> tuple[Any, dict[str, Any]]:
    if kind == "vit":
        from transformers.models.vit.modeling_vit import ViTModel

        return ViTModel, {"add_pooling_layer": False}  # the published DINO has no pooler, and none is read
    if kind == "dinov2":
        from transformers.models.dinov2.modeling_dinov2 import Dinov2Model

        return Dinov2Model, {}
    if kind == "dinov2_with_registers":
        from transformers.models.dinov2_with_registers.modeling_dinov2_with_registers import Dinov2WithRegistersModel

        return Dinov2WithRegistersModel, {}
    raise WeightsError(
        f"Got {folder} with the model_type {kind!r}. Accepted are vit (DINO), dinov2 and dinov2_with_registers. Give such a folder."
    )
