"""Where the graph comes from: layers of the diffusion model, and other networks."""

from __future__ import annotations

from nerveseg import registry
from nerveseg.bench.ablate.base import CONTROLS, Setting, Variant

__all__ = ["claim", "reference", "title", "variants"]

title = "Graphs: layers and sources"
claim = "The last two self-attention layers of Stable Diffusion (§3.3)."
reference = "as in the recipe"

_DEPTH = 4


def variants(given: Setting) -> tuple[Variant, ...]:
    """The recipe's graph, the local graph alone, single layers from the end, and every source whose network is at hand."""
    rows: list[Variant] = [*CONTROLS, Variant(reference), Variant("local graph alone", {"transition.beta": 0.0})]
    diffusion = given.networks.get("diffusion")
    if diffusion is not None and given.recipe.graph is not None and given.recipe.graph.name == "stable_diffusion":
        depths = range(1, min(_DEPTH, len(diffusion.layers)) + 1)
        rows += [Variant(f"diffusion, layer {-depth}", {"graph.layers": [-depth]}) for depth in depths]
    for name in registry.names("graphs"):
        needs = registry.load("graphs", name).needs
        other = given.recipe.graph is None or name != given.recipe.graph.name
        if other and needs and set(needs) <= set(given.networks):
            rows.append(Variant(f"graph of {name}", {"graph.name": name}))
    return tuple(rows)
