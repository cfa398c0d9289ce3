"""How long the walk is (the paper's Figure 2); the infinite walk is the last point."""

from __future__ import annotations

from nerveseg.bench.ablate.base import CONTROLS, Setting, Variant

__all__ = ["axis", "claim", "reference", "title", "variants"]

title = "Steps of the walk"
claim = "Gains up to 20 steps, nothing after 40 (Figure 2)."
reference = "infinite"
axis = "steps L (the last point is the walk without end)"

_STEPS = (0, 1, 2, 5, 10, 20, 40, 80)


def variants(given: Setting) -> tuple[Variant, ...]:
    """The truncated walk at the recipe's α, and the infinite one."""
    alpha = getattr(given.recipe.walk.options, "alpha", 0.9) if given.recipe.walk else 0.9
    short = {"walk.name": "truncated", "walk.alpha": alpha}
    rows = (Variant(f"{steps} step{'s' * (steps != 1)}", {**short, "walk.steps": steps}, at=steps) for steps in _STEPS)
    return (*CONTROLS, *rows, Variant(reference, {"walk.name": "infinite", "walk.alpha": alpha}, at=2 * _STEPS[-1]))
