"""iSeg's label half (arXiv 2409.03209): one pass of a prompt that names every class, read at each class's tokens.

    prompt: "a photograph of {c1} and {c2} … and other object and background, {background words}"
    token vectors at the tokens of classes × enhance                                         category enhancement
    X_l = mean over heads of level l of softmax(QKᵀ/√d), each token's map ÷ its sum          n_l × L
    X = Σ_l weight_l · up(X_l);  every row ← the mean of its cluster                         symmetric KL between rows
    s_c = minmax(mean of X over the tokens of c)

Rows of X are clustered as they are: KL(a‖b) = Σ_j a_j log(a_j/b_j), symmetric: Σ_j (a_j − b_j)(log a_j − log b_j), both + 1e-5.
iSeg's walk begins by taking each map's minimum off and dividing by its sum, so that the last line here changes nothing in it; it gives
other walks scores from 0 to 1. The labels are those in the image (from ground truth, or from a tagger).

Where we leave the original: classes stand in the prompt sorted by name (``sort``), since a causal text tower lets every class hear those
before it, and scores would depend on the order in which labels are told. Classes that do not fit into one prompt go into several.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nerveseg.backbones.stable_diffusion import Latents, PromptPass, StableDiffusion
from nerveseg.backbones.text_tower import TextTower
from nerveseg.errors import OptionError
from nerveseg.labels import _cross, base
from nerveseg.labels._cross import look
from nerveseg.registry import knob
from nerveseg.reprs import brief
from nerveseg.transition import Heads
from nerveseg.words.prompts import clean

__all__ = [
    "Options",
    "Prompt",
    "clustered",
    "decode_options",
    "draws_noise",
    "embeds",
    "encode",
    "look",
    "needs",
    "prompts",
    "score",
    "text_conditioned",
]

text_conditioned = True
draws_noise = True
needs = ("diffusion",)
embeds = None
decode_options = (
    "template",
    "background",
    "sort",
    "only",
    "enhance",
    "weights",
    "layers",
    "heads",
    "own",
    "clusters",
    "rounds",
    "join",
    "batch",
)
_FLOOR = 1e-5  # iSeg's, added to every entry before the logarithm


@dataclass(frozen=True)
class Options:
    """Knobs of iSeg's cross-attention."""

    size: int = _cross.size_knob()
    fit: str = _cross.fit_knob()
    resize: str = _cross.resize_knob()
    t: int = _cross.t_knob()
    seed: int = _cross.seed_knob(1101, "iSeg: 1101, though on the accelerator's own generator")
    template: str = knob(
        "a photograph of {} and other object and background", "prompt with one place for the classes, joined by 'and'.", source="iSeg"
    )
    background: str = knob(
        "",
        "words after the prompt and a comma, where the caller tells no background; labels among them are left out, a last comma stays.",
        source="iSeg",
    )
    sort: bool = knob(
        default=True,
        doc="classes stand in the prompt by name, so that their order does not matter. Off: as told.",
        source="ours; iSeg: off",
    )
    only: tuple = knob(
        (),
        "labels of which some words alone are read, as 'potted plant: plant'; all words stand in the prompt. Others: all their words.",
        source="iSeg: a list for each data set",
    )
    enhance: float = knob(
        1.6, "factor on the text's vectors at the classes' tokens. Larger: classes draw more attention; 1: none.", above=0, high=100,
        source="iSeg: 1.6",
    )  # fmt: skip
    weights: tuple = _cross.weights_knob((0.0, 0.7, 0.3, 0.0), "iSeg: 0, 0.7, 0.3, 0 for 8², 16², 32², 64² tokens")
    layers: tuple = knob(
        (),
        "cross-attention layers that are read, as paths; none: all of the levels that count. Fewer: less noise or less said.",
        source="iSeg",
    )
    heads: tuple = knob(
        (), "one list of heads a level that counts, coarse to fine, counted through its layers; an empty list, or none: all.", source="iSeg"
    )
    own: tuple = knob(
        (),
        "self-attention layers of the same pass, of one level, that are handed to the walk where the recipe has no graph; none: none.",
        source="iSeg: up_blocks.3.attentions.1",
    )
    clusters: int = knob(
        6,
        "c: clusters begin at tokens ⌈side/c⌉ apart, from the top left on; 0: no clustering. More: finer parts.",
        low=0,
        high=64,
        source="iSeg: 6",
    )
    rounds: int = knob(
        20, "rounds of clustering. Larger: nearer to settled; it ends where nothing moves.", low=1, high=1000, source="iSeg: 20"
    )
    join: str = _cross.join_knob()
    batch: int = _cross.batch_knob()


@dataclass(frozen=True)
class Prompt:
    """Framed tokens, and the places of each string that stands in them."""

    ids: tuple[int, ...]
    places: dict[str, tuple[int, ...]]

    __repr__ = brief


@torch.no_grad()
def encode(
    views: Iterable[Latents], networks: base.Networks, options: Options, *, noise: Float[Tensor, "1 c h w"] | None = None
) -> base.Features:
    """Keep the latent at step t, c·h·w floats.

    Args:
        views: from `look`.
        networks: their ``diffusion``.
        options: ``t`` and ``seed`` act here.
        noise: ε of the step in place of the seed.
    """
    return _cross.encode(views, networks, options, sample=False, noise=noise)


@torch.no_grad()
def score(features: base.Features, words: base.Words, networks: base.Networks, options: Options) -> base.Scores:
    """One U-Net pass for all classes (more where they do not fit into one prompt), up to the last layer that counts.

    Scores run from 0 to 1 over the image, string by string; with ``own``, the heads of the first prompt's pass come with them.
    Cost beside the pass: O(n·L·c²) a round of clustering.

    Args:
        features: from `encode`.
        words: their strings; background strings end the prompt.
        networks: their ``diffusion``.
        options: those of ``decode_options``, and ``t``, act here.

    Raises:
        WeightsError: words cannot go through this checkpoint. OptionError: a template, weights, layers or heads that do not fit.
    """
    backbone: StableDiffusion = networks["diffusion"]
    chosen = _chosen(backbone, options)
    cross = [layer for _, _, layers in chosen for layer in layers]
    told = prompts(backbone.text_tower(), words, options)
    columns: dict[str, Tensor] = {}
    heads: Heads | None = None
    for at in range(0, len(told), options.batch):
        some = told[at : at + options.batch]
        embedded = backbone.prompt_embeddings([prompt.ids for prompt in some])
        for row, prompt in enumerate(some):
            enhanced = sorted({place for places in prompt.places.values() for place in places})
            embedded[row, enhanced] *= options.enhance
        passes = backbone.cross_attention(_cross.noised(features), embedded, t=options.t, cross=cross, own=options.own)
        for prompt, seen in zip(some, passes, strict=True):
            heads = heads or _heads(seen)
            X = _mixed(seen, chosen, features.grid, options)
            if options.clusters:
                X = clustered(X, features.grid, seeds=options.clusters, rounds=options.rounds)
            for string, places in prompt.places.items():
                columns[string] = _cross.stretched(X[:, list(places)].mean(1, keepdim=True))[:, 0]
    return dataclasses.replace(_cross.scores(columns, words, options.join, features.grid), heads=heads)


def _heads(seen: PromptPass) -> Heads | None:
    if len({layer.grid for layer in seen.own}) > 1:
        raise OptionError("Got layers of several grids in own. Accepted are layers of one. Choose them from one level.")
    return Heads(torch.cat([x.queries for x in seen.own]), torch.cat([x.keys for x in seen.own]), seen.own[0].grid) if seen.own else None


def prompts(tower: TextTower, words: base.Words, options: Options) -> tuple[Prompt, ...]:
    """As few prompts as hold every string whole: as many strings as fit go into the first, and so on; what follows them may be cut.

    A string that alone is longer than a prompt is cut, too.
    """
    before, after = _cross.parts(options.template)
    strings = list(dict.fromkeys(words.strings))
    strings = sorted(strings) if options.sort else strings
    own = {clean(string) for string in strings}
    given = words.others or tuple(word for word in (part.strip() for part in options.background.split(",")) if word)
    others = [other for other in given if clean(other) not in own]
    comma = "," if not words.others and options.background.rstrip().endswith(",") else ""
    head, link, tail = tower.pieces(before), tower.pieces("and"), tower.pieces(", ".join([after, *others]) + comma)
    room = tower.length - 2 - len(head)
    if room < 1:
        raise OptionError(f"Got the template {options.template!r}, which leaves no place for words. Accepted is a shorter one. Shorten it.")
    held: list[dict[str, tuple[int, ...]]] = [{}]
    left = room
    for string in strings:
        body = tower.pieces(clean(string))[:room]
        if held[-1] and len(link) + len(body) > left:
            held.append({})
            left = room
        left -= len(body) + (len(link) if held[-1] else 0)
        held[-1][string] = body
    told = tuple(_prompt(tower, bodies, head, link, tail) for bodies in held)
    only = _only(options)
    return tuple(dataclasses.replace(prompt, places=_read(tower, prompt, only)) for prompt in told) if only else told


def _only(options: Options) -> Mapping[str, str]:
    entries: tuple[object, ...] = options.only  # type: ignore[reportUnknownMemberType]
    found: dict[str, str] = {}
    for entry in entries:
        label, _, part = entry.partition(":") if isinstance(entry, str) else ("", "", "")
        if not clean(label) or not clean(part) or ":" in part:
            raise OptionError(
                f"Got only = {entries!r}. Accepted are texts as 'potted plant: plant'. Name the label, a colon, and its words."
            )
        found[clean(label)] = clean(part)
    return found


def _read(tower: TextTower, prompt: Prompt, only: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    places = dict(prompt.places)
    for string, own in prompt.places.items():
        part = tower.pieces(only.get(clean(string), ""))
        starts = [at for at in range(len(own)) if tuple(prompt.ids[place] for place in own[at : at + len(part)]) == part] if part else [0]
        if not starts:
            raise OptionError(
                f"Got only = {string + ': ' + only[clean(string)]!r}. Accepted are words that stand in the label. Name some of its own."
            )
        places[string] = own[starts[-1] : starts[-1] + len(part)] if part else own
    return places


def _prompt(
    tower: TextTower, bodies: dict[str, tuple[int, ...]], head: tuple[int, ...], link: tuple[int, ...], tail: tuple[int, ...]
) -> Prompt:
    ids = list(head)
    places: dict[str, tuple[int, ...]] = {}
    for string, body in bodies.items():
        if places:
            ids += link
        places[string] = tuple(range(1 + len(ids), 1 + len(ids) + len(body)))  # 0 is the mark that begins the prompt
        ids += body
    return Prompt(tower.framed((*ids, *tail)), places)


@torch.no_grad()
def clustered(X: Float[Tensor, "n L"], grid: tuple[int, int], *, seeds: int, rounds: int) -> Float[Tensor, "n L"]:
    """Put the mean of its cluster in the place of every row; clusters are nearest by symmetric KL.

    Args:
        X: token vectors ≥ 0, row by row on the grid.
        grid: (h, w), h·w = n.
        seeds: clusters begin at every ⌈side/seeds⌉-th token of both sides, from the top left on: seeds × seeds of them, or a few less.
        rounds: of assigning and averaging; a cluster that loses every row is gone.
    """
    h, w = grid
    rows, columns = (range(0, side, -(-side // seeds)) for side in grid)
    first = [row * w + column for row in rows for column in columns]
    # In float64, on the CPU: the terms of the distance are a thousand times larger than it.
    x = X.double().cpu() + _FLOOR
    log_x, own = x.log(), torch.zeros(h * w, dtype=torch.int64)
    means = x[first]
    before: Tensor | None = None
    for _ in range(rounds):
        log_m = means.log()
        distance = (x * log_x).sum(1)[:, None] - x @ log_m.T - log_x @ means.T + (means * log_m).sum(1)
        own = distance.argmin(1).unique(return_inverse=True)[1]
        if before is not None and torch.equal(own, before):
            break
        means, before = _means(x, own), own
    return (means[own] - _FLOOR).clamp_min(0).to(X)


def _means(x: Float[Tensor, "n L"], own: Int[Tensor, " n"]) -> Float[Tensor, "c L"]:
    counts = torch.bincount(own)[:, None]
    return x.new_zeros(len(counts), x.shape[1]).index_add_(0, own, x) / counts


def _chosen(backbone: StableDiffusion, options: Options) -> tuple[tuple[float, int, tuple[str, ...]], ...]:
    """(weight, depth, layers) of the levels that count; with ``layers``, those alone."""
    found = _cross.weighted_levels(backbone, options.weights)
    if not options.layers:
        return found
    named = backbone.resolve(options.layers, cross=True)
    kept = tuple((weight, depth, tuple(layer for layer in layers if layer in named)) for weight, depth, layers in found)
    if any(not layers for _, _, layers in kept) or sum(len(layers) for _, _, layers in kept) != len(named):
        raise OptionError(
            f"Got layers = {options.layers!r}. Accepted are layers of the levels whose weight is not 0, one or more of each. "
            "Change them together with weights."
        )
    return kept


def _mixed(
    seen: PromptPass, chosen: Sequence[tuple[float, int, tuple[str, ...]]], grid: tuple[int, int], options: Options
) -> Float[Tensor, "n L"]:
    by_name = {layer.layer: layer for layer in seen.cross}
    heads: Sequence[Sequence[int]] = options.heads or [()] * len(chosen)
    if len(heads) != len(chosen):
        raise OptionError(f"Got heads for {len(heads)} levels. Accepted is one list a level that counts, {len(chosen)}. Give each a list.")
    total: Tensor | None = None
    for (weight, _, layers), some in zip(chosen, heads, strict=True):
        X = _cross.level_mean([by_name[layer] for layer in layers], some)
        X = weight * _cross.brought(X / X.sum(0), by_name[layers[0]].grid, grid)
        total = X if total is None else total + X
    if total is None:
        raise OptionError("Got no level that counts. Accepted is one weight above 0 or more. Raise one.")
    return total
