"""Embed the words of one decode with the recipe's text tower: strings, their classes, and unit vectors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.backbones import text_cache
from nerveseg.labels.base import Words
from nerveseg.reprs import brief
from nerveseg.weights.folder import Folder
from nerveseg.words import prompts
from nerveseg.words.untrained import untrained
from nerveseg.words.vocabulary import Background, Vocabulary

__all__ = ["Ask", "TextEmbedder", "UntrainedWordWarning"]

_VOCABULARIES_KEPT = 8
_WORTH_KEEPING = 512  # prompts; fewer take less time than reading the weights for their digest


class UntrainedWordWarning(UserWarning):
    """Words that the recipe's CLIP was not trained on, so that their labels mean little, or a string that was cut."""


@dataclass(frozen=True)
class Ask:
    """How a recipe asks.

    Attributes:
        tower: backbone whose text tower embeds the words; None where the label source reads strings.
        templates: name of the sentences around each word.
        recipe: its name, for warnings.
    """

    tower: str | None
    templates: str
    recipe: str


@dataclass(frozen=True, eq=False)
class TextEmbedder:
    """Text towers, and the vectors of the vocabularies that were asked last.

    Attributes:
        networks: backbone → network.
        folders: backbone → where its weights came from.
        device: where vectors go.
        dtype: of the networks.
        kept: vectors by tower, templates and strings; shared by all that answer from the same networks.
        turn: held while a text tower is asked.
    """

    networks: Mapping[str, Any]
    folders: Mapping[str, Folder]
    device: torch.device
    dtype: torch.dtype
    kept: dict[tuple[str, ...], Tensor] = field(default_factory=dict, repr=False)
    turn: AbstractContextManager[Any] = field(default_factory=nullcontext, repr=False)

    __repr__ = brief

    def words(self, vocabulary: Vocabulary, background: Background | None, ask: Ask) -> Words:
        """Words and their vectors; one warning for those that the tower was not trained on, one for each that it cuts."""
        strings = tuple(string for label in vocabulary for string in label.strings)
        groups = tuple(place for place, label in enumerate(vocabulary) for _ in label.strings)
        others = tuple(background.strings) if background else ()
        rows = self._vectors(strings, others, ask, told=(*strings, *(background.asked if background else ())))
        return Words(strings, groups, others, rows[: len(strings)], rows[len(strings) :])

    def _vectors(self, strings: tuple[str, ...], others: tuple[str, ...], ask: Ask, told: tuple[str, ...]) -> Float[Tensor, "s E"]:
        tower = ask.tower
        if tower is None:
            return torch.zeros(len(strings) + len(others), 0, device=self.device)
        key = (tower, ask.templates, *strings, "\0", *others)
        if (found := self.kept.get(key)) is not None:  # in one step: another thread may let it go
            return found
        with self.turn:
            templates = prompts.template_set(ask.templates)
            _say(self.networks[tower], told, templates, ask.recipe)
            while len(self.kept) >= _VOCABULARIES_KEPT:
                self.kept.pop(next(iter(self.kept)))
            self.kept[key] = found = self._embedded(tower, [*strings, *others], templates)
        return found

    def _embedded(self, tower: str, strings: Sequence[str], templates: Sequence[str]) -> Float[Tensor, "s E"]:
        network = self.networks[tower]
        if len(strings) * len(templates) < _WORTH_KEEPING or tower not in self.folders:
            return network.text(strings, templates)
        key = text_cache.name(f"{self.folders[tower].digest} {self.dtype}", templates, strings)
        rows = text_cache.read(key)
        if rows is None:
            rows = network.text(strings, templates)
            text_cache.write(key, rows)
        return rows.to(self.device)


def _say(tower: Any, strings: Sequence[str], templates: Sequence[str], recipe: str) -> None:
    if unknown := tower.unknown(strings):
        warnings.warn(untrained(unknown, f"the CLIP of {recipe!r}"), UntrainedWordWarning, stacklevel=2)
    for word in tower.truncated(strings, templates):
        short = word if len(word) < 40 else word[:37] + "…"
        warnings.warn(f"{short!r} is longer than CLIP reads; its end was cut", UntrainedWordWarning, stacklevel=2)
