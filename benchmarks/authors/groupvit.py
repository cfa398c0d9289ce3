"""GroupViT's segmentation against its authors' evaluation.

    python benchmarks/authors/groupvit.py --clone DIR

DIR is a clone of github.com/NVlabs/GroupViT at 13b786155a1dfffe4703f40d028c92be58e1178d. The network is transformers', with random weights
of the published sizes, and serves both: what is compared is everything after it. OpenMMLab's sliding windows are written out here as the
numbers need them. Rows: scores of classes and background at the image's size, labels.

A pixel belongs to the group with the largest share of it, so that pixels at which two shares are equal up to round-off (1e-5) may go to
another group with another order of summation; they are left out, and the row says how many are left.
"""

from __future__ import annotations

import importlib
import math
import sys
from types import SimpleNamespace
from typing import Any

import _family
import torch
from _shared import Numbers, Rows, arguments, image, stand_in, theirs, unequal
from torch import Tensor, nn
from torch.nn import functional as F

from nerveseg import recipe as recipes
from nerveseg.backbones.groupvit import GroupVit
from nerveseg.labels import _windows
from nerveseg.labels.groupvit import encode, look
from nerveseg.masks.upsample import resample
from nerveseg.segmenter import Segmenter

PROGRAM = "NVlabs/GroupViT 13b7861"
RUNS = (("voc21", (375, 500), 0.95), ("context60", (333, 500), 0.35), ("coco-object", (480, 640), 0.95), ("voc21", (448, 448), 0.5))
CLASSES = 12


class Network(GroupVit):
    """Ours, with vectors for words."""

    vectors: dict[str, Tensor]

    def text(self, strings: Any, templates: Any = ("{}",), *, batch: int = 256) -> Tensor:
        """The vectors of the strings."""
        return torch.stack([self.vectors[string] for string in strings])

    def truncated(self, strings: Any, templates: Any = ("{}",)) -> tuple[str, ...]:
        """None."""
        return ()


class Model:
    """What their evaluation asks a model for, answered by transformers' network."""

    def __init__(self, network: GroupVit) -> None:
        self.tower, self.project = network.model.vision_model, network.model.visual_projection
        self.logit_scale = network.model.logit_scale

    def img_encoder(self, image: Tensor, *, return_attn: bool, as_dict: bool) -> dict[str, Any]:
        """Soft assignments of every stage."""
        found = self._pass(image).attentions
        return {"attn_dicts": [*({"soft": soft[:, None]} for soft in found), None]}

    def encode_image(self, image: Tensor, *, return_feat: bool, as_dict: bool) -> dict[str, Tensor]:
        """Groups, and their mean, projected."""
        tokens = self.tower.layernorm(self._pass(image).last_hidden_state)
        rows = self.project(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        return {"image_feat": rows, "image_x": self.project(tokens.mean(1))}

    def _pass(self, image: Tensor) -> Any:
        x = self.tower.embeddings(image, interpolate_pos_encoding=True)
        return self.tower.encoder(x, output_hidden_states=False, output_attentions=True, return_dict=True)


def main() -> None:
    """Run both, print the rows."""
    given = arguments(__doc__)
    rows = Rows(PROGRAM)
    stand_in("matplotlib.pyplot")
    stand_in("mmcv", Config=SimpleNamespace)
    stand_in("mmseg.models", EncoderDecoder=type("EncoderDecoder", (nn.Module,), {}))
    stand_in("einops", rearrange=rearrange)
    stand_in("utils", get_logger=lambda: SimpleNamespace(info=lambda _: None))
    for package in ("segmentation", "segmentation.evaluation"):
        stand_in(package).__path__ = [str(given.clone / package.replace(".", "/"))]
    sys.modules["mmcv"].Config = dict
    network = ours(given.seed)
    with theirs(given.clone):
        module = importlib.import_module("segmentation.evaluation.group_vit_seg")
        for number, run in enumerate(RUNS):
            compare(rows, module, network, run, number)
    rows.finish()


def ours(seed: int) -> Network:
    """GroupViT-S of the published sizes with random weights; sharp assignments, batch norms that have seen something."""
    from transformers.models.groupvit.configuration_groupvit import GroupViTConfig
    from transformers.models.groupvit.modeling_groupvit import GroupViTModel

    model = GroupViTModel(GroupViTConfig()).eval().requires_grad_(requires_grad=False)
    draw = Numbers(seed)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if "logit_scale" in name:
            value.fill_(math.log(100.0))
            continue
        if not value.is_floating_point():
            continue
        if "running" in name:
            value.copy_(draw.normal(*value.shape, std=0.3) if "mean" in name else draw.normal(*value.shape, std=0.2).abs() + 0.7)
        elif value.ndim == 1:
            value.copy_(draw.scale(len(value)) if name.endswith("weight") else draw.normal(len(value), std=0.1))
        elif "position_embeddings" in name or "group_token" in name:
            value.copy_(draw.normal(*value.shape, std=0.7))
        else:
            gain = 4.0 if ".assign." in name and ("q_proj" in name or "k_proj" in name) else 1.2
            value.copy_(draw.normal(*value.shape, std=gain / value[0].numel() ** 0.5))
    return Network(model, None)


def rearrange(x: Tensor, how: str, **sizes: int) -> Tensor:
    """The five rearrangements that the program asks einops for."""
    if how == "b h g n -> b h n g":
        return x.mT
    if how == "bs nh (h w) c -> (bs nh) c h w":
        return x.flatten(0, 1).mT.unflatten(2, (sizes["h"], sizes["w"]))
    if how == "(bs nh) c h w -> bs nh h w c":
        return x.unflatten(0, (sizes["bs"], sizes["nh"])).permute(0, 1, 3, 4, 2)
    turns = {"b h w g -> b g h w": (0, 3, 1, 2), "b g h w -> b h w g": (0, 2, 3, 1), "h w c -> c h w": (2, 0, 1)}
    return x.permute(*turns[how])


def compare(rows: Rows, module: Any, network: Network, case: tuple[str, tuple[int, int], float], number: int) -> None:
    """One benchmark's settings on one image."""
    name, sides, threshold = case
    recipe = recipes.load("groupvit").for_benchmark(name).changed({"labels.bg_thresh": threshold})
    photo = image(*sides, seed=number)
    networks = {"groupvit": network}
    features = encode(look(photo, networks, recipe.labels.options), networks, recipe.labels.options)
    groups = features.embeddings.flatten(0, 1)
    words = _family.vocabulary(groups[torch.arange(0, len(groups) * 8, 8) % len(groups)].repeat(2, 1), [1] * CLASSES, 0, seed=number)
    object.__setattr__(network, "vectors", {**words.vectors, "nothing": groups.mean(0)})
    program = module.GroupViTSegInference(Model(network), words.theirs[0], with_bg=True, test_cfg={"mode": "slide", "bg_thresh": threshold})
    logits = slide(program, photo, photo.size)
    segmenter = Segmenter(recipe, networks, {}, torch.device("cpu"), torch.float32)
    result = segmenter(photo, [group[0] for group in words.classes], background=["nothing"])
    if result.strings is None:
        sys.exit("Got a recipe without logits. Accepted is masks.upsample = 'logits'. Mend the recipe.")
    maps = resample(result.strings.logits.maps, photo.size).roll(1, 0)
    where = f"ViT-S, {name}, {sides[0]} × {sides[1]}, threshold {threshold}"
    sure = firm(features, photo.size)
    what = f"scores at the image's size, {float(sure.double().mean()):.2%} of its pixels"
    rows.add("groupvit", where, what, maps[:, sure], logits[:, sure])
    labels = logits.argmax(0)
    ids = (result.segmentation + 1) % (CLASSES + 1)
    rows.put("groupvit", where, f"share of pixels with another label, of {len(labels.unique())}", unequal(ids, labels))


def firm(features: Any, size: tuple[int, int]) -> Tensor:
    """The pixels of an image that no pixel of a window with two equal shares has a part in."""
    edge = torch.zeros(features.pixels)
    for shares, box in zip(features.extra["shares"], features.extra["boxes"], strict=True):
        maps = shares.T.unflatten(1, features.extra["window"])[None]
        top = F.interpolate(maps, size=(box.height, box.width), mode="bilinear", align_corners=False)[0].topk(2, dim=0).values
        edge[box.top : box.top + box.height, box.left : box.left + box.width] += (top[0] - top[1] < 1e-5).float()
    return F.interpolate(edge[None, None], size=size, mode="bilinear", align_corners=False)[0, 0] == 0


def slide(program: Any, photo: Any, size: tuple[int, int]) -> Tensor:
    """OpenMMLab's windows of 448 at steps of 224 around their program, and its resizing."""
    sides = _windows.kept_ratio(photo.size, 448)
    image = _windows.bilinear(torch.from_numpy(photo.pixels.copy()).permute(2, 0, 1), sides)[None].float()
    mean, std = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1), torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    image = (image - mean) / std
    total, count = torch.zeros(program.num_classes, *sides), torch.zeros(sides)
    for top in _windows.starts(sides[0], min(448, sides[0]), 224):
        for left in _windows.starts(sides[1], min(448, sides[1]), 224):
            crop = image[..., top : top + 448, left : left + 448]
            area = (slice(top, top + crop.shape[2]), slice(left, left + crop.shape[3]))
            total[:, *area] += program.encode_decode(crop, None)[0]
            count[area] += 1
    return F.interpolate((total / count)[None], size=size, mode="bilinear", align_corners=False)[0]


if __name__ == "__main__":
    main()
