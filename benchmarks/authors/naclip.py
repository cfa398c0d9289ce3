"""NACLIP against its authors' program, with and without PAMR.

    python benchmarks/authors/naclip.py --clone DIR

DIR is a clone of github.com/sinahmr/NACLIP at 0cac3a651f753b11315ea799cfbfabf79da1bd76. Its CLIP, windows, PAMR and decision run
in float32 on the CPU, on the weights and the images that ours runs on. Rows: tokens, logits at the image's size, labels.
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

import _family
import _shared
import torch
from torch.nn import functional as F

from nerveseg import recipe as recipes

PROGRAM = "sinahmr/NACLIP 0cac3a6"
RUNS = (
    ("naclip", "voc21", "voc21"),
    ("naclip", "context60", "context60"),
    ("naclip", "ade20k", "ade20k"),
    ("naclip", "cityscapes", "city_scapes"),
    ("naclip-pamr", "voc21", "voc21"),
    ("naclip-pamr", "coco-object", "coco_object"),
    ("naclip-pamr", "cityscapes", "city_scapes"),
)
SYNONYMS = [1, 3, 1, 2, 7, 1, 1, 5]


def main() -> None:
    """Run both, print the rows."""
    given = _shared.arguments(__doc__)
    rows = _shared.Rows(PROGRAM)
    _family.stand_ins()
    with _shared.theirs(given.clone):
        module = importlib.import_module("naclip")
        module.clip.tokenize = lambda texts: torch.zeros(len(texts), 77, dtype=torch.long)
        for size in ("B/16", "L/14@336"):
            state = _shared.clip_state(size, given.seed)
            net, clip = _family.openai_model(state), _shared.our_clip(state)
            for at, run in enumerate(RUNS if size == "B/16" else RUNS[1:2]):
                compare(given, rows, size, (net, clip), run, _family.SIZES[at % len(_family.SIZES)])
    rows.finish()


def build(clone: Path, net: Any, file: str, pamr: int) -> tuple[Any, int]:
    """Their program as one of its configurations has it, and the shorter side of its image."""
    module = importlib.import_module("naclip")
    module.clip.load = lambda *_, **__: (net, None)
    settings = _family.settings(clone / "configs" / f"cfg_{file}.py")
    short = settings.pop("short")
    del settings["name_path"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "names.txt"
        path.write_text("a\nb", "utf-8")
        return module.NACLIP("", str(path), device=torch.device("cpu"), pamr_steps=pamr, **settings), short


def compare(given: Any, rows: _shared.Rows, size: str, both: tuple[Any, Any], run: tuple[str, str, str], shape: tuple[int, int]) -> None:
    """Tokens, logits, labels of one recipe on one benchmark's settings."""
    net, clip = both
    name, benchmark, file = run
    recipe = recipes.load(name).for_benchmark(benchmark)
    image = _shared.image(*shape, seed=len(file))
    program, short = build(given.clone, net, file, recipe.refiner.options.iterations if recipe.refiner.name == "pamr" else 0)
    module, options = recipe.labels.module, recipe.labels.options
    features = module.encode(module.look(image, {"clip": clip}, options), {"clip": clip}, options)
    side = options.window or 4096
    pixels = _family.network_image(image, short)[..., :side, :side]
    wanted = F.normalize(net.encode_image(pixels, return_all=True)[0, 1:], dim=-1)
    where = f"{size}, {benchmark}, {shape[0]}x{shape[1]}"
    rows.add(name, where, "tokens of a window", features.parts[0].embeddings, wanted)
    words = _family.vocabulary(features.parts[0].embeddings, SYNONYMS, 6 if benchmark in ("voc21", "context60", "coco-object") else 0)
    logits, _, labels = _family.run_theirs(_family.with_words(program, words), image, short)
    ours, ids = _family.run_ours(clip, recipe, image, words)
    rows.add(name, where, "logits at the image's size", ours, logits)
    rows.put(name, where, f"share of pixels with another label, of {len(labels.unique())}", _shared.unequal(ids, labels))


if __name__ == "__main__":
    main()
