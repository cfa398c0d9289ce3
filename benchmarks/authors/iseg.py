"""iSeg beside its authors' program, on the same weights.

    python benchmarks/authors/iseg.py --clone DIR [--sets voc,coco] [--size small]

DIR is a clone of github.com/linsun449/iseg.code at 2e8fb3210052c884e227e60e2d8e2824679bfa24. Nothing else is to be installed: the few lines
that it changed in the diffusers that it carries are written out here. Their whole test step for pseudo-masks (wsss/) at Stable Diffusion
2.1-base's sizes. Their clustering compares in float16 whatever the network's type; here it is done in float64, since a last digit moves
tokens from one cluster to another.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import _shared
import torch
from _diffusion import note, schedule, stable_diffusion
from _shared import Rows, difference, image, stand_in, theirs, unequal
from torch import Tensor, nn
from torch.nn import functional as F

from nerveseg import recipe as recipes
from nerveseg.masks.upsample import resample
from nerveseg.segmenter import Segmenter
from nerveseg.words.vocabulary import Background, Vocabulary

PROGRAM = "linsun449/iseg.code 2e8fb32"
TEXT = "a photograph of and other object background ground land grass tree building wall sky lake water river sea railway"
SETS = {  # data set → class ids in the image, changes to our recipe for pseudo-masks, image
    "voc": ((7, 10, 14, 15), {}, (375, 500)),
    "coco": ((0, 9, 15, 60), {"walk.lam": 0.1}, (480, 640)),
}


class Lightning(nn.Module):
    """What is used of a LightningModule."""

    device = torch.device("cpu")

    def save_hyperparameters(self, *_: Any) -> None:
        """Nothing."""


def stand_ins(clone: Path) -> None:
    """What the authors import and the numbers do not need."""
    stand_in("cv2", __version__="4.9.0")
    stand_in("pytorch_lightning", LightningModule=Lightning)
    stand_in("texttable", Texttable=object)
    stand_in("base.utils", generate_distinct_colors=lambda n: [(0, 0, 0)] * n)
    sys.modules["base"].__path__ = [str(clone / "base")]  # type: ignore[attr-defined]


def scores_too(attention: Any, query: Tensor, key: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Softmax of attention scores and the scores, as the diffusers that the authors changed give them."""
    if mask is not None:
        sys.exit("Got an attention mask. Accepted is none. Look at what has changed in diffusers.")
    scores = query @ key.mT * attention.scale
    return scores.softmax(-1), scores


@contextlib.contextmanager
def as_they_run(diffusion: Any) -> Iterator[Any]:
    """Their module of the diffusion model, around our parts, on the CPU, in float32."""
    import stable_difusion as half  # pyright: ignore[reportMissingImports]
    from diffusers.models.attention_processor import Attention
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    tower = diffusion.text_tower()
    processors = {name: module.processor for name, module in diffusion.unet.named_modules() if hasattr(module, "processor")}
    hooks = []
    with contextlib.ExitStack() as stack:
        parts = {"AutoencoderKL": diffusion.vae, "UNet2DConditionModel": diffusion.unet}
        parts |= {"CLIPTokenizer": tower.tokenizer, "CLIPTextModel": tower.model}
        for name, part in parts.items():
            stack.enter_context(mock.patch.object(half, name, SimpleNamespace(from_pretrained=mock.Mock(return_value=part))))
        stack.enter_context(mock.patch.object(half, "DDIMScheduler", SimpleNamespace(from_config=lambda *_, **__: schedule(DDIMScheduler))))
        stack.enter_context(mock.patch.object(Attention, "get_attention_scores", scores_too))
        stack.enter_context(mock.patch.object(torch.Tensor, "cuda", lambda self: self))
        stack.enter_context(mock.patch.object(torch, "float16", torch.float64))

        def made(program: Any) -> None:
            for layer in program.config.attention_layers_to_use:  # what their diffusers does with the pair that a processor gives back
                module = eval("program.stable_diffusion.unet." + layer)
                hooks.append(module.register_forward_hook(lambda _m, _a, out: out[0]))

        yield made
        for handle in hooks:
            handle.remove()
    for name, processor in processors.items():
        module = diffusion.unet.get_submodule(name)
        module.processor = processor
        module._forward_hooks.clear()


def their_step(name: str, diffusion: Any, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Maps before the walk (clustered), maps at the image's size, and ids."""
    import arguments  # pyright: ignore[reportMissingImports]

    program_file = importlib.import_module("wsss.iSeg")

    parser = argparse.ArgumentParser()
    for part in ("base", "voc_dataset" if name == "voc" else "coco_object_dataset", "test", "shell"):
        getattr(arguments, f"add_{part}_args")(parser)
    config = parser.parse_args([])
    kept: dict[str, Any] = {}
    with as_they_run(diffusion) as made, contextlib.redirect_stdout(sys.stderr):
        program = program_file.iSeg(config, half=False)
        made(program)
        program.on_test_start()
        cross, decided = program.process_cross_att, program_file.cam_to_label

        def labelled(maps: Tensor, **more: Any) -> Any:
            kept["maps"] = maps[0, program.cls_label].clone()
            return decided(maps, **more)

        def before(maps: Any) -> Tensor:
            kept["before"] = cross(maps)
            return kept["before"]

        program.process_cross_att = before
        program.showsegmentresult = SimpleNamespace(add_prediction=lambda _, ids: kept.update(ids=torch.from_numpy(ids)))
        with mock.patch.object(program_file, "cam_to_label", labelled):
            program.test_step((image, mask, ["picture"]), 0)
    names = list(program.all_tokens)
    note(f"{name}: {[names[i] for i in program.cls_label]} at {program.token_sel_ids}")
    return kept["before"][0], kept["maps"], kept["ids"]


def class_names(name: str) -> list[str]:
    """Their names of a data set's classes."""
    if name == "voc":
        from data.voc.voc_name20 import VOC12_NAME as NAMES  # pyright: ignore[reportMissingImports]
    else:
        from data.coco14.coco_name80 import COCO14_NAME as NAMES  # pyright: ignore[reportMissingImports]
    return list(NAMES)


def compare(rows: Rows, name: str, diffusion: Any) -> None:
    """One data set's settings for pseudo-masks."""
    ids, changes, size = SETS[name]
    seen = image(*size, seed=3)
    resized = F.interpolate(
        torch.from_numpy(seen.pixels.copy()).permute(2, 0, 1)[None].float() / 255, size=(512, 512), mode="bilinear", align_corners=False
    )
    mask = torch.zeros(1, *size)
    for at, number in enumerate(ids):
        mask[:, 20 * at : 20 * at + 20] = number + 1
    before, maps, decided = their_step(name, diffusion, resized, mask)

    recipe = recipes.load("iseg")
    recipe = recipe.for_benchmark("coco-object") if name == "coco" else recipe
    recipe = recipe.changed({"labels.sort": False, **changes})
    segmenter = Segmenter(recipe, {"diffusion": diffusion}, {}, torch.device("cpu"), torch.float32)
    encoding = segmenter.encode(seen)
    labels = [class_names(name)[i] for i in ids]
    vocabulary = Vocabulary.parse(labels)
    scores = recipe.labels.module.score(
        encoding.features, segmenter._words(vocabulary, None, recipe), segmenter.networks, recipe.labels.options
    )
    sizes = f"SD 2.1-base, {size[0]}×{size[1]}"
    rows.put("iseg", sizes, f"class maps, {name}", difference(scores.values, stretched(before)))
    inside = segmenter.label(encoding, vocabulary, Background((), published=True))
    P = inside.P.T.unflatten(1, inside.grid)
    through = recipe.rule.options.through
    square = resample(P, (through, through))
    found = torch.as_tensor(segmenter.decode(encoding, labels, background=Background((), published=True)).segmentation)
    flat = stretched(maps.flatten(1).T)
    difference_of = {
        what: difference(stretched(resample(x[:-1], seen.size).flatten(1).T), flat) for what, x in (("", square), (" straight", P))
    }
    rows.put("iseg", sizes, f"walked maps at the image's size, {name}", difference_of[""])
    note(f"{name}: straight from 64×64 they would differ by {difference_of[' straight']:.1e}; {len(decided.unique())} labels")
    order = torch.tensor([*(i + 1 for i in ids), 0])
    rows.put("iseg", sizes, f"pixels decided differently, {name}", unequal(order[found], decided))


def stretched(maps: Tensor) -> Tensor:
    """Columns from 0 to 1."""
    return (maps - maps.amin(0)) / (maps.amax(0) - maps.amin(0))


def main() -> None:
    """Run the data sets asked for."""
    given = _shared.arguments(__doc__, **{"--sets": "voc,coco; both", "--size": "2.1-base, or small: a narrow U-Net, to try it out"})
    rows = Rows(PROGRAM)
    stand_ins(given.clone)
    with theirs(given.clone), theirs(given.clone / "base"), theirs(given.clone / "wsss"), tempfile.TemporaryDirectory() as folder:
        words = [TEXT, *(" ".join(class_names(name)) for name in SETS)]
        diffusion = stable_diffusion(given.size or "2.1-base", words, Path(folder), given.seed)
        for name in (given.sets or ",".join(SETS)).split(","):
            compare(rows, name, diffusion)
    rows.finish()


if __name__ == "__main__":
    main()
