"""The settings that a client may change: a short list of numbers that act at decode, with ranges that bound their cost.

Nothing that names a file, chooses weights or a stage is among them.
"""

from __future__ import annotations

import difflib
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from nerveseg import registry
from nerveseg.errors import OptionError
from nerveseg.recipe import Recipe

__all__ = ["Knob", "Settings"]

_ALLOWED: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "labels.scale": (1e-3, 1e3),
        "masks.area": (0.0, 1.0),
        "masks.floor": (0.0, 1.0),
        "masks.min_area": (0, 1_000_000),
        "masks.score_floor": (0.0, 1.0),
        "masks.score_power": (0.0, 100.0),
        "transition.beta": (0.0, 1.0),
        "transition.local_power": (1e-2, 1e3),
        "transition.neighbours": (1e-4, 1.0),
        "transition.peakedness": (0.0, 1e6),
        "transition.stay": (1e-3, 1e3),
        "walk.alpha": (0.0, 0.9999),
        "walk.steps": (0, 1000),
        "walk.tolerance": (1e-6, 1.0),
    }
)
"""Name → smallest and largest value; the stage's own bounds hold as well."""


@dataclass(frozen=True)
class Knob:
    """One knob.

    Attributes:
        low: smallest value.
        high: largest.
        value: the recipe's.
        whole: whether it takes whole numbers only.
        text: what it does.
    """

    low: float
    high: float
    value: float | None
    whole: bool
    text: str


@dataclass(frozen=True)
class Settings:
    """The knobs of one recipe that may be turned.

    Attributes:
        knobs: dotted name → knob.
    """

    knobs: Mapping[str, Knob]

    @classmethod
    def of(cls, recipe: Recipe) -> Settings:
        """Those of the list that the recipe's stages have."""
        return cls(MappingProxyType({name: found for name in _ALLOWED if (found := _knob(recipe, name)) is not None}))

    def read(self, given: Any) -> dict[str, Any]:
        """Check an object of settings.

        Raises:
            OptionError: another type, a knob that is not on the list, a value out of its bounds.
        """
        if given is None:
            return {}
        if not isinstance(given, dict):
            raise OptionError(f"Got {type(given).__name__} for the settings. Accepted is an object, name → number. See /v1/models.")
        return {name: self._one(name, value) for name, value in given.items()}

    def _one(self, name: str, value: Any) -> Any:
        knob = self.knobs.get(name)
        if knob is None:
            near = difflib.get_close_matches(name[:100], self.knobs, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "Leave it out; who runs the service chooses the rest."
            raise OptionError(f"Got the setting {name[:100]!r}. Accepted are {', '.join(self.knobs)}. {hint}")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not (knob.low <= value <= knob.high) or not math.isfinite(value) or (knob.whole and value != int(value)):
            kind = "a whole number" if knob.whole else "a number"
            shown = repr(value) if number and abs(value) < 1e300 else type(value).__name__
            raise OptionError(f"Got {name} = {shown}. Accepted is {kind} from {knob.low:g} to {knob.high:g}. Choose one in that range.")
        return int(value) if knob.whole else float(value)


def _knob(recipe: Recipe, name: str) -> Knob | None:
    part, _, field = name.partition(".")
    low, high = _ALLOWED[name]
    if name == "masks.min_area":
        return Knob(low, high, recipe.min_area, whole=True, text="Parts smaller than this many pixels take the label around them.")
    stage = {"masks": recipe.rule, "labels": recipe.labels, "walk": recipe.walk}.get(part)
    options = recipe.transition if part == "transition" and recipe.walk is not None else stage.options if stage is not None else None
    if part == "labels" and field not in recipe.labels.module.decode_options:
        return None
    found = {knob.name: knob for knob in registry.knobs(type(options))}.get(field) if options is not None else None
    if found is None:
        return None
    low, high = (pick(own, edge) for own, edge, pick in ((low, found.metadata["low"], _larger), (high, found.metadata["high"], _smaller)))
    hint = typing.get_type_hints(type(options))[field]
    return Knob(low, high, getattr(options, field), whole=hint is int, text=found.metadata["doc"])


def _larger(own: float, edge: float | None) -> float:
    return own if edge is None else max(own, edge)


def _smaller(own: float, edge: float | None) -> float:
    return own if edge is None else min(own, edge)
