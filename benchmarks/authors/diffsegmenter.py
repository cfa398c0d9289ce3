"""DiffSegmenter beside its authors' program, on the same weights.

    python benchmarks/authors/diffsegmenter.py --clone DIR [--size small-1.5]

DIR is a clone of github.com/VCG-team/DiffSegmenter at b3a8686a7f37b73a2f1a3277d143b3af2e5efded. Their script for Pascal VOC at Stable
Diffusion 1.5's sizes: maps with captions given in the place of BLIP's, and without, as our recipe has none; labels of these. It wants the
package compel, which wants pyparsing:

    pip install --no-deps --target EXTRA compel==2.0.3 pyparsing
    PYTHONPATH=EXTRA python benchmarks/authors/diffsegmenter.py --clone DIR

Their unconditional half of a pass is not kept by them, and runs by itself here (their LOW_RESOURCE): the pair takes twice the memory.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from _diffusion import note, schedule, stable_diffusion
from _shared import Numbers, Rows, arguments, difference, image, stand_in, theirs, unequal
from torch import Tensor
from torch.nn import functional as F

from nerveseg import recipe as recipes
from nerveseg.segmenter import Segmenter
from nerveseg.words.vocabulary import Background, Vocabulary

PROGRAM = "VCG-team/DiffSegmenter b3a8686"
CAPTIONS = {"cat": "lying on the grass", "plane": "flying over the water"}  # the second is read at "flying", too
THRESHOLD = 0.5
WHERE, CROSS = ("up", "mid", "down"), True
SCRIPT = Path("open_vocabulary") / "voc12" / "ptp_stable_best.py"


def rearrange(x: Tensor, pattern: str, h: int) -> Tensor:
    """The two patterns of einops that are used."""
    if pattern == "b n (h d) -> (b h) n d":
        return x.unflatten(-1, (h, -1)).transpose(1, 2).flatten(0, 1)
    return x.unflatten(0, (-1, h)).transpose(1, 2).flatten(2)


def stand_ins() -> None:
    """What the authors import and the numbers do not need; leaves where what they need is missing."""
    if importlib.util.find_spec("compel") is None:
        raise SystemExit(
            "Got no compel. Accepted is 2.0.3: pip install --no-deps --target EXTRA compel==2.0.3 pyparsing. Put EXTRA on PYTHONPATH."
        )
    stand_in("einops", rearrange=rearrange)
    stand_in("cv2", FONT_HERSHEY_SIMPLEX=0)
    stand_in("IPython.display", display=None)
    stand_in("tqdm.notebook", tqdm=None)


def the_loop(script: Path) -> Any:
    """The lines of their main block that make one map of what the U-Net left: from the loop over levels on."""
    for node in ast.walk(ast.parse(script.read_text("utf-8"))):
        for block in (part for part in (getattr(node, "body", None), getattr(node, "orelse", None)) if isinstance(part, list)):
            for at, line in enumerate(block):
                if isinstance(line, ast.For) and ast.unparse(line.iter) == "enumerate([8, 16, 32, 64])":
                    until = next(i for i in range(at, len(block)) if ast.unparse(block[i]).startswith("att_map ="))
                    return compile(ast.fix_missing_locations(ast.Module(block[at : until + 1], [])), str(script), "exec")
    raise SystemExit(f"Got {script} without the loop over levels. Accepted is the commit that is named. Check it out.")


def functions(script: Path, utils: Any, pipe: Any) -> dict[str, Any]:
    """Their functions and classes, without what stands around them."""
    wanted = (ast.FunctionDef, ast.ClassDef)
    names = {"AttentionControl", "AttentionStore", "aggregate_all_attention", "run_and_display"}
    kept: list[ast.stmt] = [node for node in ast.parse(script.read_text("utf-8")).body if isinstance(node, wanted) and node.name in names]
    import abc
    from typing import Optional

    space: dict[str, Any] = {"abc": abc, "torch": torch, "Optional": Optional, "List": list, "ptp_utils": utils, "F": F}
    space |= {"LOW_RESOURCE": True, "GUIDANCE_SCALE": 7.5, "ldm_stable": pipe}
    exec(compile(ast.fix_missing_locations(ast.Module(kept, [])), str(script), "exec"), space)  # their own lines, from their own file
    return space


def their_maps(clone: Path, diffusion: Any, x_t: Tensor, captions: Mapping[str, str]) -> Tensor:
    """One 64 × 64 map a class, as their script leaves it before it is brought to the image."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from visual_code import ptp_utils  # pyright: ignore[reportMissingImports]

    tower = diffusion.text_tower()
    pipe = SimpleNamespace(unet=diffusion.unet, text_encoder=tower.model, tokenizer=tower.tokenizer, device=torch.device("cpu"))
    pipe.scheduler = schedule(DDIMScheduler)
    space = functions(clone / SCRIPT, ptp_utils, pipe)
    # One pass makes their average the thing itself; the copy of it would take gigabytes.
    space["AttentionStore"].get_average_attention = lambda self: self.attention_store
    controller = space["AttentionStore"]()
    loop = the_loop(clone / SCRIPT)
    attentions = [module for module in diffusion.unet.modules() if type(module).__name__ == "Attention"]
    found = []
    for name, caption in captions.items():
        prompt = [f"a photograph of {name}++ {caption}"]
        controller.reset()
        with contextlib.suppress(StopIteration):
            space["run_and_display"](prompt, controller, latent=x_t, t=100, noise_sample_num=1)
        space |= {"prompt": prompt, "weight": [0.3, 0.5, 0.1, 0.1], "out_atts": []}
        space["cross_attention_maps"] = space["aggregate_all_attention"](prompt, controller, WHERE, CROSS, 0)
        space["self_attention_maps"] = space["aggregate_all_attention"](prompt, controller, WHERE, not CROSS, 0)
        exec(loop, space)  # their own lines, from their own file
        found.append(space["att_map"].clone())
        controller.reset()
    for module in attentions:  # they put their own function in the place of each
        module.__dict__.pop("forward", None)
    return torch.stack(found)


def stretched(maps: Tensor) -> Tensor:
    """Columns from 0 to 1."""
    return (maps - maps.amin(0)) / (maps.amax(0) - maps.amin(0))


def main() -> None:
    """Compare latents, maps and masks of two classes."""
    given = arguments(__doc__, **{"--size": "1.5, or small-1.5: a narrow U-Net, to try the script out"})
    size = given.size or "1.5"
    rows = Rows(PROGRAM)
    stand_ins()
    with tempfile.TemporaryDirectory() as folder:
        text = " ".join(["a photograph of", *CAPTIONS, *CAPTIONS.values()])
        diffusion = stable_diffusion(size, [text], Path(folder), given.seed)
    seen, draw = image(375, 500, seed=4), Numbers(5)
    noise, sample = draw.normal(1, 4, 64, 64), draw.normal(1, 4, 64, 64)
    where = f"SD {size}, 375×500"

    recipe = recipes.load("diffsegmenter")
    columns, plain = [], dict.fromkeys(CAPTIONS, "")
    options = recipe.labels.options
    source = recipe.labels.module
    networks = {"diffusion": diffusion}
    features = source.encode(source.look(seen, networks, options), networks, options, noise=noise, draw=sample)
    segmenters = {name: recipe.changed({"labels.template": f"a photograph of {{}} {caption}"}) for name, caption in CAPTIONS.items()}
    for name, own in segmenters.items():
        words = Segmenter(own, networks, {}, torch.device("cpu"), torch.float32)._words(Vocabulary.parse([name]), None, own)
        columns.append(source.score(features, words, networks, own.labels.options).values)

    pixels = torch.from_numpy(seen.pixels.copy()).permute(2, 0, 1)[None].float() / 255
    resized = F.interpolate(pixels, (512, 512), mode="bilinear", align_corners=False)
    posterior = diffusion.vae.encode(2 * resized - 1).latent_dist
    x_0 = (posterior.mean + posterior.std * sample) * 0.18215  # what their sample() is, with its noise given
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    x_t = schedule(DDIMScheduler).add_noise(x_0, noise, torch.tensor(100))
    rows.add("diffsegmenter", where, "latent at step 100", features.extra["noised"], x_t)
    with theirs(given.clone), theirs(given.clone / "visual_code"):
        told = their_maps(given.clone, diffusion, x_t, CAPTIONS)
        rows.put(
            "diffsegmenter",
            where,
            "maps of two classes, with captions",
            difference(torch.cat(columns, dim=1), stretched(told.flatten(1).T)),
        )
        maps = their_maps(given.clone, diffusion, x_t, plain)
    segmenter = Segmenter(recipe, networks, {}, torch.device("cpu"), torch.float32)
    encoding = segmenter.encode(seen, features=features)
    inside = segmenter.label(encoding, Vocabulary.parse(list(plain)), Background((), published=True))
    found = stretched(inside.P[:, : len(plain)])
    rows.put("diffsegmenter", where, "maps of two classes, without", difference(found, stretched(maps.flatten(1).T)))
    full = F.interpolate(maps[None], size=seen.size, mode="bilinear", align_corners=False)[0]
    low, high = full.amin((1, 2), keepdim=True), full.amax((1, 2), keepdim=True)
    expected = torch.cat([torch.full((1, *seen.size), THRESHOLD), (full - low) / (high - low)]).argmax(0)
    found = torch.as_tensor(segmenter.decode(encoding, list(plain), background=Background((), published=True)).segmentation)
    order = torch.tensor([*range(1, len(plain) + 1), 0])
    rows.put("diffsegmenter", where, f"pixels decided differently at {THRESHOLD}", unequal(order[found], expected))
    note(f"{len(expected.unique())} labels, background {float((expected == 0).float().mean()):.2f}")
    rows.finish()


if __name__ == "__main__":
    main()
