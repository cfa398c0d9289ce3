"""The recipe's knobs that the page shows: those that answer from an encoding, without a network pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nerveseg.recipe import Recipe

__all__ = ["STEPS", "Knobs"]

STEPS = 40
"""Steps that the slider begins with where the recipe walks to the end."""

_MOST_STEPS = 100
_HIGHEST_ALPHA = 0.995


@dataclass(frozen=True)
class Knobs:
    """What the sliders say, or where they begin.

    Attributes:
        alpha: α; None where nothing walks, or the walk has none.
        beta: β; None where there is no transition to walk on.
        steps: L; None where the walk cannot be cut short.
        endless: whether the walk goes to its end rather than L steps.
    """

    alpha: float | None = None
    beta: float | None = None
    steps: int | None = None
    endless: bool = True

    @classmethod
    def of(cls, recipe: Recipe) -> Knobs:
        """A recipe's own."""
        if recipe.walk is None or recipe.graph is None:
            return cls()
        options, on_S = recipe.walk.options, recipe.walk.module.needs == "S"
        own = getattr(options, "steps", None)
        return cls(
            alpha=getattr(options, "alpha", None),
            beta=recipe.transition.beta if on_S else None,
            steps=None if not on_S or not hasattr(options, "alpha") else STEPS if own is None else min(own, _MOST_STEPS),
            endless=own is None,
        )

    @property
    def highest_alpha(self) -> float:
        """Where the slider of α ends."""
        return max(self.alpha or 0.0, _HIGHEST_ALPHA)

    @property
    def most_steps(self) -> int:
        """Where the slider of steps ends."""
        return _MOST_STEPS

    def settings(self, recipe: Recipe) -> dict[str, Any]:
        """What differs from the recipe's own, by dotted name, as `Segmenter.decode` takes it."""
        own = Knobs.of(recipe)
        changed: dict[str, Any] = {}
        if own.alpha is not None and self.alpha != own.alpha:
            changed["walk.alpha"] = self.alpha
        if own.beta is not None and self.beta != own.beta:
            changed["transition.beta"] = self.beta
        if own.steps is None:
            return changed
        if self.endless != own.endless:
            changed["walk.name"] = "infinite" if self.endless else "truncated"
        if not self.endless and (own.endless or self.steps != own.steps):
            changed["walk.steps"] = self.steps
        return changed
