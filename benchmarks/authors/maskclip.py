"""MaskCLIP against its authors' program, with prompt denoising and key smoothing.

    python benchmarks/authors/maskclip.py --clone DIR

DIR is a clone of github.com/chongzhou96/MaskCLIP at 245d31f809be9c1938f8f30561b6bf9ed033d746. Nothing else is to be installed: of
OpenMMLab's libraries the numbers need a few lines, which stand here. Both have one set of weights as OpenAI trained them; theirs is built
with the settings of its own configuration files (GELU, norms that add 1e-6), and runs on images in the colours of these (ImageNet's).
Ours is the recipe ``maskclip`` as it ships, on a CLIP as it is loaded. Rows: unit tokens, logits at the image's size (one class a
string), labels.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import _family
import torch
from _shared import Numbers, Rows, arguments, clip_state, image, our_clip, stand_in, theirs, unequal
from torch import Tensor, nn
from torch.nn import functional as F

from nerveseg import recipe as recipes
from nerveseg.image import LoadedImage
from nerveseg.labels import _windows, maskclip

PROGRAM = "chongzhou96/MaskCLIP 245d31f"
MODEL = "configs/_base_/models/maskclip_vit16.py"
FILES = {  # benchmark → the file with its images' sizes and colours
    "voc20": "configs/_base_/datasets/pascal_voc12_aug_20.py",
    "context59": "configs/_base_/datasets/pascal_context_59.py",
    "coco-stuff": "configs/_base_/datasets/coco-stuff164k.py",
    "ade20k": "configs/_base_/datasets/ade20k.py",
    "cityscapes": "configs/maskclip/maskclip_vit16_1024x512_cityscapes.py",
}
RUNS = (
    ("voc20", (375, 500), 0.0, 0.0),
    ("context59", (333, 500), 0.0, 0.0),
    ("cityscapes", (256, 512), 0.0, 0.0),
    ("coco-stuff", (480, 640), 0.5, 0.0),
    ("ade20k", (375, 500), 0.0, 1.0),
    ("voc20", (512, 512), 0.5, 0.5),
)


class Base(nn.Module):
    """OpenMMLab's base of modules and of heads, as far as it is read."""

    def __init__(self, init_cfg: Any = None, in_channels: int = 0, **_: Any) -> None:
        super().__init__()
        self.in_channels = in_channels

    def _transform_inputs(self, inputs: Any) -> Any:
        return inputs[-1]


class Attention(nn.Module):
    """OpenMMLab's attention: its result beside what it is added to."""

    def __init__(self, embed_dims: int, num_heads: int, **_: Any) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(embed_dims, num_heads, batch_first=True)

    def forward(self, x: Tensor, identity: Tensor) -> Tensor:
        """Attend."""
        return identity + self.attn(x, x, x, need_weights=False)[0]


class Feed(nn.Module):
    """OpenMMLab's feed-forward part."""

    def __init__(self, embed_dims: int, feedforward_channels: int, **_: Any) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(embed_dims, feedforward_channels), nn.GELU())
        self.layers = nn.Sequential(first, nn.Linear(feedforward_channels, embed_dims))

    def forward(self, x: Tensor, identity: Tensor) -> Tensor:
        """Feed."""
        return identity + self.layers(x)


class Patches(nn.Module):
    """OpenMMLab's patches: zeros at the bottom and the right fill the last ones."""

    def __init__(self, embed_dims: int, kernel_size: int, *, bias: bool, **_: Any) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, embed_dims, kernel_size, kernel_size, bias=bias)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens and their grid."""
        patch = self.projection.kernel_size[0]
        x = self.projection(F.pad(x, (0, -x.shape[-1] % patch, 0, -x.shape[-2] % patch)))
        return x.flatten(2).transpose(1, 2), (x.shape[-2], x.shape[-1])


def main() -> None:
    """Run both, print the rows."""
    given = arguments(__doc__)
    rows = Rows(PROGRAM)
    stand_ins(given.clone)
    state = clip_state("B/16", given.seed)
    clip = our_clip(state)
    with theirs(given.clone):
        network = their_network(given.clone, state)
        for number, run in enumerate(RUNS):
            compare(given.clone, rows, run, number, network, clip, state)
    rows.finish()


def stand_ins(clone: Path) -> None:
    """OpenMMLab's libraries; the clone's own package is opened at two files."""
    plain = SimpleNamespace(register_module=lambda: lambda found: found)
    stand_in("mmcv.cnn", build_norm_layer=lambda cfg, width, postfix: (f"ln{postfix}", nn.LayerNorm(width, eps=cfg.get("eps", 1e-5))))
    stand_in("mmcv.cnn.bricks.transformer", FFN=Feed, MultiheadAttention=Attention)
    stand_in("mmcv.cnn.utils.weight_init", constant_init=None, kaiming_init=None, trunc_normal_=None)
    stand_in("mmcv.runner", BaseModule=Base, ModuleList=nn.ModuleList, _load_checkpoint=None)
    stand_in("mmcv.utils", print_log=lambda *_, **__: None)
    for package in ("mmseg", "mmseg.models", "mmseg.models.backbones", "mmseg.models.decode_heads"):
        stand_in(package).__path__ = [str(clone / package.replace(".", "/"))]
    stand_in("mmseg.ops", resize=lambda x, size, mode, align_corners: F.interpolate(x, size=size, mode=mode, align_corners=align_corners))
    stand_in("mmseg.utils", get_root_logger=lambda: None)
    stand_in("mmseg.models.builder", BACKBONES=plain, HEADS=plain)
    stand_in("mmseg.models.utils", PatchEmbed=Patches)
    stand_in("mmseg.models.decode_heads.decode_head", BaseDecodeHead=Base)


def settings(path: Path) -> dict[str, Any]:
    """An author's configuration file, which is Python."""
    found: dict[str, Any] = {}
    exec(compile(path.read_text("utf-8"), str(path), "exec"), found)
    return found


def their_network(clone: Path, state: dict[str, Tensor]) -> Any:
    """Their vision transformer, with the published settings, and these tensors."""
    module = importlib.import_module("mmseg.models.backbones.vit")
    network = module.VisionTransformer(**{k: v for k, v in settings(clone / MODEL)["model"]["backbone"].items() if k != "type"})
    names = {"class_embedding": "cls_token", "positional_embedding": "pos_embed", "conv1.weight": "patch_embed.projection.weight"}
    names |= {f"ln_{a}.{kind}": f"ln{b}.{kind}" for a, b in (("pre", 0), ("post", 1)) for kind in ("weight", "bias")}
    within = {"attn.": "attn.attn.", "ln_1.": "ln1.", "ln_2.": "ln2.", "mlp.c_fc.": "ffn.layers.0.0.", "mlp.c_proj.": "ffn.layers.1."}
    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        part = name.removeprefix("visual.")
        if not name.startswith("visual.") or part == "proj":
            continue
        if part.startswith("transformer.resblocks."):
            number, _, rest = part.removeprefix("transformer.resblocks.").partition(".")
            start = next(start for start in within if rest.startswith(start))
            tensors[f"layers.{number}.{within[start]}{rest.removeprefix(start)}"] = value
        else:
            tensors[names[part]] = value
    tensors["cls_token"], tensors["pos_embed"] = tensors["cls_token"].view(1, 1, -1), tensors["pos_embed"][None]
    network.load_state_dict(tensors)
    network.eval()  # theirs gives nothing back
    return network.requires_grad_(requires_grad=False)


def their_head(vectors: Tensor, projection: Tensor, pd: float, ks: float) -> Any:
    """Their head with these words."""
    module = importlib.import_module("mmseg.models.decode_heads.maskclip_head")
    module.MaskClipHead.load_visual_projs = lambda _: None
    head = module.MaskClipHead(len(vectors), vectors.shape[1], None, None, vit=True, in_channels=768, ks_thresh=ks, pd_thresh=pd)
    head.text_embeddings.data, head.proj.weight.data = vectors, projection.T[:, :, None, None].contiguous()
    return head.eval()


def network_image(photo: LoadedImage, file: Path) -> Tensor:
    """MMSegmentation's image: neither side past what it may be, colours as that file has them."""
    found = settings(file)
    pipeline = next(step for step in found["test_pipeline"] if step["type"] == "MultiScaleFlipAug")
    scale, colours = pipeline["img_scale"], found["img_norm_cfg"]
    pixels = _windows.bilinear(torch.tensor(photo.pixels).permute(2, 0, 1), _windows.kept_ratio(photo.size, min(scale), max(scale)))
    mean, std = (torch.tensor(colours[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return (pixels[None].float() - mean) / std


def compare(
    clone: Path, rows: Rows, case: tuple[str, tuple[int, int], float, float], number: int, network: Any, clip: Any, state: Any
) -> None:
    """One benchmark's settings on one image."""
    name, sides, pd, ks = case
    recipe = recipes.load("maskclip").for_benchmark(name).changed({"labels.pd_thresh": pd, "labels.ks_thresh": ks})
    photo = image(*sides, seed=number)
    networks, options = {"clip": clip}, recipe.labels.options
    (part,) = maskclip.encode(maskclip.look(photo, networks, options), networks, options).parts
    words = _family.vocabulary(part.embeddings, [1] * 12, 0, seed=number)
    if pd:  # words that are nowhere, for prompt denoising to drop
        strange = Numbers(number).normal(5, part.embeddings.shape[1])
        words.vectors.update({f"word {i}": F.normalize(row, dim=0) for i, row in enumerate(strange)})
    given = network_image(photo, clone / FILES[name])
    out = network(given)
    head = their_head(words.theirs[0], state["visual.proj"], pd, ks)
    tokens = F.normalize(head.proj(out[0][3])[0].flatten(1).T, dim=1)
    logits = F.interpolate(head([out[0]]), size=given.shape[2:], mode="bilinear", align_corners=False)
    logits = F.interpolate(logits, size=photo.size, mode="bilinear", align_corners=False)[0]
    where = f"B/16, {name}, {sides[0]} × {sides[1]}, pd {pd}, ks {ks}"
    rows.add("maskclip", where, "tokens", part.embeddings, tokens)
    ours, ids = _family.run_ours(clip, recipe, photo, words)
    rows.add("maskclip", where, "logits at the image's size", ours, logits)
    labels = logits.argmax(0)
    rows.put("maskclip", where, f"share of pixels with another label, of {len(labels.unique())}", unequal(ids, labels))


if __name__ == "__main__":
    main()
