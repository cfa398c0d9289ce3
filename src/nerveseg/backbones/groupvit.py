"""GroupViT as transformers reads it: pixels → groups of patches with their vectors, words → unit vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nerveseg.backbones._prompts import averaged, cut
from nerveseg.backbones.reading import complete, holds, reading
from nerveseg.errors import ShapeError, WeightsError
from nerveseg.reprs import brief

__all__ = ["GroupVit", "Groups", "load"]

_LARGEST_SCALE = 100.0


@dataclass(frozen=True)
class Groups:
    """What one image left in GroupViT; n patches, row by row, in g groups (8 in the published models).

    Attributes:
        vectors: of the groups, unit rows, in the space that words share.
        whole: of the image, the mean of its groups, unit length.
        shares: how much of each patch each group takes, A₁ᵀA₂ᵀ… over the grouping stages; rows sum to 1.
        grid: patches (h, w), h·w = n.
    """

    vectors: Float[Tensor, "g E"]
    whole: Float[Tensor, " E"]
    shares: Float[Tensor, "n g"]
    grid: tuple[int, int]

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class GroupVit:
    """A frozen GroupViT, in evaluation mode, without gradients: hard assignment without noise, soft shares beside it.

    Attributes:
        model: transformers' ``GroupViTModel``.
        tokenizer: transformers' ``CLIPTokenizer``.
    """

    model: Any
    tokenizer: Any

    __repr__ = brief

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.logit_scale.device

    @property
    def patch(self) -> int:
        """Side of a patch in pixels; images come in multiples of it."""
        return int(self.model.config.vision_config.patch_size)

    @property
    def side(self) -> int:
        """Side in pixels of the square images it was trained on."""
        return int(self.model.config.vision_config.image_size)

    @property
    def width(self) -> int:
        """Length E of the vectors that groups and words share."""
        return int(self.model.config.projection_dim)

    @property
    def scale(self) -> float:
        """The learnt logit scale, exp(τ), at most 100."""
        return min(float(self.model.logit_scale.detach().float().exp()), _LARGEST_SCALE)

    @torch.no_grad()
    def vision(self, pixels: Float[Tensor, "1 3 height width"]) -> Groups:
        """Group one image. See `visions`."""
        return self.visions(pixels)[0]

    @torch.no_grad()
    def visions(self, pixels: Float[Tensor, "b 3 height width"]) -> tuple[Groups, ...]:
        """Group images of one size.

        Args:
            pixels: RGB, normalised with ImageNet's mean and deviation; sides are multiples of `patch`. Position embeddings reach
                another grid than their own by bicubic interpolation.

        Raises:
            ShapeError: a side is no multiple of the patch.
        """
        grid = _grid(pixels, self.patch)
        tower = self.model.vision_model
        x = tower.embeddings(pixels.to(self.device, self.model.dtype), interpolate_pos_encoding=True)
        passed = tower.encoder(x, output_hidden_states=False, output_attentions=True, return_dict=True)
        tokens = tower.layernorm(passed.last_hidden_state)
        shares: Tensor | None = None
        for assigned in passed.attentions:  # (b, groups, what was there before), each column sums to 1
            step = assigned.float().mT
            shares = step if shares is None else shares @ step
        if shares is None:
            raise WeightsError("Got a GroupViT without a grouping stage. Accepted is one or more. Use another checkpoint.")
        vectors, whole = self._project(tokens), self._project(tokens.mean(1, keepdim=True))[:, 0]
        return tuple(Groups(vectors[b], whole[b], shares[b], grid) for b in range(len(pixels)))

    def _project(self, tokens: Tensor) -> Tensor:
        # Its projection holds a batch norm, which takes rows only.
        rows = self.model.visual_projection(tokens.flatten(0, 1)).float()
        return F.normalize(rows, dim=-1).unflatten(0, tokens.shape[:2])

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
        """The strings that it was not trained on: none that its folder could name."""
        return ()


def load(folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> GroupVit:
    """Read a GroupViT from a folder as ``from_pretrained`` does, without the network.

    Args:
        folder: with ``config.json``, weights and tokenizer files.
        device: where the weights go.
        dtype: of weights and activations; vectors and shares come out as float32 in any case.

    Raises:
        WeightsError: the folder cannot be read as a GroupViT.
    """
    from transformers.models.clip.tokenization_clip import CLIPTokenizer
    from transformers.models.groupvit.modeling_groupvit import GroupViTModel

    with reading(folder, "a GroupViT"):
        model = complete(GroupViTModel, folder, dtype=dtype)
        holds(folder, "tokenizer.json | vocab.json", "tokenizer.json | merges.txt")
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    end = model.config.text_config.eos_token_id
    # 2 is what older configurations say; the model then reads the token with the highest id.
    if end not in (2, tokenizer.eos_token_id):
        raise WeightsError(
            f"Got {folder} whose model reads the token {end} and whose tokenizer ends with {tokenizer.eos_token_id}. "
            "Accepted are a model and a tokenizer that agree. Set text_config.eos_token_id in config.json."
        )
    return GroupVit(model.eval().requires_grad_(requires_grad=False).to(device), tokenizer)


def _grid(pixels: Tensor, patch: int) -> tuple[int, int]:
    height, width = pixels.shape[-2:]
    if height % patch or width % patch or not height or not width:
        raise ShapeError(
            f"Got pixels of shape {tuple(pixels.shape)}. Accepted are sides that are multiples of {patch}, the patch. Resize first."
        )
    return height // patch, width // patch
