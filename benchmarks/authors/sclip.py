"""SCLIP against its authors' program.

    python benchmarks/authors/sclip.py --clone DIR

DIR is a clone of github.com/wangf3014/SCLIP at b56bd3014b9e8a3ee3450bcfc53700a67d627b7a. Its CLIP, its windows and its decision run in
float32 on the CPU, on the weights and the images that ours runs on. Rows: text, tokens, logits at the image's size, labels.
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
from nerveseg.labels import base
from nerveseg.words import prompts

PROGRAM = "wangf3014/SCLIP b56bd30"
BENCHMARKS = {"voc21": "voc21", "context60": "context60", "coco-stuff": "coco_stuff164k", "cityscapes": "city_scapes", "ade20k": "ade20k"}
SYNONYMS = [1, 3, 1, 2, 7, 1, 1, 5]


def main() -> None:
    """Run both, print the rows."""
    given = _shared.arguments(__doc__)
    rows = _shared.Rows(PROGRAM)
    _family.stand_ins()
    with _shared.theirs(given.clone):
        text(given, rows)
        for size in ("B/16", "L/14@336"):
            images(given, rows, size)
    rows.finish()


def text(given: Any, rows: _shared.Rows) -> None:
    """The 80 sentences through the whole text tower, with the clone's own tokens."""
    state = _shared.clip_state("B/16", given.seed, text=True)
    names = ["cat", "tv monitor, television", "aeroplane"]
    program = build(given.clone, _family.openai_model(state), names)
    with tempfile.TemporaryDirectory() as folder:
        tokens = _shared.tokenizer(Path(folder), given.clone / "clip" / "bpe_simple_vocab_16e6.txt.gz")
        clip = _shared.our_clip(state, tokenizer=tokens)
        strings = [string for name in names for string in name.split(", ")]
        rows.add(
            "sclip", "B/16", "text vectors, 80 sentences", clip.text(strings, prompts.template_set("openai80")), program.query_features
        )


def build(clone: Path, net: Any, names: list[str], **settings: Any) -> Any:
    """Their program around a network, with its words embedded by its own code."""
    module = importlib.import_module("clip_segmentor")
    module.clip.load = lambda *_, **__: (net, None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "names.txt"
        path.write_text("\n".join(names), "utf-8")
        return module.CLIPForSegmentation("", str(path), device=torch.device("cpu"), **settings)


def images(given: Any, rows: _shared.Rows, size: str) -> None:
    """Tokens, logits, labels."""
    state = _shared.clip_state(size, given.seed)
    net, clip = _family.openai_model(state), _shared.our_clip(state)
    module = importlib.import_module("clip_segmentor")
    tokens_of, module.clip.tokenize = module.clip.tokenize, lambda texts: torch.zeros(len(texts), 77, dtype=torch.long)
    recipe = recipes.load("sclip")
    for at, (name, file) in enumerate(BENCHMARKS.items()):
        if size != "B/16" and at:
            break
        ours_for = recipe.for_benchmark(name)
        settings = _family.settings(given.clone / "configs" / f"cfg_{file}.py")
        short = settings.pop("short")
        program = build(given.clone, net, ["a", "b"], **{key: value for key, value in settings.items() if key != "name_path"})
        image = _shared.image(*_family.SIZES[at % len(_family.SIZES)], seed=at)
        features = base.dense(base.look_clip(image, {"clip": clip}, ours_for.labels.options), lambda view: tokens(clip, view))
        wanted = F.normalize(net.encode_image(windows(image, short), return_all=True, csa=True)[0, 1:], dim=-1)
        where = f"{size}, {name}, {image.size[0]}x{image.size[1]}"
        rows.add("sclip", where, "tokens of a window", features.parts[0].embeddings, wanted)
        words = _family.vocabulary(features.parts[0].embeddings, SYNONYMS, 6 if name in ("voc21", "context60") else 0)
        logits, _, labels = _family.run_theirs(_family.with_words(program, words), image, short)
        ours, ids = _family.run_ours(clip, ours_for, image, words)
        rows.add("sclip", where, "logits at the image's size", ours, logits)
        rows.put("sclip", where, f"share of pixels with another label, of {len(labels.unique())}", _shared.unequal(ids, labels))
    module.clip.tokenize = tokens_of


def tokens(clip: Any, view: base.View) -> torch.Tensor:
    from nerveseg.labels import sclip

    x = view.activations.inputs[-1]
    return clip.project(clip.last_block(x, sclip.correlative(clip, x), residual=True, ffn=True))


def windows(image: Any, short: int) -> torch.Tensor:
    """The first window of their image."""
    return _family.network_image(image, short)[..., :224, :224]


if __name__ == "__main__":
    main()
