"""Digests of label maps, to see that a change of the code changes no pixel: run it in two checkouts and compare the files.

    python benchmarks/map_digests.py --scenes 50 -o out/digests.txt

One line a recipe that the embedded pair can carry and a test scene of the embedded world: recipe, scene, the first 16 hex digits of the
sha256 of its ids. On one machine with one number of threads the same code gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import warnings
from pathlib import Path

import torch

from nerveseg import list_recipes
from nerveseg.segmenter import Segmenter
from nerveseg.synthetic import compare, scenes
from nerveseg.synthetic.score import labels_of


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=50)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # words that the pair does not know
    lines = []
    for name in list_recipes():
        recipe = compare.carried(name)
        if recipe is None:
            continue
        segmenter = Segmenter.from_pretrained(recipe, device="cpu")
        for number in range(given.scenes):
            scene = scenes.render("test", number)
            ids = segmenter(scene.image, labels_of(scene, "test", number)).segmentation.numpy()
            lines.append(f"{name} {number} {hashlib.sha256(ids.tobytes()).hexdigest()[:16]}\n")
        print(name)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    main()
