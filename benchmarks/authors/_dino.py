"""DINO and DINOv2 with random weights of the real sizes (ViT-B), for the comparisons with programs that look into them."""

from __future__ import annotations

import functools
import importlib
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from _shared import Numbers, stand_in, theirs
from torch import Tensor

from nerveseg.backbones.dino import Dino

WIDTH, DEPTH = 768, 12
_PLACES = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "register_tokens": "embeddings.register_tokens",
    "mask_token": "embeddings.mask_token",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
_DINO = {"norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.o_proj"}
_DINOV2 = {"attn.proj": "attention.o_proj", "ls1.gamma": "layer_scale1.lambda1", "ls2.gamma": "layer_scale2.lambda1"}


def dino_state(patch: int = 8, seed: int = 0, *, side: int = 224, registers: int = 0, scaled: bool = False) -> dict[str, Tensor]:
    """Tensors in the layout that DINO published; with ``scaled`` (a factor a channel after each branch) that of DINOv2."""
    draw = Numbers(seed)
    state = {
        "cls_token": draw.normal(1, 1, WIDTH, std=0.5),
        "pos_embed": draw.normal(1, (side // patch) ** 2 + 1, WIDTH, std=0.5),
        "patch_embed.proj.weight": draw.linear(WIDTH, 3 * patch * patch).reshape(WIDTH, 3, patch, patch),
        "patch_embed.proj.bias": draw.normal(WIDTH, std=0.1),
        "norm.weight": draw.scale(WIDTH),
        "norm.bias": draw.normal(WIDTH, std=0.1),
    }
    if registers:
        state["register_tokens"] = draw.normal(1, registers, WIDTH, std=0.5)
    if scaled:
        state["mask_token"] = draw.normal(1, WIDTH)
    for i in range(DEPTH):
        state |= _block(draw, f"blocks.{i}", scaled=scaled)
    return state


def _block(draw: Numbers, name: str, *, scaled: bool) -> dict[str, Tensor]:
    inner = torch.cat([draw.linear(WIDTH, WIDTH, 1.3), draw.linear(WIDTH, WIDTH, 1.3), draw.linear(WIDTH, WIDTH)])
    state = {f"{name}.attn.qkv.weight": inner, f"{name}.attn.qkv.bias": draw.normal(3 * WIDTH, std=0.1)}
    for part, out, into, gain in (
        ("attn.proj", WIDTH, WIDTH, 0.7),
        ("mlp.fc1", 4 * WIDTH, WIDTH, 1.0),
        ("mlp.fc2", WIDTH, 4 * WIDTH, 0.7),
    ):
        state |= {f"{name}.{part}.weight": draw.linear(out, into, gain), f"{name}.{part}.bias": draw.normal(out, std=0.1)}
    for part in ("norm1", "norm2"):
        state |= {f"{name}.{part}.weight": draw.scale(WIDTH), f"{name}.{part}.bias": draw.normal(WIDTH, std=0.1)}
    return state | ({f"{name}.{part}.gamma": draw.scale(WIDTH) for part in ("ls1", "ls2")} if scaled else {})


def our_dino(state: Mapping[str, Tensor]) -> Dino:
    """The same tensors in our backbone, in the class, with the settings, that the published checkpoint has in transformers."""
    from transformers.models.dinov2.configuration_dinov2 import Dinov2Config
    from transformers.models.dinov2.modeling_dinov2 import Dinov2Model
    from transformers.models.dinov2_with_registers.configuration_dinov2_with_registers import Dinov2WithRegistersConfig
    from transformers.models.dinov2_with_registers.modeling_dinov2_with_registers import Dinov2WithRegistersModel
    from transformers.models.vit.configuration_vit import ViTConfig
    from transformers.models.vit.modeling_vit import ViTModel

    patch = state["patch_embed.proj.weight"].shape[-1]
    sizes: dict[str, Any] = {"patch_size": patch, "image_size": patch * math.isqrt(state["pos_embed"].shape[1] - 1)}
    with torch.device("meta"):
        if "register_tokens" in state:
            registers = state["register_tokens"].shape[1]
            model: Any = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(num_register_tokens=registers, **sizes))
        elif "mask_token" in state:
            model = Dinov2Model(Dinov2Config(**sizes))
        else:
            model = ViTModel(ViTConfig(layer_norm_eps=1e-12, **sizes), add_pooling_layer=False)  # as facebook/dino-vitb8 says
    model.load_state_dict(renamed(state, model.state_dict()), assign=True)
    return Dino(model.eval().requires_grad_(requires_grad=False))


def with_their_norms(dino: Dino) -> None:
    """Let the norms add 1e-6 to the variance, as the program's do; those of its checkpoint in transformers add 1e-12, and so do ours."""
    for module in dino.model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6


def renamed(state: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    """The authors' layout → that of transformers, whose names are ``wanted``."""
    blocks = "encoder.layer" if any(name.startswith("encoder.") for name in wanted) else "layers"
    within = _DINOV2 if "mask_token" in state else _DINO
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        found = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        if found is None:
            out[_PLACES[name]] = value
            continue
        block, part = f"{blocks}.{found[1]}", found[2]
        if part.startswith("attn.qkv."):
            kind = part.removeprefix("attn.qkv.")
            out |= {f"{block}.attention.{letter}_proj.{kind}": piece for letter, piece in zip("qkv", value.chunk(3), strict=True)}
            continue
        for theirs_, ours in within.items():
            part = part.replace(theirs_, ours)
        out[f"{block}.{part}"] = value
    return out


def their_dino(clone: Path, state: Mapping[str, Tensor]) -> Any:
    """DINO's own network from a clone of facebookresearch/dino, with these tensors."""
    start = torch.nn.init.trunc_normal_
    for name in ("utils", "vit_utils"):  # where the program keeps its start values, which are overwritten here
        stand_in(name, trunc_normal_=start)
    with theirs(clone):
        module = importlib.import_module("vision_transformer")
    for name in ("utils", "vit_utils"):
        sys.modules.pop(name)
    model = module.vit_base(patch_size=state["patch_embed.proj.weight"].shape[-1], num_classes=0)
    model.load_state_dict(state)
    return model.eval().requires_grad_(requires_grad=False)


def hub(load: Any) -> Any:
    """A stand-in of ``torch.hub.load`` that gives what ``load(name)`` makes and asks no network."""
    return functools.partial(lambda _repository, name, **_: load(name))
