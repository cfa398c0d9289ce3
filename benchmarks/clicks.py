"""Seconds a click: at full size on random vectors, and end to end on the embedded pair.

    python benchmarks/clicks.py [--side 64] [--labels 21] [--clicks 12] [--threads 2] [--quick] [-o FILE]
    python benchmarks/fill.py clicks-speed out/clicks.md

Full size: ten heads of width 64 on a grid of 64 × 64 tokens (S folded dense, 64 MiB), 21 labels, 576 token vectors of width 768, an image
of 512 × 512. A click takes in all that a user waits for: the seeds' reach, the visual words, G, the walk and the decision of every pixel.
The median of several clicks counts, each on top of those before; the first line is what beginning costs once an image. "From where it
was" is the same without a factorisation, each walk started from the click before.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from nerveseg import transition, walk
from nerveseg.clicks import Click, Correction, Ground, Options, Solved, prepare, wider
from nerveseg.image import load_image
from nerveseg.labels.base import Words, from_cosines, unit
from nerveseg.postprocess import Labelling
from nerveseg.segmentation import Segmentation
from nerveseg.words.vocabulary import Vocabulary

STAGES = ("reach", "labels", "walk", "colours", "decide")


def main() -> None:
    """Measure both, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=64, help="tokens along a side")
    parser.add_argument("--labels", type=int, default=21)
    parser.add_argument("--clicks", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="16 × 16 tokens, 3 clicks: a smoke test")
    parser.add_argument("-o", "--output", type=Path, default=None)
    given = parser.parse_args()
    if given.quick:
        given.side, given.clicks = 16, 3
    torch.set_num_threads(given.threads)
    n = given.side**2
    lines = ["| | begin, s | a click, ms | reach | labels | walk | colours | decide |", "|---|---|---|---|---|---|---|---|"]
    with torch.inference_mode():
        for alpha in (0.8, 0.98):
            made = full_size(given.side, given.labels, alpha)
            for title, visual, often in (
                ("absorbing only", "off", True),
                ("both", "auto", True),
                ("both, from where it was", "auto", False),
            ):
                begun, steps = clicked(made, Options(visual=visual), given.clicks, often=often)
                lines.append(line(f"n = {n}, {given.labels} labels, the walk's α = {alpha}: {title}", begun, steps))
    begun, steps = embedded(given.clicks)
    lines.append(line("`mini`, a scene of 128 × 160, 7 labels: both", begun, steps))
    lines += ["", f"{given.threads} threads; the median of {given.clicks} clicks."]
    text = "\n".join(lines)
    print(text)
    if given.output is not None:
        given.output.write_text(text + "\n", encoding="utf-8")


def full_size(side: int, labels: int, alpha: float) -> Ground[Segmentation]:
    """A ground of random vectors."""
    chance = torch.Generator().manual_seed(0)
    n, m = side * side, 24

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=chance)

    heads = transition.Heads(drawn(10, n, 64), drawn(10, n, 64), (side, side))
    vectors, Z = unit(drawn(labels, 768)), unit(drawn(m * m, 768))
    vocabulary = Vocabulary.parse([f"label {at}" for at in range(labels)])
    words = Words(vocabulary.strings, vocabulary.groups, (), vectors, vectors[:0])
    image = load_image(np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8))

    def score(asked: Words, count: int) -> Labelling:
        cosines = Z @ torch.cat([asked.vectors, asked.other_vectors]).T
        scores = from_cosines(cosines, asked, (m, m), scale=50.0, join="max")
        return Labelling(wider(scores.to_G((side, side)), count + 1), None, None, (side, side), scale=scores.divisor((side, side)))

    def decide(found: Solved) -> Segmentation:
        maps = [columns.T.unflatten(1, (side, side)) for columns in (found.P, found.inside.G)]
        return Segmentation.build(maps[0], maps[1], found.vocabulary, image, scale=found.inside.scale, odds=found.odds)

    plain = score(words, labels)
    S = transition.build(heads, plain.G, kernel="exp", pairing="kk", neighbours=0.01, beta=0.4)
    P = walk.infinite(S, plain.G, alpha=alpha, tolerance=1e-4).probabilities
    return Ground(
        vocabulary=vocabulary,
        background=None,
        words=words,
        size=(512, 512),
        grid=(side, side),
        P=P,
        inside=plain,
        walk=None,
        S=S,
        walk_alpha=alpha,
        Z=Z,
        source_grid=(m, m),
        score=score,
        again=lambda made: made.G,
        decide=decide,
        options=Options(),
        image=image,
    )


def clicked(given: Ground[Segmentation], options: Options, clicks: int, *, often: bool) -> tuple[float, list[dict[str, float]]]:
    """Seconds of the beginning, and of each click by stage."""
    started = time.perf_counter()
    ground = prepare(dataclasses.replace(given, options=options), often=often)
    begun = time.perf_counter() - started
    start = Solved(ground.vocabulary, ground.inside, ground.P)
    return begun, several(Correction(ground, start, ground.decide(start)), clicks, (512, 512))


def several(edit: Correction[Segmentation], clicks: int, size: tuple[int, int]) -> list[dict[str, float]]:
    """Click here and there; the first click warms up and does not count."""
    chance = np.random.default_rng(1)
    steps = []
    for _ in range(clicks + 1):
        x, y = int(chance.integers(size[1])), int(chance.integers(size[0]))
        label = edit.labels[int(chance.integers(len(edit.labels)))]
        started = time.perf_counter()
        edit = edit.add(Click(label, points=(x, y)))
        steps.append({**edit.seconds, "all": time.perf_counter() - started})
    return steps[1:]


def embedded(clicks: int) -> tuple[float, list[dict[str, float]]]:
    """The same on the embedded pair, from the encoding on."""
    from nerveseg.segmenter import Segmenter
    from nerveseg.synthetic import scenes
    from nerveseg.synthetic.score import labels_of

    scene = scenes.render("val", 0, size=(128, 160))
    mini = Segmenter.from_pretrained("mini")
    encoding = mini.encode(load_image(scene.image))
    started = time.perf_counter()
    edit = mini.correct(encoding, list(labels_of(scene, "val", 0)))
    return time.perf_counter() - started, several(edit, clicks, (128, 160))


def line(title: str, begun: float, steps: list[dict[str, float]]) -> str:
    """One row, in milliseconds."""
    cells = [1000 * statistics.median(step.get(stage, 0.0) for step in steps) for stage in ("all", *STAGES)]
    return f"| {title} | {begun:.2f} | **{cells[0]:.0f}** | " + " | ".join(f"{cell:.0f}" for cell in cells[1:]) + " |"


if __name__ == "__main__":
    main()
