"""CLIPer beside its authors' program, on the same random weights.

    python benchmarks/authors/cliper.py --clone DIR [--sizes B/16,L/14] [--sets voc21,voc20] [--parts clip,windows,diffusion,settings]

DIR is a clone of github.com/linsun449/cliper.code at c05fa41a4966d0a43af513546b17c346ccd42559. Nothing else is to be installed.

clip: embeddings and scores of CLIP alone for every data set's settings; windows: the same with sliding windows; diffusion: the whole
pipeline with Stable Diffusion 2.1's sizes and its decision; settings: the knobs of our recipes against the authors' files.

The method has an edge: a class's values below a share of its maximum are set to 0, and spread where they are not. Where one lies within
round-off of that share the whole class differs; such classes are left out of the scores, and the row says how many are judged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import tempfile
import types
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import yaml
from _diffusion import note, schedule, stable_diffusion
from _shared import Numbers, Rows, arguments, clip_state, difference, image, our_clip, stand_in, theirs, unequal, words
from torch import Tensor, nn

from nerveseg import recipe as recipes
from nerveseg.image import LoadedImage
from nerveseg.image.geometry import CLIP_MEAN, CLIP_STD
from nerveseg.labels import cliper
from nerveseg.segmenter import Segmenter

PROGRAM = "linsun449/cliper.code c05fa41"
SETS = {  # our benchmark → the authors' file
    "voc21": "voc21",
    "voc20": "voc20",
    "context60": "context",
    "context59": "context59",
    "coco-object": "coco5k",
    "coco-stuff": "stuff164",
    "ade20k": "ade150",
    "cityscapes": "city",
}
WALKED = ("voc21", "context59", "coco-object")  # the settings that go through Stable Diffusion: a minute each
CLASSES, OTHERS = 21, 25
EDGE = 1e-5  # of the threshold
IMAGES = ((375, 500), (333, 500), (480, 360), (400, 400))


class Block(nn.Module):
    """One block in the layout of the published CLIP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // 64)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        parts = [("c_fc", nn.Linear(width, 4 * width)), ("gelu", QuickGelu()), ("c_proj", nn.Linear(4 * width, width))]
        self.mlp = nn.Sequential(OrderedDict(parts))


class QuickGelu(nn.Module):
    """x·σ(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        """As it says."""
        return x * torch.sigmoid(1.702 * x)


def clip_model(state: dict[str, Tensor]) -> nn.Module:
    """The vision half of a CLIP in the published layout; its two forward functions are the authors'."""
    width, patch = state["visual.conv1.weight"].shape[0], state["visual.conv1.weight"].shape[-1]
    layers = len({name.split(".")[3] for name in state if name.startswith("visual.transformer.resblocks.")})
    model = nn.Module()
    visual = model.visual = nn.Module()
    visual.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
    visual.class_embedding = nn.Parameter(torch.empty(width))
    visual.positional_embedding = nn.Parameter(torch.empty_like(state["visual.positional_embedding"]))
    visual.proj = nn.Parameter(torch.empty_like(state["visual.proj"]))
    visual.ln_pre, visual.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
    visual.transformer = nn.Module()
    visual.transformer.layers = layers
    visual.transformer.resblocks = nn.ModuleList(Block(width) for _ in range(layers))
    kept = {name: value for name, value in state.items() if name.startswith("visual.")}
    model.load_state_dict(kept, assign=True)
    model.encode_image = lambda image: visual(image)
    return model.requires_grad_(requires_grad=False)


class Compose:
    """Transforms, one after the other."""

    def __init__(self, transforms: list[Any]) -> None:
        self.transforms = transforms

    def __call__(self, x: Any) -> Any:
        """All of them."""
        for transform in self.transforms:
            x = transform(x)
        return x


def _tensor(image: Any) -> Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


def _normal(x: Tensor) -> Tensor:
    return (x - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_STD).view(3, 1, 1)


def stand_ins() -> None:
    """What the authors import and the numbers do not need."""
    stand_in("torchvision.transforms", Compose=Compose, Normalize=lambda mean, std: _normal)
    stand_in("texttable", Texttable=object)
    stand_in("clip", load=None, tokenize=None)


@contextlib.contextmanager
def in_float32() -> Iterator[None]:
    """Nothing is made half as wide."""
    with mock.patch.object(torch.Tensor, "half", lambda self: self):
        yield


def settings(clone: Path, size: str, name: str, **more: Any) -> types.SimpleNamespace:
    """The authors' file of a data set, with the defaults of their command line."""
    folder = "vit-b-16" if size == "B/16" else "vit-l-14"
    text = (clone / "scripts" / "config" / folder / f"ovs_{SETS[name]}.yaml").read_text("utf-8")
    given = {"attn_type": "fused-attn", "fuse_feature": True, "sd_version": "v2.1", "time_step": 45, "refinement": "None"}
    return types.SimpleNamespace(**{**given, **yaml.safe_load(text), **more})


def our_recipe(size: str, name: str, *, diffusion: bool, window: int | None = None) -> Any:
    """Our recipe for a data set."""
    stem = {("B/16", True): "cliper-b16", ("L/14", True): "cliper", ("L/14", False): "cliper-no-sd"}.get((size, diffusion))
    chosen = recipes.load(stem or "cliper-b16").for_benchmark(name)
    changes: dict[str, Any] = {} if diffusion else {"graph.name": "none", "walk.name": "none"}
    if window is not None:
        changes |= {"labels.window": window, "labels.stride": 112}
    return chosen.changed(changes)


def their_cliper(cfg: Any, state: dict[str, Tensor]) -> Any:
    """The authors' CLIPer on these weights."""
    from modified_clip.model import CLIPer  # pyright: ignore[reportMissingImports]

    preprocess = Compose([None, None, _tensor, _normal])
    sys.modules["clip"].load = lambda path, device: (clip_model(state), preprocess)
    return CLIPer(cfg, "cpu")


def compare_clip(rows: Rows, clone: Path, size: str, state: dict[str, Tensor], sets: list[str], *, windows: bool) -> None:
    """CLIP alone: embeddings of all layers, attention, and scores on the grid for every data set."""
    ours = our_clip(state)
    said = words(ours.width, range(CLASSES), OTHERS)
    worst: dict[str, float] = {}
    least = 1.0
    for at, name in enumerate(SETS):
        if name not in sets:
            continue
        # A window of 336 over all of a square: CLIPer mixes it all the same.
        seen = image(*((400, 400) if windows and name == "voc20" else IMAGES[at % len(IMAGES)]), seed=at)
        crop = (336 if name in ("voc21", "voc20") else 224) if windows else 0
        cfg = settings(clone, size, name, sliding_crop_size=crop)
        options = our_recipe(size, name, diffusion=False, window=crop).labels.options
        program = their_cliper(cfg, state)
        with in_float32():
            expected = program(program.preprocess(seen.to_pil())[None], said.vectors, said.other_vectors)
        networks = {"clip": ours}
        features = cliper.encode(cliper.look(seen, networks, options), networks, options)
        scores = cliper.score(features, said, networks, options)
        sure = firm(features, said, options)
        least = min(least, float(sure.double().mean()))
        found = {
            "embeddings of all layers": difference(features.embeddings, _unit(expected["img_part_features"][:, 1:])),
            "attention": difference(features.attention, expected["attn_map"]),
            "scores on the grid": difference(scores.values.T[sure], expected["seg"].flatten(1)[sure]),
        }
        note(f"{size} {name} window {crop}: {found}, {int((~sure).sum())} of {CLASSES} classes left out")
        worst |= {what: max(value, worst.get(what, 0.0)) for what, value in found.items()}
    sizes = f"CLIP {size}, {len(sets)} settings, images {', '.join(f'{h}×{w}' for h, w in IMAGES)}"
    for what, value in worst.items():
        scores = what.startswith("scores")
        if not windows or scores:
            what += f" of {least:.0%} of the classes or more" if scores else ""
            rows.put("cliper", sizes, f"{what}, windows of 224 and 336" if windows else what, value)


def firm(features: Any, said: Any, options: Any) -> Tensor:
    """The classes none of whose values lies on the threshold: their scores are the same a little below it and a little above."""
    near = (dataclasses.replace(options, attention_thr=options.attention_thr * (1 + step)) for step in (-EDGE, EDGE))
    below, above = (cliper.score(features, said, {}, changed).values for changed in near)
    return (below == above).all(0)


def _unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


def compare_diffusion(rows: Rows, clone: Path, size: str, state: dict[str, Tensor], sets: list[str]) -> None:
    """The whole pipeline: refined maps, class scores and label maps, and what is decided without Stable Diffusion."""
    clip = our_clip(state)
    with tempfile.TemporaryDirectory() as folder:
        # Ten nearly uniform matrices would leave maps that are the same everywhere.
        diffusion = stable_diffusion("2.1-base", ["photo"], Path(folder), sharp=3.0)
    worst: dict[str, float] = {}
    for at, name in enumerate(SETS):
        for refinement in () if name not in sets else ("SFSA", "None") if name in WALKED else ("None",):
            seen = image(*IMAGES[at % len(IMAGES)], seed=at)
            noise = Numbers(100 + at).normal(1, 4, 64, 64)
            cfg = settings(clone, size, name, refinement=refinement, sliding_crop_size=0)
            expected = _their_decision(cfg, state, diffusion, seen, noise)
            found = _our_decision(our_recipe(size, name, diffusion=refinement == "SFSA"), clip, diffusion, seen, noise, cfg)
            label = "with" if refinement == "SFSA" else "without"
            each = {
                f"maps {label} Stable Diffusion": difference(found[0], expected[0]),
                f"class scores {label}": difference(found[1], expected[1]),
                f"pixels decided differently {label}": unequal(found[2], expected[2]),
            }
            note(f"{size} {name}: {each}, {len(expected[2].unique())} labels")
            worst |= {what: max(value, worst.get(what, 0.0)) for what, value in each.items()}
    sizes = f"CLIP {size}, SD 2.1-base, {len(sets)} settings"
    for what, value in worst.items():
        rows.put("cliper", sizes, what, value)


def _their_decision(cfg: Any, state: dict[str, Tensor], diffusion: Any, seen: LoadedImage, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    import diffusion_model.stable_diffusion as half  # pyright: ignore[reportMissingImports]
    from diffusers import StableDiffusionPipeline
    from diffusers.schedulers.scheduling_pndm import PNDMScheduler
    from ovs.pipeline import Pipeline  # pyright: ignore[reportMissingImports]
    from util.miou import cam_to_label  # pyright: ignore[reportMissingImports]

    tower = diffusion.text_tower()
    parts = {"vae": diffusion.vae, "text_encoder": tower.model, "tokenizer": tower.tokenizer, "unet": diffusion.unet}
    parts |= {"scheduler": schedule(PNDMScheduler), "safety_checker": None, "feature_extractor": None}
    sys.modules["clip"].load = lambda path, device: (clip_model(state), Compose([None, None, _tensor, _normal]))
    said = words(state["visual.proj"].shape[1], range(CLASSES), OTHERS)
    plain = {name: module.processor for name, module in diffusion.unet.named_modules() if hasattr(module, "processor")}
    with (
        in_float32(),
        mock.patch.object(
            StableDiffusionPipeline,
            "from_pretrained",
            return_value=StableDiffusionPipeline(**parts, requires_safety_checker=False),
        ),
        mock.patch.object(half, "randn_tensor", return_value=noise),
    ):
        pipe = Pipeline(cfg, "cpu")
        if pipe.attn_refine is not None:
            pipe.attn_refine.dtype = torch.float32
        original = _tensor(seen.to_pil())[None]
        maps, score = pipe(original, pipe.cliper.preprocess(seen.to_pil())[None], said.vectors, said.other_vectors)
        full = torch.nn.functional.interpolate(maps[None], size=seen.size, mode="bilinear")[0]
        full = full / (full.amax((-1, -2), keepdim=True) + 1e-5) * score[..., None, None]
        if float(score.max()) <= cfg.score_threshold:
            # Scores of random weights are lower than trained ones': where no class is let in there is nothing to compare.
            cfg.score_threshold = float(score.double().quantile(0.4))
            cfg.bkg_thre = 0.9 * cfg.score_threshold
        _, ids = cam_to_label(
            full[None].clone(), cls_label=score[None], bkg_thre=cfg.bkg_thre, cls_thre=cfg.score_threshold, is_normalize=cfg.is_normalize
        )
    for name, processor in plain.items():
        diffusion.unet.get_submodule(name).processor = processor
    return maps, score, ids[0]


def _our_decision(recipe: Any, clip: Any, diffusion: Any, seen: LoadedImage, noise: Tensor, cfg: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Maps and class scores on the scale of the scores, and ids as the authors count them: 0 is no label."""
    said = words(clip.width, range(CLASSES), OTHERS)
    key = ("clip", recipe.templates, *said.strings, "\0", *said.others)
    known = {key: torch.cat([said.vectors, said.other_vectors])}
    segmenter = Segmenter(recipe, {"clip": clip, "diffusion": diffusion}, {}, torch.device("cpu"), torch.float32, _texts=known)
    encoding = segmenter.encode(seen, noise=noise)
    thresholds = {"masks.score_floor": float(cfg.score_threshold), "masks.floor": float(cfg.bkg_thre)}
    labels, others = list(said.strings), list(said.others)
    ids = segmenter.decode(encoding, labels, background=others, settings=thresholds).segmentation
    from nerveseg.masks.rules.base import class_stats
    from nerveseg.words.vocabulary import Background, Vocabulary

    vocabulary = Vocabulary.parse(labels)
    found = segmenter.label(encoding, vocabulary, Background.parse(others, vocabulary))
    P, G = (columns.T.unflatten(1, found.grid)[:-1] for columns in (found.P, found.G))
    score = class_stats(P, G if found.own is None else found.own[:-1], scale=found.scale).score
    return P * found.scale, score, torch.where(ids == len(labels), 0, ids + 1)


def compare_settings(rows: Rows, clone: Path, size: str) -> None:
    """The knobs of our recipes against the authors' files."""
    wrong = 0
    for name in SETS:
        cfg = settings(clone, size, name)
        for diffusion in (True, False) if size == "L/14" else (True,):
            recipe = our_recipe(size, name, diffusion=diffusion)
            stem = Path(cfg.semantic_templates).stem
            pairs = {
                "words.templates": (recipe.templates, {"car_template": "car15", "openai_template": "openai80"}[stem]),
                "labels.short_side": (recipe.labels.options.short_side, cfg.size),
                "labels.scale": (recipe.labels.options.scale, cfg.logit_scale),
                "labels.select_layer": (recipe.labels.options.select_layer, cfg.select_layer),
                "labels.attention_thr": (recipe.labels.options.attention_thr, cfg.attention_thr),
                "masks.score_floor": (recipe.rule.options.score_floor, cfg.score_threshold),
                "masks.floor": (recipe.rule.options.floor, cfg.bkg_thre),
                "masks.stretch": (recipe.rule.options.stretch, cfg.is_normalize),
            }
            if diffusion:
                pairs["walk.attention_thr"] = (recipe.walk.options.attention_thr, cfg.attention_thr)
            for knob, (mine, other) in pairs.items():
                if mine != other:
                    wrong += 1
                    note(f"{recipe.name} {name}: {knob} is {mine}, theirs {other}")
    rows.put("cliper", f"CLIP {size}", "knobs that differ, of 8 settings", wrong)


def main() -> None:
    """Run the parts asked for."""
    more = {"--sizes": "CLIPs; B/16,L/14", "--sets": "benchmarks; all", "--parts": "settings,clip,windows,diffusion; all"}
    given = arguments(__doc__, **more)
    rows = Rows(PROGRAM)
    stand_ins()
    sets = given.sets.split(",") if given.sets else list(SETS)
    with theirs(given.clone):
        for size in (given.sizes or "B/16,L/14").split(","):
            state = clip_state(size, given.seed)
            for part in (given.parts or "settings,clip,windows,diffusion").split(","):
                if part == "settings":
                    compare_settings(rows, given.clone, size)
                elif part == "diffusion":
                    compare_diffusion(rows, given.clone, size, state, sets)
                else:
                    compare_clip(rows, given.clone, size, state, sets, windows=part == "windows")
    rows.finish()


if __name__ == "__main__":
    main()
