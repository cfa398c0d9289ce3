"""How the heads of the attention are put together (the paper's Table 3)."""

from __future__ import annotations

from nerveseg.bench.ablate.base import CONTROLS, Setting, Variant

__all__ = ["claim", "reference", "title", "variants"]

title = "Heads: one, their mean, weighed by entropy"
claim = "Weighed by entropy > mean, single (Table 3)."
reference = "entropy-weighted"


def variants(given: Setting) -> tuple[Variant, ...]:
    """Each head alone, the most certain head of each image, the mean, and weights by entropy."""
    alone = (Variant(f"head {head} alone", heads=(head,), group="best single head") for head in range(given.heads))
    return (
        *CONTROLS,
        *alone,
        Variant("most certain head", {"transition.weights": "best"}),
        Variant("mean", {"transition.weights": "mean"}),
        Variant(reference, {"transition.weights": "entropy"}),
    )
