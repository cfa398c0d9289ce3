"""One `Segmenter` called from several threads: how many of its label maps are those that one thread makes, recipe by recipe.

    python benchmarks/threads.py [--calls 8] [--callers 4] [RECIPE ...]

Every packaged recipe that the embedded pair can carry, or those that are named. Each call has three labels of a scene of the embedded world
and a fourth that nobody asked before; then all of them again at once, with the vectors of all words forgotten, so that every call goes
through all networks. Leaves with 1 where one map differs.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from nerveseg import recipe as recipes
from nerveseg.image import load_image
from nerveseg.segmenter import Segmenter, UntrainedWordWarning
from nerveseg.synthetic import scenes
from nerveseg.synthetic.compare import carried
from nerveseg.synthetic.score import labels_of

SCENES = 4


def right(name: str, calls: int, callers: int) -> int:
    """How many maps of calls in threads are byte for byte those of the same calls one after the other."""
    chosen = carried(name)
    if chosen is None:
        sys.exit(f"Got {name}, which needs more than the embedded pair. Accepted are recipes that the pair carries. Leave it out.")
    segmenter = Segmenter.from_pretrained(chosen, device="cpu")
    shown = [scenes.render("test", number) for number in range(SCENES)]
    asked = [(load_image(scene.image.copy()), labels_of(scene, "test", number)[:3]) for number, scene in enumerate(shown)]

    def call(number: int) -> NDArray[np.generic]:
        image, labels = asked[number % SCENES]
        return segmenter(image, [*labels, f"new{number}"]).segmentation

    alone = [call(number) for number in range(calls)]
    segmenter._texts.clear()
    with ThreadPoolExecutor(callers) as pool:
        found = list(pool.map(call, range(calls)))
    return sum(np.array_equal(one, other) for one, other in zip(found, alone, strict=True))


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="RECIPE")
    parser.add_argument("--calls", type=int, default=8)
    parser.add_argument("--callers", type=int, default=4)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UntrainedWordWarning)
    names = given.names or [name for name in recipes.list_recipes() if carried(name) is not None]
    print(f"| recipe | right, of {given.calls} calls from {given.callers} threads |\n|---|---|")
    wrong = 0
    for name in names:
        count = right(name, given.calls, given.callers)
        wrong += given.calls - count
        print(f"| {name} | {count} |", flush=True)
    sys.exit(int(wrong > 0))


if __name__ == "__main__":
    main()
