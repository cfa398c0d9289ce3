"""The step after pseudo-masks: a small segmenter trained on them, beside the same one trained on true masks.

    python examples/student.py [--scenes 300] [--tests 500] [--steps 1000] [-o student-out]

Masks are made from the labels of whole scenes of the embedded world (`nerveseg bench wsss` does the same from the command line). The
student knows 12 classes: the world's 8 stuffs and 4 kinds of things, since a few hundred scenes show each of its 104 things too seldom.
Both students begin with the same weights and see the same crops in the same order; masks are all that differs. Pixels of 255 teach nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from nerveseg import datasets
from nerveseg.bench.confusion import count
from nerveseg.bench.job import Job
from nerveseg.bench.report.bootstrap import difference, interval
from nerveseg.bench.report.tallies import Tallies, Tally
from nerveseg.bench.wsss import UNSURE, PseudoMasks, run
from nerveseg.datasets import IGNORE, DataSet
from nerveseg.synthetic.names import NAMES, STUFF

KINDS = {"animal": "dog", "food": "apple", "vehicle": "car", "object": "chair"}
"""Kind of things → the first of them in `NAMES`, which has kind after kind."""

CLASSES = (*KINDS, *STUFF)
CROP, BATCH = 64, 8

Scene = tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]


def main() -> None:
    """Make pseudo-masks, train twice, score on test scenes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scenes", type=int, default=300, help="scenes that are trained on")
    parser.add_argument("--tests", type=int, default=500, help="scenes that are scored")
    parser.add_argument("--steps", type=int, default=1000, help="training steps, 8 crops each")
    parser.add_argument("--abstain", type=float, default=0.6, help="confidence below which a pixel teaches nothing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, default=Path("student-out"))
    args = parser.parse_args()
    masks = pseudo_masks(args.scenes, args.abstain, args.out)
    data = datasets.open("embedded", split="train")
    true = [data.read(item) for item in data.items[: args.scenes]]
    taught = {"pseudo-masks": [], "true masks": []}
    for item, (image, mask) in zip(data.items, true, strict=False):
        taught["true masks"].append((image.pixels, grouped(mask)))
        with Image.open(masks / f"{item.id}.png") as pil_image:
            taught["pseudo-masks"].append((image.pixels, grouped(np.asarray(pil_image))))
    tests = datasets.open("embedded", split="test")
    scored: dict[str, Tallies] = {}
    for name, scenes in taught.items():
        started = time.perf_counter()
        student = train(scenes, steps=args.steps, seed=args.seed)
        scored[name] = score(student, tests, args.tests)
        found = interval(scored[name])
        taken = time.perf_counter() - started
        print(f"{name}: mIoU {found.value:.1f} [{found.low:.1f}, {found.high:.1f}] in {taken:.0f} s", flush=True)
    print(table(scored, taught))


def pseudo_masks(scenes: int, abstain: float, out: Path) -> Path:
    """Masks of the first scenes of the training split from the names in each; a folder that is there goes on."""
    job = Job("mini", "embedded", split="train", limit=scenes, threads=1)
    made = run(PseudoMasks(job, abstain=abstain), out / "pseudo-masks")
    found = made.metrics or {}
    print(f"pseudo-masks: mIoU {found['miou']:.1f} on all 112 names, {found['unsure']:.1f} % of pixels left out", flush=True)
    return made.folder / "masks"


def grouped(mask: np.ndarray) -> UInt8[np.ndarray, "H W"]:
    """Ids of the world → the 12 classes; 255 stays."""
    firsts = [NAMES.index(first) for first in KINDS.values()]
    table = np.full(256, UNSURE, np.uint8)
    for index, name in enumerate(NAMES):
        table[index] = len(KINDS) + STUFF.index(name) if name in STUFF else sum(index >= first for first in firsts) - 1
    return table[mask]


class Student(nn.Module):
    """Three levels down and up again: 0.3 million weights."""

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(block(before, after) for before, after in zip([3, *widths], [*widths, widths[-1]], strict=True))
        self.up = nn.ModuleList(
            block(deep + same, same) for deep, same in zip([4 * width, 4 * width, 2 * width], widths[::-1], strict=True)
        )
        self.last = nn.Conv2d(width, classes, 1)

    def forward(self, x: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c H W"]:
        """Logits; sides are multiples of 8."""
        kept: list[Tensor] = []
        for level, down in enumerate(self.down):
            x = down(x if level == 0 else F.max_pool2d(x, 2))
            kept.append(x)
        for up, same in zip(self.up, kept[-2::-1], strict=True):
            x = up(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), same], 1))
        return self.last(x)


def block(before: int, after: int) -> nn.Sequential:
    """Two convolutions, each with its norm."""
    parts: list[nn.Module] = []
    for entering in (before, after):
        parts += [nn.Conv2d(entering, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts)


def train(scenes: Sequence[Scene], *, steps: int, seed: int) -> Student:
    """Cross-entropy over crops; equal seeds give equal weights to begin with, and equal crops."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    student = Student(len(CLASSES)).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for _ in range(steps):
        pixels, target = crops(scenes, rng)
        loss = F.cross_entropy(student(pixels), target, ignore_index=UNSURE)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return student.eval()


def crops(scenes: Sequence[Scene], rng: np.random.Generator) -> tuple[Float[Tensor, "b 3 s s"], Int64[Tensor, "b s s"]]:
    """A batch of random crops, mirrored by chance."""
    images, masks = [], []
    for place in rng.integers(len(scenes), size=BATCH):
        image, mask = scenes[int(place)]
        top, left = (int(rng.integers(side - CROP + 1)) for side in mask.shape)
        turn = slice(None, None, -1 if rng.random() < 0.5 else 1)
        images.append(image[top : top + CROP, left : left + CROP][:, turn])
        masks.append(mask[top : top + CROP, left : left + CROP][:, turn])
    return scaled(np.stack(images)), torch.from_numpy(np.stack(masks).astype(np.int64))


def scaled(images: UInt8[np.ndarray, "b H W 3"]) -> Float[Tensor, "b 3 H W"]:
    """Bytes → about −1 … 1."""
    return torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1


@torch.inference_mode()
def score(student: Student, data: DataSet, limit: int) -> Tallies:
    """Pixels by class on whole test scenes."""
    tally = Tally(len(CLASSES))
    for item in data.items[:limit]:
        image, mask = data.read(item)
        guess = student(scaled(image.pixels[None]))[0].argmax(0).numpy()
        tally.add(count(grouped(mask).astype(np.uint16), guess.astype(np.uint16), len(CLASSES)))
    return tally.done()


def agreement(taught: Sequence[Scene], true: Sequence[Scene]) -> Tallies:
    """How good the masks are that were trained on, as far as they say anything."""
    tally = Tally(len(CLASSES))
    for (_, mask), (_, truth) in zip(taught, true, strict=True):
        known = np.where(mask == UNSURE, np.uint16(IGNORE), truth.astype(np.uint16))
        tally.add(count(known, mask.astype(np.uint16), len(CLASSES)))
    return tally.done()


def table(scored: dict[str, Tallies], taught: dict[str, list[Scene]]) -> str:
    """The result in Markdown."""
    lines = ["| trained on | masks' own mIoU | student's mIoU, 95 % |", "|---|---|---|"]
    for name, tallies in scored.items():
        found, own = interval(tallies), interval(agreement(taught[name], taught["true masks"]))
        lines.append(f"| {name} | {own.value:.1f} | {found.value:.1f} [{found.low:.1f}, {found.high:.1f}] |")
    gap = difference(scored["pseudo-masks"], scored["true masks"])
    lines.append(f"| pseudo − true |  | {gap.value:+.1f} [{gap.low:+.1f}, {gap.high:+.1f}] |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
