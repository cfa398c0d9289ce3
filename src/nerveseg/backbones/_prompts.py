"""What text towers share: strings set into templates, encoded, and averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nerveseg.words.prompts import fill

__all__ = ["averaged", "cut"]


def averaged(
    strings: Sequence[str], templates: Sequence[str], encode: Callable[[list[str]], Float[Tensor, "p E"]], *, batch: int
) -> Float[Tensor, "s E"]:
    """Unit rows: every template's vector, then the mean over templates brought to unit length.

    Args:
        strings: one or more.
        templates: prompts with one place for the word.
        encode: prompts → unit rows; each prompt is encoded once.
        batch: prompts a call.
    """
    prompts = [fill(template, string) for string in strings for template in templates]
    unique = list(dict.fromkeys(prompts))
    rows = torch.cat([encode(unique[at : at + batch]) for at in range(0, len(unique), batch)])
    place = {prompt: row for row, prompt in enumerate(unique)}
    return F.normalize(rows[[place[prompt] for prompt in prompts]].unflatten(0, (len(strings), len(templates))).mean(1), dim=-1)


def cut(tokenizer: Any, strings: Sequence[str], templates: Sequence[str], longest: int) -> tuple[str, ...]:
    """The strings of which some prompt has more tokens than ``longest``."""
    return tuple(
        string
        for string in strings
        if any(len(ids) > longest for ids in tokenizer([fill(template, string) for template in templates])["input_ids"])
    )
