"""DINO and DINOv2 by transformers, as we read them, against the authors' own vision transformers.

    python benchmarks/authors/dino.py --clone DINO
    python benchmarks/authors/dino.py --clone DINOV2 --second

DINO is a clone of github.com/facebookresearch/dino at 7c446df5b9f45747937fb0d72314eb9f7b66930a, DINOV2 one of
github.com/facebookresearch/dinov2 at b8931f7bf91576930313be2c6d6af376033b35f0. Nothing else is to be installed.

ViT-B/8 and B/16, or B/14 without and with registers; squares, other sides, and the trained grid; tokens after the norm, queries, keys
and values of the last block. DINO's norms add 1e-6 to the variance, those of its checkpoint in transformers 1e-12.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import torch
from _dino import dino_state, our_dino, their_dino
from _shared import Numbers, Rows, arguments, theirs
from torch import Tensor

from nerveseg.backbones.dino import Dino


def main() -> None:
    """Compare, print rows."""
    argv = sys.argv[1:]
    second = "--second" in argv
    given = arguments(__doc__, [entry for entry in argv if entry != "--second"])
    if second:
        dinov2(given.clone, given.seed)
    else:
        dino(given.clone, given.seed)


def dino(clone: Path, seed: int) -> None:
    rows = Rows("facebookresearch/dino 7c446df")
    for patch, sizes in ((8, ((224, 224), (336, 336), (224, 296))), (16, ((224, 224), (336, 448), (224, 240)))):
        state = dino_state(patch, seed)
        own, other = our_dino(state), their_dino(clone, state)
        for height, width in sizes:
            pixels = Numbers(seed + 1).normal(1, 3, height, width)
            output, qkv = read(other, pixels)
            compare(rows, own, f"ViT-B/{patch}, {height} × {width}", pixels, output[0, 1:], qkv, "bicubic-offset")
    rows.finish()


def dinov2(clone: Path, seed: int) -> None:
    rows = Rows("facebookresearch/dinov2 b8931f7")
    os.environ["XFORMERS_DISABLED"] = "1"
    with theirs(clone):
        module = importlib.import_module("dinov2.models.vision_transformer")
    for registers in (0, 4):
        state = dino_state(14, seed, side=518, registers=registers, scaled=True)
        # The published models with registers interpolate with smoothing and without the offset of 0.1 (its hub file).
        how = {"interpolate_antialias": True, "interpolate_offset": 0.0} if registers else {}
        other = module.vit_base(patch_size=14, img_size=518, init_values=1.0, block_chunks=0, num_register_tokens=registers, **how)
        other.load_state_dict(state)
        other.eval().requires_grad_(requires_grad=False)
        own = our_dino(state)
        for height, width in ((518, 518), (336, 448)):
            pixels = Numbers(seed + 1).normal(1, 3, height, width)
            output, qkv = read(other, pixels)
            positions = "bicubic-antialias" if registers else "bicubic-offset"
            size = f"ViT-B/14, {registers} registers, {height} × {width}"
            compare(rows, own, size, pixels, output[0], qkv[1 + registers :], positions)
    rows.finish()


def read(network: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Their normed tokens, and queries, keys and values of the last block side by side."""
    seen: list[Tensor] = []
    handle = network.blocks[-1].attn.qkv.register_forward_hook(lambda _module, _given, output: seen.append(output))
    output = network.get_intermediate_layers(pixels)[0]
    handle.remove()
    return output, seen[0][0]


def compare(rows: Rows, own: Dino, size: str, pixels: Tensor, output: Tensor, qkv: Tensor, positions: str) -> None:
    found = own.parts(pixels, ((-1, "output"), (-1, "q"), (-1, "k"), (-1, "v")), positions=positions)
    rows.add("dino", size, "tokens", found[0], output)
    sides = torch.cat([part.transpose(0, 1).flatten(1) for part in found[1:]], dim=1)
    rows.add("dino", size, "queries, keys, values", sides, qkv[-len(sides) :])


if __name__ == "__main__":
    main()
