"""ClearCLIP against its authors' program, and the other methods that this program holds: plain CLIP, MaskCLIP, SCLIP, GEM.

    python benchmarks/authors/clearclip.py --clone DIR [--only NAME] [--size SIZE]

DIR is a clone of github.com/mc-lan/ClearCLIP at ad68a404d55d48d27330b93554eb64a234ff717f. Its OpenCLIP, its windows and its decision run in
float32 on the CPU, on the weights and the images that ours runs on. Rows: tokens, logits at the image's size, labels.
"""

from __future__ import annotations

import contextlib
import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _family
import _shared
import torch
from torch.nn import functional as F

from nerveseg import recipe as recipes

PROGRAM = "mc-lan/ClearCLIP ad68a40"
AT = {"labels.residual": False, "labels.ffn": False}
KEPT = {"labels.residual": True, "labels.ffn": True}
# What it is, our recipe and changes to it, the benchmark, their configuration, their model_type, their ignore_residual.
RUNS = (
    ("clearclip", "clearclip", {}, "voc21", "voc21", "ClearCLIP", True),
    ("clearclip", "clearclip", {}, "cityscapes", "city_scapes", "ClearCLIP", True),
    ("clearclip", "clearclip", {}, "context60", "context60", "ClearCLIP", True),
    ("clearclip", "clearclip", {}, "coco-object", "coco_object", "ClearCLIP", True),
    ("clip", "clip", {}, "voc20", "voc20", "vanilla", False),
    ("maskclip, residual and FFN left out", "clearclip", {"labels.name": "maskclip", **AT}, "context59", "context59", "MaskCLIP", True),
    ("maskclip, both kept", "clearclip", {"labels.name": "maskclip", **KEPT}, "voc20", "voc20", "MaskCLIP", False),
    ("sclip, residual and FFN left out", "clearclip", {"labels.name": "sclip", **AT}, "voc20", "voc20", "SCLIP", True),
    ("gem", "clearclip", {"labels.name": "gem", "labels.positions": "bicubic-antialias"}, "voc20", "voc20", "GEM", False),
)
SYNONYMS = [1, 3, 1, 2, 7, 1, 1, 5]


def main() -> None:
    """Run both, print the rows."""
    given = _shared.arguments(__doc__, **{"--only": "of the methods, those whose name starts so", "--size": "B/16 or L/14 alone"})
    rows = _shared.Rows(PROGRAM)
    _family.stand_ins()
    _shared.stand_in("BLIP.models.blip_retrieval", blip_retrieval=None)
    with _shared.theirs(given.clone), _family.in_float32():
        for size in (given.size,) if given.size else ("B/16", "L/14"):
            state = _shared.clip_state(size, given.seed)
            if size == "B/16" and not given.only:
                several(rows, size, state)
            for at, run in enumerate(RUNS if size == "B/16" else RUNS[:1]):
                if not run[0].startswith(given.only or ""):
                    continue
                compare(given, rows, size, state, run, _family.SIZES[at % len(_family.SIZES)])
    rows.finish()


def several(rows: _shared.Rows, size: str, state: dict[str, torch.Tensor]) -> None:
    """Tokens with several last blocks summed."""
    from nerveseg.labels import clearclip

    net, clip = _family.open_clip_model(state), _shared.our_clip(state)
    pixels = _family.network_image(_shared.image(448, 448), 448)
    seen = clip.vision(pixels, positions="bicubic-offset")
    for blocks in (2, 4):
        for ignored in (True, False):
            options = clearclip.Options(last_blocks=blocks, residual=not ignored, ffn=not ignored)
            ours = clip.project(clearclip.summed(clip, seen, options))[1:]
            theirs = net.visual(pixels, "ClearCLIP", ignored, blocks)[0]
            kept = "left out" if ignored else "kept"
            what = f"tokens of the last {blocks} blocks, residual and FFN {kept}"
            rows.add("clearclip", f"{size}, 448x448", what, F.normalize(ours, dim=-1), F.normalize(theirs, dim=-1))


def build(clone: Path, state: dict[str, torch.Tensor], file: str, kind: str, ignored: object) -> tuple[Any, int]:
    """Their program as one of its configurations has it, and the shorter side of its image."""
    net = _family.open_clip_model(state)
    wrapped = importlib.import_module("gem.gem_wrapper")
    module = importlib.import_module("clearclip_segmentor")
    module.create_model = lambda *_, **__: net
    module.gem.create_gem_model = lambda *_, **given: wrapped.GEMWrapper(net, None, ignore_residual=given["ignore_residual"])
    module.tokenizer.tokenize = lambda texts: torch.zeros(len(texts), 77, dtype=torch.long)
    settings = _family.settings(clone / "configs" / f"cfg_{file}.py")
    short = settings.pop("short")
    del settings["name_path"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "names.txt"
        path.write_text("a\nb", "utf-8")
        more = {"device": torch.device("cpu"), "ignore_residual": ignored, **settings}
        return module.ClearCLIPSegmentation("CLIP", "ViT-B/16", kind, str(path), **more), short


def compare(given: Any, rows: _shared.Rows, size: str, state: dict[str, torch.Tensor], run: Any, shape: tuple[int, int]) -> None:
    """Tokens, logits, labels of one method on one benchmark's settings."""
    what, name, changes, benchmark, file, kind, ignored = run
    recipe = recipes.load(name).for_benchmark(benchmark).changed(changes)
    clip = _shared.our_clip(state)
    image = _shared.image(*shape, seed=len(what))
    program, short = build(given.clone, state, file, kind, ignored)
    module, options = recipe.labels.module, recipe.labels.options
    features = module.encode(module.look(image, {"clip": clip}, options), {"clip": clip}, options)
    where = f"{size}, {benchmark}, {shape[0]}x{shape[1]}"
    with kept_tokens(program) as tokens:
        words = _family.vocabulary(features.parts[0].embeddings, SYNONYMS, 1 if recipe.rule.name == "floor" else 0)
        logits, _, labels = _family.run_theirs(_family.with_words(program, words), image, short)
    ours, ids = _family.run_ours(clip, recipe, image, words)
    rows.add(what, where, "tokens of a window", features.parts[0].embeddings, F.normalize(tokens[0][0], dim=-1))
    rows.add(what, where, "logits at the image's size", ours, logits)
    rows.put(what, where, f"share of pixels with another label, of {len(labels.unique())}", _shared.unequal(ids, labels))


@contextlib.contextmanager
def kept_tokens(program: Any) -> Iterator[list[torch.Tensor]]:
    """Inside, what their tower says of each window is kept."""
    own, found = program.net.visual.forward, []

    def forward(*args: Any) -> torch.Tensor:
        found.append(own(*args).clone())
        return found[-1].clone()

    program.net.visual.forward = forward
    yield found


if __name__ == "__main__":
    main()
