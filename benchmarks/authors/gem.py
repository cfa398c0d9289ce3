"""GEM against its authors' program.

    python benchmarks/authors/gem.py --clone DIR [--open-clip DIR]

``--clone`` is a clone of github.com/WalBouss/GEM at 5fa677ca1dcf10d39ceceadacf3e3cff414d7c27. It runs on OpenCLIP 2.24, whose
towers put tokens first; ``--open-clip`` is a folder that holds its ``open_clip``:

    pip install --no-deps --target DIR open_clip_torch==2.24.0

Rows: tokens of its stream, cosines on the image that CLIP sees, text.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import _family
import _shared
from torch.nn import functional as F

from nerveseg import recipe as recipes
from nerveseg.image.geometry import CLIP_MEAN, CLIP_STD, to_tensor
from nerveseg.labels import gem
from nerveseg.words import prompts

PROGRAM = "WalBouss/GEM 5fa677c"


def main() -> None:
    """Run both, print the rows."""
    given = _shared.arguments(__doc__, **{"--open-clip": "the folder that holds open_clip 2.24"})
    rows = _shared.Rows(PROGRAM)
    if given.open_clip is None and importlib.util.find_spec("open_clip") is None:
        raise SystemExit(
            "Got no open_clip. Accepted is 2.24: pip install --no-deps --target DIR open_clip_torch==2.24.0. Give --open-clip DIR."
        )
    _family.stand_ins()
    folders = [given.clone] if given.open_clip is None else [given.clone, Path(given.open_clip)]
    with contextlib.ExitStack() as stack:
        for folder in folders:
            stack.enter_context(_shared.theirs(folder))
        wrapper = importlib.import_module("gem.gem_wrapper")
        text(given, rows, wrapper)
        for size in ("B/16", "L/14@336"):
            images(given, rows, wrapper, size)
    rows.finish()


def text(given: Any, rows: _shared.Rows, wrapper: Any) -> None:
    """Their sentence through the whole text tower, with OpenCLIP's own tokens."""
    state = _shared.clip_state("B/16", given.seed, text=True)
    tokens = importlib.import_module("open_clip.tokenizer")
    names = ["cat", "tv monitor", "red bus", "aeroplane"]
    theirs = wrapper.GEMWrapper(_family.open_clip_model(state), tokens.tokenize).encode_text(names)[0]
    with tempfile.TemporaryDirectory() as folder:
        merges = Path(tokens.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
        clip = _shared.our_clip(state, tokenizer=_shared.tokenizer(Path(folder), merges))
        ours = clip.text(names, prompts.template_set(recipes.load("gem").templates))
    rows.add("gem", "B/16", "text vectors", ours, theirs)


def images(given: Any, rows: _shared.Rows, wrapper: Any, size: str) -> None:
    """Tokens and cosines, on squares as they have them and on other grids."""
    state = _shared.clip_state(size, given.seed)
    clip = _shared.our_clip(state)
    recipe = recipes.load("gem")
    runs = ((448, "square", 1, 0.0), (336, "aspect", 2, 0.07), (448, "square", 0, 0.0))
    for side, fit, iterations, temperature in runs if size == "B/16" else runs[:1]:
        changes = {"labels.short_side": side, "labels.fit": fit, "labels.iterations": iterations, "labels.temperature": temperature}
        options = recipe.changed(changes).labels.options
        image = _shared.image(375, 500, seed=side)
        (view,) = gem.look(image, {"clip": clip}, options)
        features = gem.encode([view], {"clip": clip}, options)
        h, w = features.grid
        # The knob they name a temperature is what the products are multiplied by.
        inverse = 1 / temperature if temperature else None
        program = wrapper.GEMWrapper(_family.open_clip_model(state), None, ss_attn_iter=iterations, ss_attn_temp=inverse)
        pixels = to_tensor(image, (h * clip.patch, w * clip.patch), CLIP_MEAN, CLIP_STD)[None]
        tokens = F.normalize(program.model.visual(pixels)[0][0, 1:], dim=-1)
        settings = f"iterations {iterations}, {'own temperature' if inverse is None else f'temperature {temperature}'}"
        where = f"{size}, {h * clip.patch}x{w * clip.patch}"
        rows.add("gem", where, f"tokens, {settings}", features.embeddings[0], tokens)
        words = _family.vocabulary(features.embeddings[0], [1] * 8, 0)
        program.encode_text = lambda _, found=words: found.theirs[0][None]
        theirs = program(pixels, ["a"], normalize=False)[0]
        scores = gem.score(features, _shared.as_words(words.theirs[0]), {}, options)
        maps = F.interpolate(scores.logits.maps[None], size=theirs.shape[1:], mode="bilinear")[0]
        rows.add("gem", where, f"cosines on the image, {settings}", maps, theirs)
        rows.put("gem", where, f"share of pixels with another label, {settings}", _shared.unequal(maps.argmax(0), theirs.argmax(0)))


if __name__ == "__main__":
    main()
