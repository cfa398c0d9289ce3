"""Stable Diffusion's text half: pieces of a prompt → tokens, whose places are known, → one vector a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.backbones.reading import complete, holds, reading
from nerveseg.errors import WeightsError
from nerveseg.reprs import brief

__all__ = ["TextTower", "load"]


@dataclass(frozen=True, eq=False)
class TextTower:
    """A frozen text tower with its tokenizer.

    Attributes:
        model: transformers' ``CLIPTextModel``.
        tokenizer: transformers' ``CLIPTokenizer``.
    """

    model: Any
    tokenizer: Any

    __repr__ = brief

    @property
    def length(self) -> int:
        """Tokens L of every prompt, begin, end and padding included: 77 in the published models."""
        return int(self.model.config.max_position_embeddings)

    def pieces(self, text: str) -> tuple[int, ...]:
        """The tokens of a piece of a prompt. Pieces that meet at white space give together what their joined text gives."""
        # Longer pieces than the tower reads are no news: whoever puts a prompt together cuts it.
        return tuple(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def framed(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Begin, tokens, end and padding to `length`; tokens that find no place are cut off at the end."""
        inner = tuple(ids)[: self.length - 2]
        marked = (self.tokenizer.bos_token_id, *inner, self.tokenizer.eos_token_id)
        return marked + (self.tokenizer.pad_token_id,) * (self.length - len(marked))

    @torch.no_grad()
    def embed(self, prompts: Sequence[tuple[int, ...]], *, batch: int = 64) -> Float[Tensor, "b L D"]:
        """The tower's answer to framed prompts, in its own dtype; every prompt by itself whatever else is asked.

        Args:
            prompts: one or more, from `framed`.
            batch: prompts a pass; larger is faster and takes more memory.
        """
        device = self.model.device
        parts: list[Tensor] = []
        for at in range(0, len(prompts), batch):
            ids = torch.tensor(prompts[at : at + batch], device=device)
            # No attention mask: the published models were trained on padded prompts without one.
            parts.append(self.model(input_ids=ids).last_hidden_state)
        return torch.cat(parts)


def load(folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> TextTower:
    """Read ``text_encoder`` and ``tokenizer`` of a checkpoint in diffusers' layout, without the network.

    The caller's random state stays as it was, and the weights serve inside and outside of inference mode alike.

    Raises:
        WeightsError: the folder has no text tower, or one that cannot be read.
    """
    from transformers.models.clip.modeling_clip import CLIPTextModel
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    if not (folder / "text_encoder").is_dir():
        raise WeightsError(
            f"Got {folder}, which holds no text_encoder, so that words cannot go through it, the empty prompt at most. "
            "Accepted is a checkpoint with text_encoder and tokenizer. Take a whole one, or a label source that embeds words by CLIP."
        )
    with reading(folder, "Stable Diffusion's text tower"), torch.random.fork_rng(devices=[]), torch.inference_mode(mode=False):
        model = complete(CLIPTextModel, folder / "text_encoder", dtype=dtype).eval().requires_grad_(requires_grad=False)
        holds(folder, "tokenizer/tokenizer.json | tokenizer/vocab.json", "tokenizer/tokenizer.json | tokenizer/merges.txt")
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    return TextTower(model.to(device), tokenizer)
