"""What to watch while the diffusion half trains: how well its attention tells labels apart, and how flat its rows are."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nerveseg.synthetic import scenes
from nerveseg.synthetic.names import THINGS

__all__ = ["attention", "auc"]


@torch.no_grad()
def attention(
    unet: nn.Module, encode: Callable[[Tensor], Tensor], prompt: Tensor, signal: Tensor, t: int = 60, count: int = 16
) -> dict[str, float]:
    """Same-label AUC of q·k and k·k cosines over pairs of tokens, and softmax entropy as a share of its maximum, on validation scenes.

    Args:
        unet: a `UNet2DConditionModel`.
        encode: pixels (1, 3, H, W) in [0, 1] → latents.
        prompt: embedding of the empty prompt, (1, 77, D).
        signal: the schedule's cumulative product of alphas, by time step.
        t: the noise's time step.
        count: how many validation scenes of 128 × 128 pixels.
    """
    names = [name for name, _ in unet.named_modules() if name.startswith("up_blocks") and name.endswith("attn1")][-2:]
    kept: dict[str, Tensor] = {}
    hooks = [
        unet.get_submodule(f"{name}.{side}").register_forward_hook(lambda _m, _i, out, key=f"{place}{side}": kept.update({key: out}))
        for place, name in enumerate(names)
        for side in ("to_q", "to_k")
    ]
    sums: dict[str, list[float]] = {}
    try:
        for index in range(count):
            scene = scenes.render("val", index, (128, 128))
            pixels = torch.from_numpy(scene.image.copy()).permute(2, 0, 1)[None].float() / 255
            latents = encode(pixels)
            epsilon = torch.randn(latents.shape, generator=torch.Generator().manual_seed(index))
            unet(signal[t].sqrt() * latents + (1 - signal[t]).sqrt() * epsilon, t, prompt)
            truth = torch.from_numpy(scene.mask[2::4, 2::4].astype(int)).flatten()
            for key, value in _numbers(kept, truth).items():
                sums.setdefault(key, []).append(value)
    finally:
        for hook in hooks:
            hook.remove()
    return {key: sum(values) / len(values) for key, values in sums.items()}


def _numbers(kept: dict[str, Tensor], truth: Tensor) -> dict[str, float]:
    out: dict[str, float] = {}
    for place in (0, 1):
        q, k = (kept[f"{place}{side}"][0].float().unflatten(-1, (5, -1)).transpose(0, 1) for side in ("to_q", "to_k"))
        rows = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        out[f"entropy{place}"] = float(-(rows * rows.clamp_min(1e-12).log()).sum(-1).mean() / math.log(rows.shape[-1]))
        q, k = nn.functional.normalize(q, dim=-1), nn.functional.normalize(k, dim=-1)
        out[f"auc_qk{place}"], out[f"auc_qk_things{place}"] = auc((q @ k.mT).mean(0), truth)
        out[f"auc_kk{place}"], out[f"auc_kk_things{place}"] = auc((k @ k.mT).mean(0), truth)
    return out


def auc(affinity: Tensor, truth: Tensor) -> tuple[float, float]:
    """How often a same-label pair beats a pair of two labels: over all pairs, and over pairs that start on a thing."""
    starts = torch.arange(0, len(truth), 4)
    same = truth[starts][:, None] == truth[None, :]
    things = truth[starts] < len(THINGS)
    every = _area(affinity[starts], same)
    return every, _area(affinity[starts][things], same[things]) if bool(things.any()) else every


def _area(values: Tensor, positive: Tensor) -> float:
    order = values.flatten().argsort()
    hits = positive.flatten()[order].double()
    ranks = torch.arange(1, len(hits) + 1, dtype=torch.float64)
    n, m = float(hits.sum()), float((1 - hits).sum())
    return float(((ranks * hits).sum() - n * (n + 1) / 2) / max(n * m, 1.0))
