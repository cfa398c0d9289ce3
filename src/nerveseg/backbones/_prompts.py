"""What text towers share: strings set into templates, encoded, and averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nerveseg.words.prompts import fill

__all__ = ["averaged", "cut"]


@torch.no_grad()
def averaged(model: Any, tokenizer: Any, strings: Sequence[str], templates: Sequence[str], *, batch: int) -> Float[Tensor, "s E"]:
    """Unit rows: every template's vector, then the mean over templates brought to unit length.

    Args:
        model: a transformers model with a text tower, as CLIP's.
        tokenizer: its tokenizer; prompts longer than the tower reads are cut.
        strings: words.
        templates: prompts with one place for the word.
        batch: prompts a pass; each is encoded once.
    """
    if not strings:
        return torch.zeros(0, int(model.config.projection_dim), device=model.device)
    prompts = [fill(template, string) for string in strings for template in templates]
    unique = list(dict.fromkeys(prompts))
    rows = torch.cat([_encoded(model, tokenizer, unique[at : at + batch]) for at in range(0, len(unique), batch)])
    place = {prompt: row for row, prompt in enumerate(unique)}
    return F.normalize(rows[[place[prompt] for prompt in prompts]].unflatten(0, (len(strings), len(templates))).mean(1), dim=-1)


def cut(model: Any, tokenizer: Any, strings: Sequence[str], templates: Sequence[str]) -> tuple[str, ...]:
    """The strings of which some prompt has more tokens than the text tower reads."""
    return tuple(
        string
        for string in strings
        if any(len(ids) > _longest(model) for ids in tokenizer([fill(template, string) for template in templates])["input_ids"])
    )


def _encoded(model: Any, tokenizer: Any, prompts: list[str]) -> Float[Tensor, "p E"]:
    # Padding to the longest of the batch is exact: attention is causal and the first end token is the one that is read.
    tokens = tokenizer(prompts, padding=True, truncation=True, max_length=_longest(model), return_tensors="pt").to(model.device)
    pooled = model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).pooler_output
    return F.normalize(model.text_projection(pooled).float(), dim=-1)


def _longest(model: Any) -> int:
    return int(model.config.text_config.max_position_embeddings)
