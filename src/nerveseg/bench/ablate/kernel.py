"""How two tokens' affinity is measured: every kernel, and every pairing of queries and keys."""

from __future__ import annotations

from nerveseg import registry
from nerveseg.bench.ablate.base import CONTROLS, Setting, Variant

__all__ = ["claim", "reference", "title", "variants"]

title = "Kernels and pairings"
claim = "The paper has one, the cosine of query and key (8)."
reference = "as in the recipe"


def variants(given: Setting) -> tuple[Variant, ...]:
    """The recipe as it is; every other stochastic kernel, at the recipe's ν where it has a sharpness; every other pairing."""
    own = given.recipe.transition
    rows: list[Variant] = [*CONTROLS, Variant(reference)]
    for name in registry.names("kernels"):
        kernel = registry.load("kernels", name)
        if name == own.kernel or not kernel.stochastic:
            continue
        solved = own.neighbours if kernel.sharpness else None
        rows.append(Variant(f"kernel {name}", {"kernel.name": name, "transition.neighbours": solved}))
    rows += [Variant(f"pairing {pairing}", {"transition.pairing": pairing}) for pairing in ("qk", "kk", "qq") if pairing != own.pairing]
    return tuple(rows)
