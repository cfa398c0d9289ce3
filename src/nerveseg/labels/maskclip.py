"""MaskCLIP (ECCV 2022): the last block's attention replaced by its value path, so that a patch speaks for itself.

    a = O·V(LN1 x),  y = x + a,  y ← y + FFN(LN2 y);   without residual and feed-forward part, y = a, as later comparisons have it

Two refinements, off by default, of the cosines c_is of patch i and string s, with p = softmax_s(100·c):

    prompt denoising   strings with max_i p_is < pd_thresh are dropped
    key smoothing      rows become p;  rows with max_s p_is < ks_thresh then K̂ K̂ᵀ p,  K̂ the unit keys of the last block
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nerveseg.backbones.clip import ACTIVATIONS, Clip
from nerveseg.errors import ShapeError
from nerveseg.labels import base
from nerveseg.labels.base import look_clip as look
from nerveseg.registry import knob

__all__ = ["Options", "decode_options", "embeds", "encode", "look", "needs", "score", "text_conditioned"]

text_conditioned = False
needs = ("clip",)
embeds = "clip"
decode_options = ("scale", "join", "pd_thresh")
_GAIN = 100.0  # both refinements take the softmax with the scale that CLIP learnt
_DROPPED = -100.0  # a cosine that no softmax sees


@dataclass(frozen=True)
class Options:
    """Knobs of MaskCLIP."""

    short_side: int = base.short_side_knob()
    longest: int = knob(
        2048,
        "with join_windows = pixels: most pixels along the longer side. Smaller: long images are coarser.",
        low=1,
        high=4096,
        source="MaskCLIP: 2048; 520 on Pascal Context, 1024 on Cityscapes",
    )
    positions: str = base.positions_knob("bicubic")
    window: int = base.window_knob()
    stride: int = base.stride_knob()
    join_windows: str = base.join_windows_knob()
    pad_to: int = base.pad_to_knob()
    pad_at: str = knob(
        "middle",
        "where those zeros lie: all around, or at the bottom and the right, where the cosines of all patches are laid over the window.",
        choices=("middle", "corner"),
        source="MaskCLIP: corner",
    )
    activation: str = knob(
        "own",
        "between the layers of a feed-forward part: the checkpoint's own, or another.",
        choices=ACTIVATIONS,
        source="MaskCLIP runs OpenAI's weights, trained with quick_gelu, with gelu",
    )
    norm_eps: float = knob(
        0.0,
        "what layer norms add to the variance; 0: the checkpoint's own. Larger: flat tokens are shrunk.",
        low=0,
        high=1,
        source="MaskCLIP: 1e-6, where the weights were trained with 1e-5",
    )
    colours: str = knob(
        "clip",
        "whose mean and deviation the image is normalised by: those that CLIP was trained with, or those of ImageNet.",
        choices=("clip", "imagenet"),
        source="MaskCLIP: imagenet",
    )
    scale: float = base.scale_knob()
    join: str = base.join_knob()
    residual: bool = knob(
        default=True,
        doc="add the block's input. On: the original; off: suits large models, whose residual drowns the values.",
        source="MaskCLIP",
    )
    ffn: bool = knob(default=True, doc="run the block's feed-forward part. On: the original.", source="MaskCLIP; ClearCLIP drops both")
    pd_thresh: float = knob(
        0.0,
        "prompt denoising: share that a string must have somewhere. Larger: fewer strings.",
        low=0,
        high=1,
        source="MaskCLIP: 0, or 0.5",
    )
    ks_thresh: float = knob(
        0.0, "key smoothing: share below which a patch asks those like it. Larger: smoother.", low=0, high=1, source="MaskCLIP: 0"
    )
    faithful: bool = knob(
        default=True,
        doc="key smoothing takes O·K and brings each channel to unit length over the patches. Off: each patch's K, as the paper says.",
        source="MaskCLIP's published behaviour",
    )


@torch.no_grad()
def encode(views: Iterable[base.View], networks: base.Networks, options: Options) -> base.Features:
    """Keep the unit patch embeddings of the value path O·v(LN1 x), n·E floats; with ``ks_thresh`` the keys, too (in ``extra``)."""
    clip: Clip = networks["clip"].run_as(base.blocks_of(options))

    def embed(view: base.View) -> Tensor:
        return clip.project(clip.last_block(view.activations.inputs[-1], None, residual=options.residual, ffn=options.ffn))

    if not options.ks_thresh:
        return base.dense(views, embed)

    def key(view: base.View) -> Tensor:
        K = clip.qkv(view.activations.inputs[-1])[1].transpose(0, 1).flatten(1)[1:]
        out = clip.model.vision_model.encoder.layers[-1].self_attn.out_proj
        return (out(K.to(out.weight.dtype)).float() if options.faithful else K)[None]

    seen = list(views)
    features = base.dense(seen, embed)
    keys = torch.cat([key(view) for view in seen]) if features.parts else base.average(seen, key)[0]
    return dataclasses.replace(features, extra={"keys": keys})


@torch.no_grad()
def score(features: base.Features, words: base.Words, networks: base.Networks, options: Options) -> base.Scores:
    """Softmax of scaled cosines over all strings, both refinements before it; background strings are in the denominator only.

    Where windows are joined pixel by pixel, each is refined by itself. Cost O(n·s·E), with ``ks_thresh`` O(n·s·D) more.

    Args:
        features: from `encode`.
        words: with their vectors.
        networks: not read.
        options: ``scale``, ``join``, ``pd_thresh``, ``ks_thresh`` and ``faithful`` act here.

    Raises:
        ShapeError: ``ks_thresh`` and features without keys.
    """
    keys = None if features.extra is None else features.extra["keys"]
    if options.ks_thresh and keys is None:
        raise ShapeError("Got features without keys and a ks_thresh. Accepted are this source's own. Encode the image with that ks_thresh.")

    def refine(cosines: Tensor, number: int) -> Tensor:
        if options.pd_thresh:
            cosines = _denoised(cosines, options.pd_thresh)
        return _smoothed(cosines, keys[number], options) if options.ks_thresh and keys is not None else cosines

    return base.score_refined(features, words, options, refine)


def _denoised(cosines: Float[Tensor, "m s"], threshold: float) -> Float[Tensor, "m s"]:
    weak = (_GAIN * cosines).softmax(1).amax(0) < threshold
    return cosines.masked_fill(weak, _DROPPED)


def _smoothed(cosines: Float[Tensor, "m s"], keys: Float[Tensor, "m D"], options: Options) -> Float[Tensor, "m s"]:
    p = (_GAIN * cosines).softmax(1)
    K = F.normalize(keys, dim=0 if options.faithful else 1)
    return torch.where(p.amax(1, keepdim=True) < options.ks_thresh, K @ (K.T @ p), p)
