"""Which graph the labels follow: the global one, the local one, both, one step or a walk (the paper's Table 4)."""

from __future__ import annotations

from nerveseg.bench.ablate.base import CONTROLS, Setting, Variant

__all__ = ["claim", "reference", "title", "variants"]

title = "Affinity: global, local, both; one step, a walk"
claim = "Global + local + walk > global > local (Table 4)."
reference = "global + local, walk"


def variants(given: Setting) -> tuple[Variant, ...]:
    """One step and the walk on each graph alone, and the walk on both."""
    return (
        *CONTROLS,
        Variant("global, one step", {"transition.beta": 1.0}, once=True),
        Variant("local, one step", {"transition.beta": 0.0}, once=True),
        Variant("global + local, one step", once=True),
        Variant("global, walk", {"transition.beta": 1.0}),
        Variant("local, walk", {"transition.beta": 0.0}),
        Variant(reference),
    )
