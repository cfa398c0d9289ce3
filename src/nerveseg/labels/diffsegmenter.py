"""DiffSegmenter (arXiv 2309.02773): where a diffusion model looks when it reads a word, one pass a word.

    C_l = mean over heads and layers of level l of softmax(QKᵀ/√d) at the class's tokens       the words' cross-attention, n_l
    m = Σ_l weight_l · minmax(up(C_l))                                                         levels of 8², 16², 32², 64² tokens
    s_c = minmax(Ā m),  Ā = mean over heads and layers of the finest level's self-attention    of the same pass

Text vectors of the class's last word are e_∅ + emphasis·(e − e_∅), e_∅ the empty prompt's at the same places.

The original's prompt goes on with a caption of the image by BLIP. It is left out, since it takes another network: a caption may be
written into ``template``. Its labels come from a tagger, so tell this source the labels that are in the image; its background is a
threshold, so background words are not read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nerveseg.backbones.stable_diffusion import Latents, LayerHeads, PromptPass, StableDiffusion
from nerveseg.backbones.text_tower import TextTower
from nerveseg.labels import _cross, base
from nerveseg.labels._cross import look
from nerveseg.registry import knob
from nerveseg.words.prompts import clean

__all__ = ["Options", "decode_options", "draws_noise", "embeds", "encode", "look", "needs", "score", "text_conditioned"]

text_conditioned = True
draws_noise = True
needs = ("diffusion",)
embeds = None
decode_options = ("template", "tokens", "emphasis", "weights", "join", "batch")


@dataclass(frozen=True)
class Options:
    """Knobs of DiffSegmenter."""

    size: int = _cross.size_knob()
    fit: str = _cross.fit_knob()
    resize: str = _cross.resize_knob()
    t: int = _cross.t_knob()
    seed: int = _cross.seed_knob()
    sample: bool = knob(
        default=True, doc="start from a sample of the VAE's answer. Off: from its mean, as NERVE's graph.", source="DiffSegmenter: on"
    )
    template: str = knob(
        "a photograph of {}", "prompt with one place for the word; a caption may follow it.", source="DiffSegmenter, without its caption"
    )
    tokens: str = knob(
        "first",
        "first, last: that token of the class, and the next where the prompt's next word ends in -ing; all: the mean of all of them.",
        choices=("first", "last", "all"),
        source="DiffSegmenter: first (Pascal VOC), last (Pascal Context, COCO)",
    )
    emphasis: float = knob(
        1.0,
        "weight of the class's last word in the prompt. Larger: it draws more attention; 1: no more than any other.",
        above=0,
        high=100,
        source="off; DiffSegmenter: 1.21, two pluses of compel's",
    )
    weights: tuple = _cross.weights_knob((0.3, 0.5, 0.1, 0.1), "DiffSegmenter: 0.3, 0.5, 0.1, 0.1 for 8², 16², 32², 64² tokens")
    join: str = _cross.join_knob()
    batch: int = _cross.batch_knob()


@torch.no_grad()
def encode(
    views: Iterable[Latents],
    networks: base.Networks,
    options: Options,
    *,
    noise: Float[Tensor, "1 c h w"] | None = None,
    draw: Float[Tensor, "1 c h w"] | None = None,
) -> base.Features:
    """Keep the latent at step t, c·h·w floats.

    Args:
        views: from `look`.
        networks: their ``diffusion``.
        options: ``t``, ``seed`` and ``sample`` act here.
        noise: ε of the step in place of the seed.
        draw: ε of the VAE's sample in place of the seed.
    """
    return _cross.encode(views, networks, options, sample=options.sample, noise=noise, draw=draw)


@torch.no_grad()
def score(features: base.Features, words: base.Words, networks: base.Networks, options: Options) -> base.Scores:
    """One U-Net pass a string; scores from 0 to 1 over the image, whatever the other strings are.

    Cost: s passes and s·H·n² for Ā, of which no matrix is formed.

    Args:
        features: from `encode`.
        words: their strings; each goes through the network by itself. Background strings are not read.
        networks: their ``diffusion``.
        options: those of ``decode_options``, and ``t``, act here.

    Raises:
        WeightsError: words cannot go through this checkpoint. OptionError: a template or weights that do not fit.
    """
    backbone: StableDiffusion = networks["diffusion"]
    tower = backbone.text_tower()
    chosen = _cross.weighted_levels(backbone, options.weights)
    finest = min(_cross.levels(backbone))
    own = [layer for layer in backbone.layers if backbone.depth(layer) == finest]
    cross = [layer for _, _, layers in chosen for layer in layers]
    strings = sorted(set(words.strings))  # the same passes in the same batches, in whatever order the classes come
    columns: dict[str, Tensor] = {}
    for at in range(0, len(strings), options.batch):
        some = strings[at : at + options.batch]
        prompts = [_prompt(tower, string, options) for string in some]
        embedded = backbone.prompt_embeddings([prompt.ids for prompt in prompts])
        for row, prompt in enumerate(prompts):
            nothing = backbone.prompt[0, prompt.heavy]
            embedded[row, prompt.heavy] = nothing + options.emphasis * (embedded[row, prompt.heavy] - nothing)
        passes = backbone.cross_attention(_cross.noised(features), embedded, t=options.t, cross=cross, own=own)
        for string, prompt, seen in zip(some, prompts, passes, strict=True):
            m = _mixed(seen, chosen, prompt.read, features.grid, backbone)
            columns[string] = _cross.stretched(_spread(seen.own, m)[:, None])[:, 0]
    return _cross.scores(columns, words, options.join, features.grid)


@dataclass(frozen=True)
class _Prompt:
    """Framed tokens of one string's prompt, the places that are read, and those of its last word."""

    ids: tuple[int, ...]
    read: list[int]
    heavy: list[int]


def _prompt(tower: TextTower, string: str, options: Options) -> _Prompt:
    before, after = _cross.parts(options.template)
    word = clean(string)
    head, body, tail = tower.pieces(before), tower.pieces(word), tower.pieces(after)
    places = [1 + len(head) + i for i in range(len(body))]  # 0 is the mark that begins the prompt
    heavy = places[len(places) - len(tower.pieces(word.rpartition(" ")[2])) :]
    read = places
    if places and options.tokens != "all":
        spoken = [*word.split(), *after.split()]
        at, following = (places[0], spoken[1:2]) if options.tokens == "first" else (places[-1], spoken[len(word.split()) :][:1])
        read = [at, at + 1] if following and following[0].endswith("ing") else [at]
    room = tower.length - 1
    return _Prompt(
        tower.framed((*head, *body, *tail)),
        [place for place in read if place < room] or [room - 1],
        [place for place in heavy if place < room],
    )


def _mixed(
    seen: PromptPass,
    chosen: tuple[tuple[float, int, tuple[str, ...]], ...],
    places: list[int],
    grid: tuple[int, int],
    backbone: StableDiffusion,
) -> Float[Tensor, " n"]:
    m = seen.cross[0].queries.new_zeros(grid[0] * grid[1])
    for weight, depth, _ in chosen:
        layers = [layer for layer in seen.cross if backbone.depth(layer.layer) == depth]
        C = _cross.level_mean(layers)[:, places].mean(1, keepdim=True)
        m = m + weight * _cross.stretched(_cross.brought(C, layers[0].grid, grid))[:, 0]
    return m


def _spread(layers: tuple[LayerHeads, ...], m: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Ā m, the mean over all heads of softmax(QKᵀ/√d) m, by fused attention; as wide as a head, where that is fast."""
    total = torch.zeros_like(m)
    for layer in layers:
        H, n, d = layer.queries.shape
        values = F.pad(m[:, None], (0, d - 1)).expand(H, n, d)
        mixed = F.scaled_dot_product_attention(layer.queries[None], layer.keys[None], values[None])[0, :, :, 0]
        total += mixed.sum(0)
    return total / sum(len(layer.queries) for layer in layers)
