"""The variants of an ablation, and the controls that every table has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nerveseg.datasets import DataSet
from nerveseg.datasets.classes import ClassNames
from nerveseg.recipe import Recipe
from nerveseg.reprs import brief

__all__ = ["CONTROLS", "RULES", "Rule", "Setting", "Variant"]


@dataclass(frozen=True)
class Variant:
    """One way to label the same encoded images.

    Attributes:
        name: row of the table.
        settings: knobs by dotted name. Those of the graph or of weights make it pass the networks anew; all others re-solve.
        heads: places of the heads that are used; None: all.
        once: P = S G in place of a walk.
        at: where it stands on the figure's axis; None: a bar.
        group: of the variants of one group the table shows the best, chosen on images that are not scored; None: a row of its own.
        worst: the group shows its worst in place of its best.
        names: other names for the data set's classes; None: those that the data set was opened with.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    heads: tuple[int, ...] | None = None
    once: bool = False
    at: float | None = None
    group: str | None = None
    worst: bool = False
    names: ClassNames | None = None

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Setting:
    """What the variants of an ablation are made from.

    Attributes:
        recipe: that is ablated, with its settings for the data set.
        networks: kind → network, those at hand.
        heads: how many heads the recipe's graph has; 0 without a graph.
        data: the data set that is scored.
        synonyms: file of other words for its classes, one class a line, ``;`` between them; None: those that ship, where some do.
    """

    recipe: Recipe
    networks: Mapping[str, Any]
    heads: int
    data: DataSet
    synonyms: Path | None = None

    __repr__ = brief


@dataclass(frozen=True)
class Rule:
    """A decision rule that a variant may take.

    Attributes:
        name: registry name.
        knobs: of its options.
    """

    name: str
    knobs: Mapping[str, Any] = field(default_factory=dict)

    __repr__ = brief

    @property
    def label(self) -> str:
        """Its name and knobs, for tables."""
        return " ".join([self.name, *(f"{name} {value:g}" for name, value in self.knobs.items())])


RULES = (Rule("argmax"), Rule("class_max"), Rule("z_score", {"score_power": 0.5}), Rule("z_score", {"score_power": 1.0}))
"""Rules that every variant chooses from."""

_ALONE: Mapping[str, Any] = {"walk.name": "none"}
CONTROLS = (
    Variant("G alone", _ALONE),
    Variant("G calibrated, no walk", {**_ALONE, "calibration.name": "z_score"}),
)
"""What every ablation shows beside its variants: labels that nothing walks on, as they come and made to compete on one scale."""
