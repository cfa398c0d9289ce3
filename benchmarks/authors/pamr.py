"""PAMR against its authors' module.

    python benchmarks/authors/pamr.py --clone DIR

DIR is a clone of github.com/visinf/1-stage-wseg at d905fca1134d5c33551422a76d82d8b0f00c48cc. Maps of the image's size, with the settings
of the original (dilations 1, 2, 4, 8, 12, 24) and of SCLIP and NACLIP (8, 16); raw colours and CLIP's, whose factor and mean cancel out.
"""

from __future__ import annotations

import importlib

import torch
from _shared import Numbers, Rows, arguments, image, stand_in, theirs

from nerveseg.image.geometry import to_tensor
from nerveseg.masks.refiners import pamr
from nerveseg.registry import options

RUNS = (((375, 500), 10, (8, 16)), ((240, 321), 10, (1, 2, 4, 8, 12, 24)), ((97, 64), 50, (1, 2, 4, 8, 12, 24)))


def main() -> None:
    """Run both, print the rows."""
    given = arguments(__doc__)
    rows = Rows("visinf/1-stage-wseg d905fca")
    for package in ("models", "models.mods"):
        stand_in(package).__path__ = [str(given.clone / package.replace(".", "/"))]
    with theirs(given.clone):
        module = importlib.import_module("models.mods.pamr")
    for number, (sides, iterations, dilations) in enumerate(RUNS):
        photo = image(*sides, seed=number)
        maps = Numbers(given.seed + number).normal(9, *sides)
        ours = pamr.refine(maps, photo, options(pamr.Options, {"iterations": iterations, "dilations": dilations}))
        program = module.PAMR(iterations, list(dilations))
        raw = torch.tensor(photo.pixels).permute(2, 0, 1)[None].float() / 255
        for kind, colors in (("raw colours", raw), ("CLIP's colours", to_tensor(photo, sides)[None])):
            where = f"{sides[0]} × {sides[1]}, {iterations} times, dilations {', '.join(map(str, dilations))}"
            rows.add("pamr", where, kind, ours, program(colors, maps[None])[0])
    rows.finish()


if __name__ == "__main__":
    main()
