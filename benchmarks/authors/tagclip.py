"""TagCLIP against its authors' program.

    python benchmarks/authors/tagclip.py --clone DIR

DIR is a clone of github.com/linyq2117/TagCLIP at c32b640f3a1cf840e23e4ca8b55aa2b35d086fc5. Nothing else is to be installed: it asks OpenCV
for the boxes around what passes a threshold, and gets them from SciPy where there is no OpenCV (the rows are the same). Its CLIP, its
refined patch scores and its second look run in float32 on the CPU: the half precision that it gives to position embeddings even there is
left out. Its layers are counted for B/16 alone, so that no larger CLIP is compared. Rows: text, tokens, patch scores, class scores, tags.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import _family
import _shared
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from nerveseg.labels import tagclip
from nerveseg.words import prompts

PROGRAM = "linyq2117/TagCLIP c32b640"
CLASSES, OTHERS = 20, 6
RUNS = ((375, 500, "voc2012"), (333, 250, "voc2012"), (224, 224, "voc2012"), (240, 320, "cocostuff"))


def main() -> None:
    """Run both, print the rows."""
    given = _shared.arguments(__doc__)
    rows = _shared.Rows(PROGRAM)
    opencv()
    _family.stand_ins()
    _shared.stand_in("lxml.etree")
    with _shared.theirs(given.clone), _family.in_float32():
        text(given, rows)
        state = _shared.clip_state("B/16", given.seed)
        program, clip = their_program(state), _shared.our_clip(state)
        for height, width, data in RUNS:
            images(rows, program, clip, _shared.image(height, width, seed=height), data)
    rows.finish()


def opencv() -> None:
    """The three functions of OpenCV that find boxes, where it is not installed; parts touch at corners, too, as in its outer contours."""
    if importlib.util.find_spec("cv2") is not None:
        return

    def contours(image: np.ndarray, mode: int, method: int) -> tuple[list[tuple[slice, slice]], None]:
        return ndimage.find_objects(ndimage.label(image.squeeze(), structure=np.ones((3, 3)))[0]), None

    def box(found: tuple[slice, slice]) -> tuple[int, int, int, int]:
        y, x = found
        return x.start, y.start, x.stop - x.start, y.stop - y.start

    kinds = {"THRESH_BINARY": 0, "RETR_EXTERNAL": 0, "CHAIN_APPROX_SIMPLE": 2}
    _shared.stand_in(
        "cv2",
        __version__="4",
        threshold=lambda src, thresh, maxval, type: (thresh, np.where(src > thresh, maxval, 0).astype(np.uint8)),
        findContours=contours,
        boundingRect=box,
        **kinds,
    )


def their_program(state: dict[str, Tensor]) -> types.ModuleType:
    """Their file with what it would make when it is run as a program."""
    module = importlib.import_module("classify")
    module.model = importlib.import_module("clip.build_model").build_model("", dict(state)).float()
    module.device, module.args = "cpu", types.SimpleNamespace(dataset="voc2012")
    return module


def text(given: Any, rows: _shared.Rows) -> None:
    """Their 85 sentences through the whole text tower, with their own tokens."""
    state = _shared.clip_state("B/16", given.seed, text=True)
    program = their_program(state)
    names = ["cat", "bird avian", "tvmonitor screen"]
    theirs = program.clip.encode_text_with_prompt_ensemble(program.model, names, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        tokens = _shared.tokenizer(Path(folder), given.clone / "clip" / "bpe_simple_vocab_16e6.txt.gz")
        clip = _shared.our_clip(state, tokenizer=tokens)
        rows.add("tagclip", "B/16", "text vectors, 85 sentences", clip.text(names, prompts.template_set("maskclip85")), theirs)


def images(rows: _shared.Rows, program: Any, clip: Any, image: Any, data: str) -> None:
    """Each step of theirs beside ours."""
    options = tagclip.Options()
    if data == "cocostuff":
        options = dataclasses.replace(options, from_layer=-12, relative=0.1)
    program.args.dataset = data
    networks = {"clip": clip}
    (view,) = tagclip.look(image, networks, options)
    features = tagclip.encode([view], networks, options)
    h, w = view.pixels.shape[-2:]
    tokens, attention = program.model.encode_image_tagclip(view.pixels, h, w, attn_mask=1)
    tokens = F.normalize(tokens, dim=-1)
    where = f"B/16, {data}, {image.size[0]}x{image.size[1]}"
    rows.add("tagclip", where, "tokens", features.embeddings[0], tokens[0, 1:])
    words = _shared.as_words(_family.vocabulary(features.embeddings[0], [1] * (CLASSES + OTHERS), 0).theirs[0], OTHERS)
    vectors = torch.cat([words.vectors, words.other_vectors])
    coarse, A = their_attention(program, tokens, attention, vectors, data)
    rows.add("tagclip", where, "attention that is kept", features.attention, A)
    refined = program.mask_attn(coarse, A @ coarse, h, w, A)
    ours = tagclip.score(features, words, networks, options).values
    rows.add("tagclip", where, "patch scores inside boxes", ours, refined[:, :CLASSES])
    first = refined.amax(0)[:CLASSES]
    seen = program.cwr(refined, first.clone(), h, w, view.pixels, vectors)
    found = tagclip.class_scores(features, words, networks, options)
    changed = int((seen != first).sum())
    rows.add("tagclip", where, f"class scores, {changed} looked at again", found, seen)
    tags = {words.strings.index(name) for name, _ in tagclip.tags(features, words, networks, options)}
    limit = seen.min() + options.relative * (seen.max() - seen.min())
    wanted = set((seen > limit).nonzero()[:, 0].tolist()) or {int(seen.argmax())}
    rows.put("tagclip", where, f"tags of one alone, of {len(wanted)}", float(len(tags ^ wanted)))


def their_attention(program: Any, tokens: Tensor, attention: list[Tensor], vectors: Tensor, data: str) -> tuple[Tensor, Tensor]:
    """Patch shares and the attention that is kept, which are in the middle of their function ``classify``; found by running it."""
    kept: dict[str, Any] = {}

    def mask_attn(logits_coarse: Tensor, logits: Tensor, h: int, w: int, attn_weight: Tensor) -> Tensor:
        kept.update(coarse=logits_coarse, A=attn_weight)
        raise StopIteration

    own, model, ensemble = program.mask_attn, program.model, program.clip.encode_text_with_prompt_ensemble
    try:
        program.mask_attn = mask_attn
        program.model = types.SimpleNamespace(logit_scale=model.logit_scale, encode_image_tagclip=lambda *_, **__: (tokens, attention))
        program.clip.encode_text_with_prompt_ensemble = lambda *_: vectors
        with tempfile.TemporaryDirectory() as folder:
            _shared.image(32, 32).to_pil().save(Path(folder) / "picture.jpg")
            program.model_type, program.class_names, program.NUM_CLASSES = "clip", [], CLASSES
            program.image_list, program.all_label_list, program.args.img_root = ["picture.jpg"], [[]], folder
            program._transform_resize = lambda *_: lambda _: torch.zeros(3, 32, 32)  # the network's answers are there already
            program.coco_stuff_182_to_171 = {}
            program.tqdm = lambda items: items
            program.classify()
    except StopIteration:
        return kept["coarse"], kept["A"]
    finally:
        program.mask_attn, program.model, program.clip.encode_text_with_prompt_ensemble = own, model, ensemble
    sys.exit("Got no attention from their program. Accepted is the commit that this file names. Check it out.")


if __name__ == "__main__":
    main()
