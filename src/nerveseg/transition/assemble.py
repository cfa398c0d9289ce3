"""heads, G → S: the one function that puts kernel, head weights, stencil and blend together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg import registry
from nerveseg.errors import OptionError
from nerveseg.transition import global_graph, head_weights
from nerveseg.transition.affinity import Affinity, groups, prepared, solved
from nerveseg.transition.base import Operator, Transition
from nerveseg.transition.heads import Heads
from nerveseg.transition.options import Options
from nerveseg.transition.rows import label_rows
from nerveseg.transition.stencil import stencil
from nerveseg.transition.tiled import TiledHeads, tiled_transition
from nerveseg.transition.transfer import numbers

__all__ = ["build"]


def build(
    heads: Heads | TiledHeads,
    G: Float[Tensor, "n k"],
    *,
    options: Options | None = None,
    kernel_options: Mapping[str, Any] | Any = None,
    weights: str | Tensor | None = None,
    **knobs: Any,
) -> Transition:
    """Build S from the heads; G decides how much each head counts.

    Args:
        heads: queries and keys (H, n, d) over the token grid, any float dtype; computed in float32. Those of tiles give one S over the
            joined grid, and ``memory`` is for all of them together (see `nerveseg.transition.tiled.tiled_transition`).
        G: (n, k) label probabilities on the same grid, rows ≥ 0 that sum to 1 (to 1/256); read only where the heads are weighed by entropy,
            and checked always.
        options: every knob at once; those named in ``knobs`` are changed in it.
        kernel_options: the kernel's own knobs (temperature, tau, power, landmarks …), as a mapping or as its Options.
        weights: "entropy" (12-14), "mean", "best" (the most certain head), or (H,) numbers ≥ 0 of your own.
        **knobs: fields of `Options`: beta, kernel, pairing, peakedness, stay, local_power, neighbours, keep, entropy_share, memory.

    Returns:
        S as an operator: ``S @ X``, ``S.to_dense()``, ``S.weights``.

    Cost: O(n·H·d) time and memory for kernels with a feature map; O(H·n²·d) time for the others, and n² · 4 bytes, n · keep · 8
    bytes, or blocks of rows only, beyond ``memory``. At beta = 0 no n × n matrix and no thin pair is held; rows are still looked
    at where heads are weighed by entropy, so that w does not depend on beta. At beta = 1 there is no stencil.

    Raises:
        OptionError: a knob that does not exist, is out of range, or does not fit the kernel.
        ShapeError: G does not fit the heads, or is not finite.
        StochasticError: rows of G that are no probabilities; row sums that vanish under the kernel 'cosine_raw'.

    >>> heads = Heads(torch.ones(1, 4, 2), torch.ones(1, 4, 2), (2, 2))
    >>> S = build(heads, torch.full((4, 2), 0.5), beta=1.0)
    >>> (S @ torch.eye(4))[0].tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    if isinstance(weights, str):
        knobs["weights"] = weights
    chosen = _chosen(options, knobs)
    kernel = registry.load("kernels", chosen.kernel)
    kernel_chosen = _kernel_options(kernel, chosen.kernel, kernel_options)
    own = weights if isinstance(weights, Tensor) else None

    def one(part: Heads, scores: Float[Tensor, "m k"], its: Options) -> Transition:
        _check(part, scores, its, kernel)
        with torch.no_grad():
            return _assemble(part, scores.to(device=part.queries.device, dtype=torch.float32), its, kernel, kernel_chosen, own)

    return tiled_transition(heads, G, chosen, one) if isinstance(heads, TiledHeads) else one(heads, G, chosen)


def _assemble(
    heads: Heads, G: Float[Tensor, "n k"], options: Options, kernel: ModuleType, kernel_options: Any, given: Tensor | None
) -> Transition:
    needs_entropy = given is None and options.weights != "mean" and heads.count > 1
    affinities: list[Affinity] = []
    sharpness: tuple[float, ...] = ()
    room = global_graph.HeadBuffers(heads.n, heads.count, heads.queries.device)
    if needs_entropy or options.beta > 0:
        affinities, sharpness = _affinities(heads, options, kernel, kernel_options, room)
    entropies = head_weights.head_entropies(affinities, G, heads.grid, options.entropy_share) if needs_entropy else None
    w = _weights(heads, options, entropies, given)
    used = [head for head, weight in enumerate(numbers(w)) if weight > 0]
    spread_graph: Operator | None = None
    stuck = 0
    if options.beta > 0:
        # Only here: heads without weight go now, and the others as soon as they are folded.
        affinities, weights = _used(affinities, used, w)
        spread_graph, stuck = _spread(affinities, weights, options, room.of(used))
    affinities = []
    local = None
    if options.beta < 1:
        local = stencil(heads, w, used=used, pairing=options.pairing, stay=options.stay, power=options.local_power)
    return Transition(spread_graph, local, options.beta, heads.grid, w, entropies, sharpness, stuck, kernel.stochastic or options.beta == 0)


def _affinities(
    heads: Heads, options: Options, kernel: ModuleType, kernel_options: Any, room: global_graph.HeadBuffers
) -> tuple[list[Affinity], tuple[float, ...]]:
    affinities: list[Affinity] = []
    sharpness: list[float] = []
    for which in groups(range(heads.count), heads.queries.device, low_rank=kernel.low_rank):
        affinity = prepared(heads, which, options.pairing, kernel, kernel_options)
        if options.neighbours is not None:
            guess = sharpness[-1] if sharpness else getattr(kernel_options, kernel.sharpness)
            found = solved(affinity, heads.grid, options.neighbours, guess)
            affinity = affinity.sharp(found)
            sharpness += found
        affinities.append(affinity.thin(partial(room.at, which[0])) if kernel.low_rank else affinity)
    return affinities, tuple(sharpness)


def _used(affinities: Sequence[Affinity], used: Sequence[int], w: Float[Tensor, " H"]) -> tuple[list[Affinity], list[Tensor]]:
    """The heads that have weight, in their groups, and these weights."""
    kept: list[Affinity] = []
    weights: list[Tensor] = []
    first = 0
    for affinity in affinities:
        count = len(affinity.left)
        own = w[first : first + count]
        places = [head - first for head in used if 0 <= head - first < count]
        if places:
            kept.append(affinity.of(places))
            weights.append(own if len(places) == count else own[places])
        first += count
    return kept, weights


def _weights(heads: Heads, options: Options, entropies: Tensor | None, given: Tensor | None) -> Float[Tensor, " H"]:
    if given is not None:
        return head_weights.given(given, heads.count).to(heads.queries.device)
    if entropies is None:
        return torch.full((heads.count,), 1.0 / heads.count, device=heads.queries.device)
    return head_weights.from_entropies(entropies, float("inf") if options.weights == "best" else options.peakedness)


def _spread(affinities: list[Affinity], weights: Sequence[Tensor], options: Options, pair: tuple[Tensor, Tensor]) -> tuple[Operator, int]:
    n = affinities[0].right.shape[1]
    if options.keep is not None:
        return global_graph.keep(affinities, weights, options.keep)
    if affinities[0].kernel.low_rank:
        return global_graph.thin(affinities, weights, pair)
    if n * n * 4 <= options.memory * 2**20:
        return global_graph.fold(affinities, weights)
    stuck = sum(stayed for _, _, stayed in global_graph.blocks(affinities, weights))
    return global_graph.StreamedRows(tuple(affinities), tuple(weights)), stuck


def _chosen(options: Options | None, knobs: Mapping[str, Any]) -> Options:
    base = {} if options is None else dataclasses.asdict(options)
    return registry.options(Options, {**base, **knobs}, "transition")


def _kernel_options(kernel: ModuleType, name: str, given: Any) -> Any:
    if given is None or isinstance(given, Mapping):
        mapping = cast("Mapping[str, Any]", given or {})
        return registry.options(kernel.Options, mapping, f"kernel {name}")
    if not isinstance(given, kernel.Options):
        raise OptionError(
            f"Got {type(given).__module__}.{type(given).__name__} for the kernel {name!r}. "
            f"Accepted are a mapping or {kernel.__name__}.Options. Pass the options of the kernel that you name."
        )
    registry.check(given, f"kernel {name}")
    return given


def _check(heads: Heads, G: Tensor, options: Options, kernel: ModuleType) -> None:
    label_rows(G, heads.n)
    if options.neighbours is not None and kernel.sharpness is None:
        sharp = ", ".join(name for name in registry.names("kernels") if registry.load("kernels", name).sharpness)
        raise OptionError(
            f"Got neighbours = {options.neighbours} with the kernel {options.kernel!r}, which has no sharpness to solve. "
            f"Accepted are {sharp}. Choose one of them, or leave neighbours out."
        )
