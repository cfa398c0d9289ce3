"""Accuracy against seconds, every kernel, on validation scenes of the embedded world: what the default kernel is decided by.

    python benchmarks/kernels.py [--choose 20] [--score 100] [--threads 2] -o out/kernels.md
    python benchmarks/fill.py kernel-default out/kernels.md

Networks run once a scene; the rows of G are the recipe's. Each kernel gets the best of three shares β of the global graph and, where it
has a sharpness, of three values of ν, by mIoU on the first scenes; the others give its mIoU and the median seconds of S and walk
together, beside those of the local walk in the same run. Writes FILE (a markdown table), and FILE with the suffix .png, a plot.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nerveseg import registry, transition
from nerveseg.image import load_image
from nerveseg.masks.decide import decide
from nerveseg.segmenter import Segmenter
from nerveseg.synthetic import scenes
from nerveseg.synthetic.names import NAMES
from nerveseg.synthetic.score import Counts, interval, labels_of, miou
from nerveseg.walk import infinite
from nerveseg.words.vocabulary import Vocabulary

BETAS, NEIGHBOURS = (0.03, 0.1, 0.3), (0.003, 0.01, 0.03)
EXTRA = {"anchor, 256 landmarks": ("anchor", {}, {"landmarks": 256}), "exp, 64 kept": ("exp", {"keep": 64}, {})}


def main() -> None:
    """Choose, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--choose", type=int, default=20, help="scenes that β and ν are chosen on")
    parser.add_argument("--score", type=int, default=100, help="scenes after them")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    segmenter = Segmenter.from_pretrained("mini", device="cpu")
    ways = {name: ways_of(name, {}, {}) for name in registry.names("kernels")}
    ways |= {name: ways_of(kernel, knobs, own) for name, (kernel, knobs, own) in EXTRA.items()}
    controls = {"G alone": [None], "local walk": [("exp", {"beta": 0.0}, {})]}
    first = run(segmenter, range(given.choose), {**controls, **ways})
    chosen = {name: [max(found, key=lambda pair: miou(pair[1]))[0]] for name, found in first.items()}
    second = {name: found[0] for name, found in run(segmenter, range(given.choose, given.choose + given.score), chosen).items()}
    given.output.parent.mkdir(parents=True, exist_ok=True)
    text = table(second)
    given.output.write_text(text, encoding="utf-8")
    plot(second, given.output.with_suffix(".png"))
    print(text)


def ways_of(kernel: str, knobs: dict[str, Any], own: dict[str, Any]) -> list[Any]:
    """Every setting of one kernel that competes: (kernel, knobs of S, knobs of the kernel)."""
    sharp = NEIGHBOURS if registry.load("kernels", kernel).sharpness else (None,)
    return [(kernel, {**knobs, "beta": beta, "neighbours": nu}, own) for beta in BETAS for nu in sharp]


def run(segmenter: Segmenter, indices: range, ways: dict[str, list[Any]]) -> dict[str, list[tuple[Any, Counts, float]]]:
    """Label scenes in every way: the way, what it counted, and its median seconds; a way that a kernel refuses is left out."""
    rows: dict[tuple[str, int], list[Any]] = {}
    seconds: dict[tuple[str, int], list[float]] = {}
    for index in indices:
        scene = scenes.render("val", index)
        labels = labels_of(scene, "val", index)
        vocabulary = Vocabulary.parse(labels)
        encoding = segmenter.encode(load_image(scene.image.copy()))
        G = segmenter.label(encoding, vocabulary, recipe=segmenter.recipe.changed({"walk.name": "none"})).G
        place = np.array([NAMES.index(name) for name in labels])
        for name, several in ways.items():
            for number, way in enumerate(several):
                try:
                    P, taken = walked(segmenter, encoding.heads, G, way)
                except ValueError:  # cosine_raw refuses rows that cancel out
                    continue
                maps = [columns.T.unflatten(1, encoding.heads.grid) for columns in (P, G)]
                ids = place[decide(maps[0], maps[1], encoding.image.size).numpy()]
                rows.setdefault((name, number), []).append(counted(ids, scene.mask))
                seconds.setdefault((name, number), []).append(taken)
    whole = {key: found for key, found in rows.items() if len(found) == len(indices)}
    return {
        name: [
            (way, Counts(*np.moveaxis(np.stack(whole[name, number]), 1, 0)), statistics.median(seconds[name, number]))
            for number, way in enumerate(several)
            if (name, number) in whole
        ]
        for name, several in ways.items()
        if any((name, number) in whole for number in range(len(several)))
    }


def walked(segmenter: Segmenter, heads: Any, G: torch.Tensor, way: Any) -> tuple[torch.Tensor, float]:
    """S and the walk of one way, and their seconds."""
    if way is None:
        return G, 0.0
    kernel, knobs, own = way
    options = dataclasses.replace(segmenter.recipe.transition, kernel=kernel, **{"neighbours": None, **knobs})
    started = time.perf_counter()
    S = transition.build(heads, G, options=options, kernel_options=own)
    walk = segmenter.recipe.walk
    P = infinite(S, G, walk.options.alpha, walk.options.tolerance).probabilities
    return P, time.perf_counter() - started


def counted(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(3, names): pixels where both agree, guessed, true."""
    count = len(NAMES)
    return np.stack([np.bincount(part.ravel(), minlength=count)[:count] for part in (np.where(ids == mask, ids, count), ids, mask)])


def table(found: dict[str, tuple[Any, Counts, float]]) -> str:
    """Kernels by mIoU, beside the local walk."""
    local = found["local walk"]
    lines = ["| kernel | β | ν | mIoU | − local walk, 95 % | S and walk, s | × local walk |", "|---|---|---|---|---|---|---|"]
    for name, (way, counts, taken) in sorted(found.items(), key=lambda item: -miou(item[1][1])):
        low, high = interval(counts, local[1])
        knobs = way[1] if way else {}
        gain = "–" if name == "local walk" else f"{miou(counts) - miou(local[1]):+.1f} [{low:+.1f}, {high:+.1f}]"
        cells = [name, knobs.get("beta", "–"), knobs.get("neighbours") or "–", f"{miou(counts):.1f}", gain]
        cells += [f"{taken:.3f}" if way else "–", f"{taken / local[2]:.1f}" if way else "–"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    scored = len(local[1].both)
    note = f"{scored} validation scenes after those that β and ν were chosen on; kernels that refuse a scene are left out."
    return "\n".join([*lines, "", note, ""])


def plot(found: dict[str, tuple[Any, Counts, float]], path: Path) -> None:
    """Accuracy against seconds."""
    points = {name: (taken, miou(counts)) for name, (way, counts, taken) in found.items() if way}
    draw(points, miou(found["G alone"][1]), path)


def draw(points: dict[str, tuple[float, float]], alone: float, path: Path) -> None:
    """One point a kernel, (seconds, mIoU), and a line for G alone."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    figure, axes = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
    axes.axhline(alone, color="#888888", linewidth=1, linestyle="--")
    axes.annotate("G alone", (0.01, alone), xycoords=("axes fraction", "data"), va="bottom", color="#666666", fontsize=8.5)
    middle = float(np.median([score for _, score in points.values()]))
    for place, (name, (taken, score)) in enumerate(sorted(points.items(), key=lambda point: point[1])):
        kernel = name.split(",")[0]
        linear = name != "local walk" and registry.load("kernels", kernel).low_rank
        colour = "#333333" if name == "local walk" else "#1b6f63" if linear else "#c2571a"
        axes.plot(taken, score, "o" if linear else "s", color=colour)
        up = 9 + 11 * (place % 2) if score > middle - 8 else 7
        axes.annotate(name, (taken, score), xytext=(0, up), textcoords="offset points", ha="center", fontsize=8.5)
    axes.set(
        xscale="log", xlabel="seconds an image, S and walk", ylabel="mIoU, %", title="Kernels on the embedded world (green: linear in n)"
    )
    axes.xaxis.set_major_locator(FixedLocator([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.margins(x=0.18, y=0.14)
    axes.grid(visible=True, alpha=0.25)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
