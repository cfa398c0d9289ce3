"""What an image costs each writer; COCO's objects beside one mask each, packed by pycocotools.

    python benchmarks/writers.py --repeat 3

Label maps of 21 labels: blocks (as results look) at 480 × 640 and 4000 × 6000, and noise, the worst there is. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as theirs
from scipy import ndimage

from nerveseg import registry
from nerveseg.image import load_image
from nerveseg.segmentation import Segmentation
from nerveseg.words import Label
from nerveseg.writers.base import is_collection

_LABELS = 21
_SHAPES = ("blocks 480 × 640", "noise 120 × 160", "blocks 4000 × 6000")


def made(shape: str) -> Segmentation:
    """A result without networks."""
    kind, height, _, width = shape.split()
    size, random = (int(height), int(width)), np.random.default_rng(0)
    side = max(size[0] // 40, 1) if kind == "blocks" else 1
    ids = np.kron(random.integers(0, _LABELS, (size[0] // side, size[1] // side)), np.ones((side, side), dtype=np.int64))
    labels = tuple(Label(f"thing {number}", (f"thing {number}",)) for number in range(_LABELS))
    image = load_image(Image.new("RGB", (ids.shape[1], ids.shape[0])), name="a.png")
    return Segmentation(torch.from_numpy(ids), torch.full((_LABELS, 1, 1), 1 / _LABELS), labels, image)


def one_by_one(ids: np.ndarray) -> list[str]:
    """The plain way: connected parts by SciPy, a mask each, packed by pycocotools."""
    packed = []
    for label in np.unique(ids):
        numbered, count = ndimage.label(ids == label, structure=np.ones((3, 3)))
        packed += [
            theirs.encode(np.asfortranarray(numbered == number, dtype=np.uint8))["counts"].decode() for number in range(1, count + 1)
        ]
    return packed


def plainly(result: Segmentation, _: Path) -> list[str]:
    """`one_by_one` as a call that `fastest` makes."""
    return one_by_one(result.segmentation.numpy())


def fastest(call: Callable[[Path], object], repeat: int) -> float:
    """Seconds of the fastest call, each in a folder of its own."""
    seconds = []
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            call(Path(folder))
            seconds.append(time.perf_counter() - begun)
    return min(seconds)


def writing(name: str, result: Segmentation) -> Callable[[Path], object]:
    """A call that writes one image."""
    writer = registry.load("writers", name)
    if is_collection(writer):
        return lambda folder: writer.part(result, folder, "a", writer.Options())
    return lambda folder: writer.write(result, folder / f"a{writer.suffix}", writer.Options())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--formats", default="png,coco,panoptic,voc,cvat,labelstudio,yolo")
    given = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)  # of pycocotools' arrays
    torch.set_num_threads(1)
    results = {shape: made(shape) for shape in _SHAPES}
    print("| ms an image | " + " | ".join(_SHAPES) + " |\n|---|" + "---|" * len(_SHAPES))
    for name in given.formats.split(","):
        row = [f"{1000 * fastest(writing(name, result), given.repeat):.0f}" for result in results.values()]
        print(f"| `{name}` | " + " | ".join(row) + " |")
    small = list(results.values())[:2]  # a mask of 24 megapixels for each of 2,000 objects is not a way to go
    row = [f"{1000 * fastest(partial(plainly, result), given.repeat):.0f}" for result in small]
    print("| a mask an object, pycocotools | " + " | ".join(row) + " | – |")
    coco = registry.load("writers", "coco")
    for result in small:
        told = coco.part(result, Path(), "a", coco.Options())["objects"]
        if sorted(entry["counts"] for entry in told) != sorted(one_by_one(result.segmentation.numpy())):
            raise SystemExit("the two do not agree")
    print(f"\n{_LABELS} labels, one thread, the fastest of {given.repeat}; both ways give the same strings.")


if __name__ == "__main__":
    main()
