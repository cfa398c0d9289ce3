"""ProxyCLIP against its authors' program.

    python benchmarks/authors/proxyclip.py --clone DIR --dino DIR [--cases 1,7,8]

The first is a clone of github.com/mc-lan/ProxyCLIP at e7b767fbc58ea218a3b8ba34cd92db521cc5f2e1, the second one of
github.com/facebookresearch/dino at 7c446df5b9f45747937fb0d72314eb9f7b66930a. Nothing else is to be installed. Everything of theirs runs in
float32 on the CPU. Rows: tokens of a window on DINO's grid, logits at the image's size, labels with synonyms and the threshold for
background. The last case has windows of 300, which both fill up with zeros to 336.

The method has an edge: a pair of DINO's tokens counts with a weight of at least 1 where M >= 0, and not at all below. A few of the three
million pairs of a window lie within round-off of it, so that float32 cannot tell; the tokens that have such a pair differ by a few
thousandths between any two orders of summation. So float32 is judged on the tokens that have none (their share is in the row) and on
labels, and on logits of the whole image in float64, where hardly a pair is that near: by the share of pixels above 1e-4.
In a window whose tokens are nearly all alike M is negative even on the diagonal; their softmax then has nothing to share out and is no
number, ours keeps the token's own value. Such places are left out.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import _family
import torch
from _dino import dino_state, hub, our_dino, their_dino
from _shared import Rows, arguments, clip_state, difference, image, our_clip, stand_in, theirs, unequal
from torch import Tensor, nn
from torch.nn import functional as F

from nerveseg import recipe as recipes
from nerveseg.labels import proxyclip

PROGRAM = "mc-lan/ProxyCLIP e7b767f"
RUNS = (  # CLIP, benchmark, their configuration, image, side of windows where it is not theirs: one that zeros are put around
    ("L/14", "voc21", "voc21", (375, 500), 0),
    ("B/16", "context60", "context60", (333, 500), 0),
    ("B/16", "coco-object", "coco_object", (480, 640), 0),
    ("B/16", "ade20k", "ade20k", (512, 683), 0),
    ("B/16", "cityscapes", "city_scapes", (256, 512), 0),
    ("B/16", "coco-stuff", "coco_stuff164k", (336, 336), 0),
    ("B/16", "voc21", "voc21", (375, 500), 0),
    ("B/16", "voc21", "voc21", (375, 500), 300),
)
WIDE = RUNS[-2:]  # in float64, too
EDGE = 1e-5
SYNONYMS = [1, 3, 1, 2, 7, 1, 1, 5]


class Normalize:
    """Colours minus a mean over a deviation."""

    def __init__(self, mean: Any, std: Any) -> None:
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise."""
        return (x - self.mean.to(x.dtype)) / self.std.to(x.dtype)


class Network(nn.Module):
    """Their vision tower, and unit vectors in place of the text tower."""

    def __init__(self, visual: Any, width: int) -> None:
        super().__init__()
        self.visual, self.width = visual, width

    def encode_image(self, image: Tensor, external_feats: Any, beta: float, gamma: float) -> Tensor:
        """Their dense features."""
        return self.visual(image, external_feats, beta, gamma)

    def encode_text(self, query: Tensor) -> Tensor:
        """Any vectors: they are replaced."""
        return torch.ones(len(query), self.width)


def main() -> None:
    """Run both, print the rows."""
    at = sys.argv.index("--dino") if "--dino" in sys.argv[:-1] else sys.exit("Got no --dino. Accepted is a clone of DINO. Name it.")
    second = Path(sys.argv[at + 1])
    given = arguments(__doc__, sys.argv[1:at] + sys.argv[at + 2 :], **{"--cases": "numbers of cases from 1, parted by commas; all"})
    cases = [RUNS[int(number) - 1] for number in given.cases.split(",")] if given.cases else list(RUNS)
    rows = Rows(PROGRAM)
    stand_ins(given.clone)
    state = dino_state(8, given.seed)
    other, own = their_dino(second, state), our_dino(state)
    seen: dict[str, Any] = {}
    with theirs(given.clone), in_float32():
        for case in cases:
            if case[0] not in seen:
                seen = {case[0]: (their_clip(tensors := clip_state(case[0], given.seed)), our_clip(tensors))}
            run(given.clone, rows, case, *seen[case[0]], other, own)
        net, clip = seen.get("B/16", (None, None))
        if net is not None and clip is not None:
            with _family.in_float64(net, clip.model, other, own.model):
                for case in (case for case in cases if case in WIDE):
                    run(given.clone, rows, case, net, clip, other, own, narrow=False)
    rows.finish()


def stand_ins(clone: Path) -> None:
    """What they import and the numbers do not need; their own copy of OpenCLIP is opened at the network alone."""
    _family.stand_ins()
    sys.modules["torchvision.transforms"].Normalize = Normalize
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
    stand_in("prompts.imagenet_template", openai_imagenet_template=[str], sub_imagenet_template=[str])
    stand_in("einops", rearrange=None)
    stand_in("openpyxl")
    stand_in("segment_anything", sam_model_registry=None)
    stand_in("mae.models_vit")
    stand_in("mae.pos_embed", interpolate_pos_embed=None)
    stand_in("open_clip.utils", to_2tuple=lambda x: x if isinstance(x, tuple) else (x, x))
    stand_in("open_clip.pos_embed", get_2d_sincos_pos_embed=None)
    package = stand_in("open_clip", create_model=None, tokenizer=SimpleNamespace(tokenize=lambda texts: torch.zeros(len(texts), 77)))
    package.__path__ = [str(clone / "open_clip")]


@contextlib.contextmanager
def in_float32() -> Iterator[None]:
    """Nothing is made half as wide."""
    with mock.patch.object(torch.Tensor, "half", lambda self: self), mock.patch.object(nn.Module, "half", lambda self: self):
        yield


def firm(features: Tensor, beta: float, gamma: float) -> Tensor:
    """The tokens none of whose pairs lies on the mask's edge."""
    unit = F.normalize(features[0].double().flatten(1), dim=0)
    likeness = unit.T @ unit
    return (gamma * (likeness - beta * likeness.mean())).abs().amin(1) > EDGE


def their_clip(state: dict[str, Tensor]) -> Network:
    """Their vision tower with these tensors."""
    module = importlib.import_module("open_clip.transformer")
    width, patch = state["visual.conv1.weight"].shape[0], state["visual.conv1.weight"].shape[-1]
    layers = len({name.split(".")[3] for name in state if name.startswith("visual.transformer.resblocks.")})
    shared = state["visual.proj"].shape[1]
    visual = module.VisionTransformer(224, patch, width, layers, width // 64, 4.0, output_dim=shared, act_layer=module.QuickGELU)
    visual.load_state_dict({name.removeprefix("visual."): value for name, value in state.items() if name.startswith("visual.")})
    return Network(visual.eval().requires_grad_(requires_grad=False), shared)


def build(clip: Network, dino: Any, **settings: Any) -> Any:
    """Their program around these networks."""
    module = importlib.import_module("proxyclip_segmentor")
    module.create_model = lambda *_, **__: clip
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(torch.hub, "load", hub(lambda _: dino)):
        path = Path(folder) / "names.txt"
        path.write_text("a\nb", "utf-8")
        return module.ProxyCLIPSegmentation("", "", "dino", str(path), device=torch.device("cpu"), **settings)


def run(
    clone: Path,
    rows: Rows,
    case: tuple[str, str, str, tuple[int, int], int],
    net: Network,
    clip: Any,
    other: Any,
    dino: Any,
    *,
    narrow: bool = True,
) -> None:
    """One benchmark's settings on one image."""
    size, name, file, sides, window = case
    settings = _family.settings(clone / "configs" / f"cfg_{file}.py")
    short = settings.pop("short")
    settings.pop("name_path")
    changes = {"labels.window": window} if window else {}
    program = build(net, other, **settings, **({"slide_crop": window} if window else {}))
    photo, recipe = image(*sides, seed=len(name)), recipes.load("proxyclip").for_benchmark(name).changed(changes)
    networks = {"clip": clip, "dino": dino}
    features = proxyclip.encode(proxyclip.look(photo, networks, recipe.labels.options), networks, recipe.labels.options)
    tokens = torch.cat([part.embeddings for part in features.parts])
    words = _family.vocabulary(
        features.parts[0].embeddings.to(torch.float32), SYNONYMS, 6 if "masks.name" in recipe.table["benchmarks"].get(name, {}) else 0
    )
    words.vectors.update({string: vector.to(tokens.dtype) for string, vector in words.vectors.items()})
    _family.with_words(program, words)
    kept: list[tuple[Tensor, Tensor]] = []

    def keep(_module: Any, given: Any, output: Tensor) -> None:
        kept.append((F.normalize(output[0], dim=-1), firm(given[1], program.beta, program.gamma)))

    handle = net.visual.register_forward_hook(keep)
    logits, _, labels = _family.run_theirs(program, photo, short)
    handle.remove()
    found, sure = (torch.cat([pair[at] for pair in kept]) for at in (0, 1))
    sure &= found.isfinite().all(1)
    defined = logits.isfinite().all(0)
    where = f"{size} and DINO B/8, {name}, {sides[0]} × {sides[1]}, {f'windows of {window}, ' if window else ''}float{32 if narrow else 64}"
    rows.add("proxyclip", where, f"tokens of all windows, {float(sure.double().mean()):.2%} of them", tokens[sure], found[sure])
    ours, ids = _family.run_ours(clip, recipe, photo, words, dino=dino)
    ours, logits, ids, labels = ours[:, defined], logits[:, defined], ids[defined], labels[defined]
    most, off = difference(ours, logits), (ours - logits).abs().amax(0) > 1e-4 * logits.abs().max()
    sys.stdout.write(f"  logits of the image: {most:.1e} at most, above 1e-4 at {float(off.double().mean()):.2%} of the pixels; ")
    sys.stdout.write(f"theirs are no numbers at {float((~defined).double().mean()):.2%}\n")
    if not narrow:
        rows.put("proxyclip", where, "share of pixels whose logits differ by more than 1e-4", float(off.double().mean()))
    rows.put("proxyclip", where, f"share of pixels with another label, of {len(labels.unique())}", unequal(ids, labels))


if __name__ == "__main__":
    main()
