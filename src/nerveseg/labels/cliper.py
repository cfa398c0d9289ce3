"""CLIPer's early-layer fusion (ICCV 2025), the label half of the paper's setting: every layer's tokens pass the last block's value path,
mixed by the attention of all earlier blocks.

Equations, x_i the input of block i = 0 … L − 1, A = Σ_{i ≤ L−2} Attn_i (H × m × m):

    E_i = LN1_i(x_i) for i ≤ L − 2,  E_{L−1} = x_{L−1}
    for k = 0 … L − 1:  A ← A/colsum;  A ← A/rowsum;  M_k = rownorm(max(B − colmean(B), 0)),  B = (A + Aᵀ)/2
    z_k = LN_post(O·(M_k v(LN1_{L−1}(E_k))))·P                                   no residual, no FFN
    p_k = softmax(scale · cos(z_k, [classes; background; mean of the classes]))  its first columns only
    s = p_select, values below thr · (their class's maximum) set to 0;  s ← Āᵀ s,  Ā = mean_h M_{L−1} between patches
    scores = s + mean_k p_k                                                      s alone where ``fuse`` is off
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg.backbones.clip import Clip, ClipActivations
from nerveseg.errors import OptionError, ShapeError
from nerveseg.image.load import LoadedImage
from nerveseg.labels import base
from nerveseg.registry import knob

__all__ = ["Options", "decode_options", "embeds", "encode", "look", "needs", "regularised", "score", "text_conditioned"]

text_conditioned = False
needs = ("clip",)
embeds = "clip"
decode_options = ("scale", "join", "select_layer", "attention_thr", "fuse")
_TINY = 1e-12
_PAIR = 1e-5  # CLIPer's guard in the mean of pasted attention


@dataclass(frozen=True)
class Options:
    """Knobs of CLIPer's label half."""

    short_side: int = base.short_side_knob()
    positions: str = base.positions_knob()
    window: int = base.window_knob()
    stride: int = base.stride_knob()
    scale: float = base.scale_knob()
    join: str = base.join_knob()
    select_layer: int = knob(
        -2, "layer whose scores are spread by attention, from the end.", high=-1, source="CLIPer: -2 (L/14), -1 (B/16)"
    )
    attention_thr: float = knob(
        0.1,
        "share of a class's maximum below which its scores are not spread. Larger: stricter.",
        low=0,
        high=1,
        source="CLIPer: 0.1 to 0.35",
    )
    fuse: bool = knob(
        default=True, doc="add the mean over all layers. Off: the spread scores of `select_layer` alone.", source="CLIPer: on"
    )
    faithful: bool = knob(
        default=True,
        doc="keep CLIPer's side effects: attention balanced once more for every layer, early tokens normalised twice, thresholded "
        "scores in the mean, too, Ā applied from the right. Off: balanced L times for all, normalised once, untouched mean, from the left.",
        source="CLIPer's published behaviour",
    )


def look(image: LoadedImage, networks: base.Networks, options: Options) -> Iterator[base.View]:
    """The passes of CLIP over an image: the whole, then one a window."""
    return base.look(image, networks["clip"], options, whole=True, attention=True)


@torch.no_grad()
def encode(views: Iterable[base.View], networks: base.Networks, options: Options) -> base.Features:
    """Steps 1 to 4: unit patch embeddings of every layer and the head-mean attention; L·n·E + n² floats.

    Args:
        views: from `look`; the first is the whole image.
        networks: their ``clip``; computed in its dtype, attention in float32 (CLIPer: float16).
        options: ``faithful`` acts here, and ``window``: CLIPer mixes a window's embeddings by its attention, a single one's, too.

    Raises:
        ShapeError: the first view is not the whole image.
    """
    clip = networks["clip"]
    stream = iter(views)
    first = next(stream, None)
    if first is None or not first.whole:
        raise ShapeError("Got no view of the whole image first. Accepted is what look() yields. Pass it unchanged.")
    embeddings, attention = _layers(first.activations, clip, options)
    second = next(stream, None)
    windows: Tensor | None = None
    if second is not None:
        windows = _windows(itertools.chain([second], stream), clip, options, first.grid)
    elif options.window:
        windows = _mixed(embeddings, attention)
    return base.Features(embeddings, first.grid, attention, windows)


@torch.no_grad()
def score(features: base.Features, words: base.Words, networks: base.Networks, options: Options) -> base.Scores:
    """Steps 5 and 6: class scores up to about 2; background words and the mean class act in the denominator only.

    Cost O(L·n·s·E + n²·C).

    Args:
        features: from `encode`.
        words: with their vectors.
        networks: not read.
        options: those of ``decode_options`` and ``faithful`` act here.

    Raises:
        OptionError: ``select_layer`` past the first layer.
    """
    strings = torch.cat([words.vectors, words.other_vectors, base.unit(words.vectors.mean(0, keepdim=True))])

    def classes(embeddings: Tensor) -> Tensor:
        return base.probabilities(embeddings @ strings.T, words.groups, scale=options.scale, join=options.join)

    L = len(features.embeddings)
    select = _select(options, L)
    total = s = torch.zeros(())
    for some in _together(L, strings.device):
        p = classes(features.embeddings[some])
        if features.windows is not None:
            p = (p + classes(features.windows[some])) / 2
        if some.start <= select < some.stop:
            chosen = p[select - some.start]
            s = chosen * (chosen >= options.attention_thr * chosen.amax(0))
            if options.faithful:
                p = torch.cat([p[: select - some.start], s[None], p[select - some.start + 1 :]])
        total = total + (p[0] if len(p) == 1 else p.sum(0))
    mean = total / L
    attention = features.attention
    if attention is None:
        raise ShapeError("Got features without attention. Accepted are this source's own. Encode the image with it.")
    spread = attention.T @ s if options.faithful else attention / attention.sum(1, keepdim=True).clamp_min(_TINY) @ s
    return base.Scores(spread + mean if options.fuse else spread, features.grid)


def regularised(A: Float[Tensor, "H m m"]) -> tuple[Float[Tensor, "H m m"], Float[Tensor, "H m m"]]:
    """One round of step 3: (A balanced once more, M).

    M ≥ 0 and its rows sum to 1; a row that the clamp empties, for which the source has no rule, stays in place (M_ii = 1).
    """
    A = A.clone()
    return A, _regularise(A, torch.empty_like(A))


def _regularise(A: Float[Tensor, "H m m"], M: Float[Tensor, "H m m"], into: Float[Tensor, "H m m"] | None = None) -> Float[Tensor, "H m m"]:
    """One round of step 3, A and M overwritten: in ViT-L/14 they take 38 MB each, and 24 rounds of new ones cost three times as much.

    Returns M, written into ``into`` where there is one, of any float dtype.
    """
    A.div_(A.sum(-2, keepdim=True))
    A.div_(A.sum(-1, keepdim=True))
    torch.add(A, A.mT, out=M)  # 2B: the rows are divided by their sums, so that the half need not be taken
    M.sub_(M.mean(-2, keepdim=True)).clamp_min_(0)
    sums = M.sum(-1, keepdim=True)
    rows = torch.div(M, sums.clamp_min(2 * _TINY), out=M if into is None else into)
    rows.diagonal(dim1=-2, dim2=-1).masked_fill_(sums[..., 0] <= 2 * _TINY, 1)
    return rows


def _layers(x: ClipActivations, clip: Clip, options: Options) -> tuple[Float[Tensor, "L n E"], Float[Tensor, "n n"]]:
    """Steps 2 to 4 of one view: unit patch embeddings a layer, and Ā."""
    if x.attention is None:
        raise ShapeError("Got a view without attention. Accepted is what look() yields. Pass it unchanged.")
    L = len(x.inputs)
    A = x.attention.clone()
    M = torch.empty_like(A)
    # What mixes values is rounded to their dtype as it is divided, but for the last, of which Ā is made.
    rounded = M if x.inputs[0].dtype == M.dtype else torch.empty_like(M, dtype=x.inputs[0].dtype)
    mixing = M
    for _ in range(1 if options.faithful else L):
        mixing = _regularise(A, M)
    rows: list[Tensor] = []
    for some in _together(L, A.device):
        v = clip.values(torch.stack([_entering(x, k, clip, options) for k in range(some.start, some.stop)]))
        mixed = torch.empty(v.shape, device=v.device, dtype=v.dtype)
        for k in range(some.start, some.stop):
            if k and options.faithful:
                mixing = _regularise(A, M, rounded if k < L - 1 else None)
            torch.bmm(mixing.to(v.dtype), v[k - some.start], out=mixed[k - some.start])
        rows.append(base.unit(clip.project(clip.merge_heads(mixed)))[:, 1:])
    return torch.cat(rows), M.mean(0)[1:, 1:].contiguous()


def _together(layers: int, device: torch.device) -> list[slice]:
    """Which layers go together: one by one on a CPU, where fresh memory costs more than what is computed in it, all of them elsewhere."""
    return [slice(k, k + 1) for k in range(layers)] if device.type == "cpu" else [slice(0, layers)]


def _entering(x: ClipActivations, k: int, clip: Clip, options: Options) -> Float[Tensor, "m D"]:
    # The last block normalises what enters it, so CLIPer's early tokens, normalised by their own block, are normalised twice.
    if k == len(x.inputs) - 1 or not options.faithful:
        return x.inputs[k]
    return clip.model.vision_model.encoder.layers[k].layer_norm1(x.inputs[k])


def _windows(views: Iterable[base.View], clip: Clip, options: Options, grid: tuple[int, int]) -> Float[Tensor, "L n E"]:
    """Embeddings of windows, averaged on the grid and mixed by their pasted attention: out_j = Σ_i Ā_ij E_i, as scores would be."""
    h, w = grid
    ids = torch.arange(h * w, device=clip.device).view(h, w)
    pasted = torch.zeros(h * w, h * w, device=clip.device)
    pairs = torch.zeros_like(pasted)

    def embed(view: base.View) -> Tensor:
        embeddings, attention = _layers(view.activations, clip, options)
        rows, columns = view.activations.grid
        cells = ids[view.top : view.top + rows, view.left : view.left + columns].flatten()
        pasted[cells[:, None], cells] += attention
        pairs[cells[:, None], cells] += 1
        return embeddings

    embeddings, _ = base.average(views, embed)
    return _mixed(embeddings, pasted / (pairs + _PAIR))


def _mixed(embeddings: Float[Tensor, "L n E"], attention: Float[Tensor, "n n"]) -> Float[Tensor, "L n E"]:
    return (attention / attention.sum(1, keepdim=True).clamp_min(_TINY)).T @ embeddings


def _select(options: Options, layers: int) -> int:
    if -options.select_layer > layers:
        raise OptionError(f"Got select_layer = {options.select_layer}. Accepted is -{layers} to -1 for this CLIP. Choose a layer it has.")
    return layers + options.select_layer
