"""LPOSS and LPOSS+ against their authors' program.

    python benchmarks/authors/lposs.py --clone DIR --dino DIR [--cases 1,5]

The first is a clone of github.com/vladan-stojnic/LPOSS at e489a7445528922ddfe4e39631ef2fe34827c873, the second one of
github.com/facebookresearch/dino at 7c446df5b9f45747937fb0d72314eb9f7b66930a. Nothing else is to be installed. It runs on a GPU with faiss
and CuPy; here SciPy's conjugate gradients and torch's top-k stand in for them, in the precision that CuPy has (float64 once the matrix is
built). Rows: unit features of both networks in all windows, logits at the image's size (theirs have the background's strings joined
before the last resizing), labels.

The method has an edge: the 400th neighbour of a patch counts in full, the 401st not at all. A few of the thousands of patches have two
there that are equal to round-off, so that float32 cannot tell; how many got another neighbour is printed. So float32 is judged on features
and on labels, and logits in float64, where no two are that near; ours then has the 1e-6 that DINO's program adds in its norms, too, and not
the 1e-12 of the checkpoint in transformers.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import _family
import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from _dino import dino_state, hub, our_dino, their_dino, with_their_norms
from _shared import Rows, arguments, clip_state, difference, image, our_clip, stand_in, theirs, unequal
from torch import Tensor, nn
from torch.nn import functional as F

from nerveseg import recipe as recipes
from nerveseg.labels import _windows, lposs
from nerveseg.masks.refiners.lposs_plus import lab
from nerveseg.masks.upsample import resample

PROGRAM = "vladan-stojnic/LPOSS e489a74"
RUNS = (  # recipe, image, words of the background, DINO's patch
    ("lposs", (375, 500), 0, 16),
    ("lposs", (480, 640), 6, 16),
    ("lposs", (250, 512), 6, 16),
    ("lposs-plus", (333, 500), 6, 16),
    ("lposs", (300, 300), 6, 8),
)
CONFIG = {"sigma": 0.01, "pix_dist_pow": 1.0, "k": 400, "gamma": 3.0, "alpha": 0.95, "tau": 0.01, "r": 13}  # configs/lposs.yaml


class Normalize:
    """Colours minus a mean over a deviation."""

    def __init__(self, mean: Any, std: Any) -> None:
        self.values = mean, std

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise."""
        mean, std = (torch.tensor(values, dtype=x.dtype).view(3, 1, 1) for values in self.values)
        return (x - mean) / std


class Block(nn.Module):
    """A block of OpenCLIP's vision tower, images first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, width // 64, batch_first=True)
        self.mlp = nn.Sequential()
        for name, part in (("c_fc", nn.Linear(width, 4 * width)), ("gelu", nn.GELU()), ("c_proj", nn.Linear(4 * width, width))):
            self.mlp.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        """One block."""
        u = self.ln_1(x)
        x = x + self.attn(u, u, u, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class OpenClip(nn.Module):
    """OpenCLIP's vision tower with its names, as far as the program looks into it."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        width, patch = state["visual.conv1.weight"].shape[0], state["visual.conv1.weight"].shape[-1]
        layers = len({name.split(".")[3] for name in state if name.startswith("visual.transformer.resblocks.")})
        visual = self.visual = nn.Module()
        visual.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        visual.class_embedding = nn.Parameter(torch.empty(width))
        visual.positional_embedding = nn.Parameter(torch.empty_like(state["visual.positional_embedding"]))
        visual.proj = nn.Parameter(torch.empty_like(state["visual.proj"]))
        visual.ln_pre, visual.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        visual.transformer = nn.Module()
        visual.transformer.resblocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.load_state_dict({name: value for name, value in state.items() if name.startswith("visual.")})

    def forward(self, pixels: Tensor) -> Tensor:
        """All blocks."""
        patches = self.visual.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.visual.class_embedding.expand(len(pixels), 1, -1), patches], dim=1) + self.visual.positional_embedding
        x = self.visual.ln_pre(x)
        for block in self.visual.transformer.resblocks:
            x = block(x)
        return x


def main() -> None:
    """Run both, print the rows."""
    at = sys.argv.index("--dino") if "--dino" in sys.argv[:-1] else sys.exit("Got no --dino. Accepted is a clone of DINO. Name it.")
    second = Path(sys.argv[at + 1])
    given = arguments(__doc__, sys.argv[1:at] + sys.argv[at + 2 :], **{"--cases": "numbers of cases from 1, parted by commas; all"})
    cases = [int(number) - 1 for number in given.cases.split(",")] if given.cases else list(range(len(RUNS)))
    rows = Rows(PROGRAM)
    stand_ins(given.clone)
    tensors = clip_state("B/16", given.seed)
    open_clip, clip = OpenClip(tensors).eval(), our_clip(tensors, activation="gelu")
    dinos = {}
    for patch in {RUNS[number][-1] for number in cases}:
        state = dino_state(patch, given.seed)
        dinos[patch] = their_dino(second, state), our_dino(state)
    both = [network for other, own in dinos.values() for network in (other, own.model)]

    def all_cases(*, wide: bool) -> None:
        for number in cases:
            other, own = dinos[RUNS[number][-1]]
            run(rows, number, (open_clip, other), (clip, own), wide=wide)

    with theirs(given.clone), on_the_cpu():
        all_cases(wide=False)
        for _, own in dinos.values():
            with_their_norms(own)
        with _family.in_float64(open_clip, clip.model, *both):
            all_cases(wide=True)
    rows.finish()


def stand_ins(clone: Path) -> None:
    """What they import: OpenMMLab's library, faiss, CuPy and kornia; their packages are opened at the files that matter."""
    _family.stand_ins()
    sys.modules["torchvision.transforms"].Normalize = Normalize
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
    stand_in(
        "mmseg.ops",
        resize=lambda input, size, mode="nearest", align_corners=None, warning=True: F.interpolate(
            input, size=size, mode=mode, align_corners=align_corners
        ),
    )
    stand_in("mmseg.models", EncoderDecoder=type("EncoderDecoder", (nn.Module,), {}))
    stand_in("omegaconf", OmegaConf=SimpleNamespace(load=lambda _: {"model": {}}))
    stand_in("open_clip", get_tokenizer=lambda _: None, create_model_from_pretrained=None)
    stand_in("cupyx.scipy.sparse", **{name: getattr(scipy.sparse, name) for name in ("csr_matrix", "diags", "eye", "coo_matrix")})
    sys.modules["cupyx.scipy.sparse"].linalg = stand_in("cupyx.scipy.sparse.linalg", cg=cg)
    sys.modules["cupy"] = np
    resources = type("StandardGpuResources", (), {"setDefaultNullStreamAllDevices": lambda _: None, "setTempMemory": lambda _, __: None})
    stand_in("faiss", StandardGpuResources=resources, knn_gpu=nearest, METRIC_INNER_PRODUCT=0)
    stand_in("faiss.contrib.torch_utils")
    if importlib.util.find_spec("kornia") is None:
        stand_in("kornia.color", rgb_to_lab=lambda image: lab(image))
    for package in ("models", "models.lposs", "models.maskclip", "segmentation", "segmentation.evaluation"):
        stand_in(package).__path__ = [str(clone / package.replace(".", "/"))]
    registry = SimpleNamespace(register_module=lambda: lambda found: found)
    stand_in("models.builder", MODELS=registry, build_model=None)
    stand_in("models.maskclip.utils.prompt_templates", imagenet_templates=["{}"])


def cg(matrix: Any, right: Any, tol: float, maxiter: int) -> Any:
    """CuPy's conjugate gradients, by SciPy."""
    return scipy.sparse.linalg.cg(matrix, np.asarray(right, dtype=np.float64), rtol=tol, atol=0.0, maxiter=maxiter)


def nearest(_resources: Any, rows: Tensor, others: Tensor, k: int, metric: int) -> tuple[Tensor, Tensor]:
    """The largest inner products and whose they are."""
    found = (rows @ others.T).topk(k, dim=1)
    return found.values, found.indices


def on_the_cpu() -> Any:
    """Where the program asks for a GPU it gets the CPU."""
    plain = torch.as_tensor
    return mock.patch.object(torch, "as_tensor", lambda data, device=None: plain(data))


def build(open_clip: OpenClip, dino: Any, words: _family.Vocabulary, *, pixels: bool) -> tuple[Any, Any]:
    """Their model and its evaluation around these networks and words."""
    patch = dino.patch_embed.patch_size
    masked, module = importlib.import_module("models.maskclip.maskclip"), importlib.import_module("models.lposs.lposs")
    evaluation = importlib.import_module("segmentation.evaluation.lposs_eval")
    masked.create_model_from_pretrained = lambda *_, **__: (open_clip, None)
    head = {"type": "MaskClipHead", "in_channels": 768, "text_channels": 512, "use_templates": True, "pretrained": "laion2b_s34b_b88k"}
    names = ["; ".join(group) for group in ([words.background] if words.background else []) + words.classes]

    def maskclip(_config: Any, class_names: Any) -> Any:
        return masked.MaskClip({"img_size": 224, "patch_size": 16}, head, "ViT-B-16", class_names)

    module.build_model = maskclip
    rows = words.theirs[0]
    with (
        mock.patch.object(masked.MaskClipHead, "_get_class_embeddings", return_value=rows),
        mock.patch.object(nn.Module, "cuda", lambda self: self),
        mock.patch.object(torch.hub, "load", hub(lambda _: dino)),
    ):
        model = module.LPOSS("maskclip", names, vit_arch="vit_base", vit_patch_size=patch, enc_type_feats="v")
    config = SimpleNamespace(**CONFIG, pixel_refine=pixels, model=SimpleNamespace(vit_patch_size=patch))
    test = type("Settings", (dict,), {"stride": (112, 112), "crop_size": (224, 224)})(mode="slide")
    return model.eval(), evaluation.LPOSS_Infrencer(model, config, len(names), test)


def run(rows: Rows, number: int, other: tuple[Any, Any], own: tuple[Any, Any], *, wide: bool) -> None:
    """One image."""
    name, sides, background, _ = RUNS[number]
    clip, dino = own
    recipe, photo = recipes.load(name), image(*sides, seed=number)
    networks = {"clip": clip, "dino": dino}
    seen = list(lposs.look(photo, networks, recipe.labels.options))
    features = lposs.encode(seen, networks, recipe.labels.options)
    tokens = torch.cat([part.embeddings for part in features.parts])  # CLIP's, on DINO's grid
    words = _family.vocabulary(tokens.to(torch.float32), [1] * 11, background)
    words.vectors.update({string: vector.to(tokens.dtype) for string, vector in words.vectors.items()})
    model, evaluation = build(*other, words, pixels=name == "lposs-plus")
    size = _windows.kept_ratio(photo.size, 448)
    resized = _windows.bilinear(torch.from_numpy(photo.pixels.copy()).permute(2, 0, 1), size)[None].float() / 255
    kept: list[Any] = []
    handle = model.register_forward_hook(lambda _module, _given, output: kept.append(output))
    logits = evaluation.slide_inference(resized, [{"ori_shape": photo.size}], rescale=True)[0]
    handle.remove()
    where = f"B/16 and DINO B/{dino.patch}, {sides[0]} × {sides[1]}, float{64 if wide else 32}"
    if dino.patch == clip.patch:  # else their features are on CLIP's grid when they are seen here
        rows.add(name, where, "CLIP's unit features, all windows", tokens, kept[0][1].flatten(0, 2))
    patches, their_patches = torch.cat([F.normalize(one.tokens, dim=1) for one in seen]), kept[0][0].flatten(0, 2)
    rows.add(name, where, "DINO's unit features, all windows", patches, their_patches)
    sets = [nearest(None, f, f, CONFIG["k"], 0)[1].sort(dim=1).values for f in (patches, their_patches)]
    sys.stdout.write(f"  patches with another neighbour: {int((sets[0] != sets[1]).any(1).sum())} of {len(patches)}\n")
    ours, ids, joined = run_ours(clip, dino, recipe, photo, words)
    first = 1 if background else 0
    factor = (1 - CONFIG["alpha"]) ** (2 if name == "lposs-plus" else 1)  # which ours has in every solve
    pairs = {"logits of classes at the image's size": (ours / factor, logits[first:])}
    if background:
        pairs["logits of the background"] = (joined / factor, logits[0])
    for what, (mine, wanted) in pairs.items():
        if wide:
            rows.add(name, where, what, mine, wanted)
        else:
            sys.stdout.write(f"  {what}: {difference(mine, wanted):.1e}\n")
    labels = logits.argmax(0)
    rows.put(name, where, f"share of pixels with another label, of {len(labels.unique())}", unequal(ids, labels))


def run_ours(clip: Any, dino: Any, recipe: Any, photo: Any, words: _family.Vocabulary) -> tuple[Tensor, Tensor, Tensor]:
    """Our logits of the classes and of the background at the image's size, our labels in their numbers."""
    from nerveseg.segmenter import Segmenter

    networks = {"clip": _family.worded(clip, words.vectors), "dino": dino}
    segmenter = Segmenter(recipe, networks, {}, torch.device("cpu"), torch.float32)
    result = segmenter(photo, ["; ".join(group) for group in words.classes], background=words.background or None)
    if result.strings is None:
        sys.exit("Got a recipe without logits. Accepted is masks.upsample = 'logits'. Mend the recipe.")
    maps = result.strings.logits.maps
    count = len(words.classes)
    other = maps[count:].amax(0, keepdim=True) if len(maps) > count else maps[:1]
    return resample(maps[:count], photo.size), words.renumbered(result.segmentation), resample(other, photo.size)[0]


if __name__ == "__main__":
    main()
