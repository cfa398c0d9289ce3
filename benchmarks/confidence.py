"""What a confidence is worth: scenes of the embedded world, each pixel's confidence against whether its label is right.

    OMP_NUM_THREADS=1 python benchmarks/confidence.py -n 40 -o out/confidence

Writes ``kinds.md`` (the three confidences, with the walk and without it), ``thresholds.md`` (what stays and what of it is right) and
``confidence.png`` (reliability, and risk over coverage).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nerveseg import datasets
from nerveseg.bench import calibration
from nerveseg.bench.calibration import Calibration
from nerveseg.bench.words import ask
from nerveseg.datasets import IGNORE
from nerveseg.segmentation import CONFIDENCES, Segmentation
from nerveseg.segmenter import Segmenter

WALKS: Mapping[str, Mapping[str, Any]] = {"walk": {}, "no walk": {"walk.solver": "none"}}
THRESHOLDS = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
HUES = {"probability": "#2f6fa8", "margin": "#d97b29", "entropy": "#3f8f5b"}


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-r", "--recipe", default="mini")
    parser.add_argument("-n", "--scenes", type=int, default=40)
    parser.add_argument("-o", "--out", type=Path, default=Path("out/confidence"))
    given = parser.parse_args()
    data, seg = datasets.open("embedded", split="test"), Segmenter.from_pretrained(given.recipe)
    rows: dict[tuple[str, str], list[list[calibration.Row]]] = {(walk, kind): [] for walk in WALKS for kind in CONFIDENCES}
    kept = np.zeros((len(CONFIDENCES), len(THRESHOLDS), 2), np.int64)
    pixels = 0
    for item in data.items[: given.scenes]:
        picture, truth = data.read(item)
        asked, encoding, counted = ask(data, item), seg.encode(picture), truth != IGNORE
        pixels += int(counted.sum())
        for walk, settings in WALKS.items():
            result = seg.decode(encoding, asked.vocabulary, background=asked.background, settings=settings)
            right = asked.guess(result.segmentation.numpy()) == truth
            for at, kind in enumerate(CONFIDENCES):
                rows[walk, kind].append(calibration.bins(result.confidence(kind).numpy(), right, counted))
                if walk == "walk":
                    kept[at] += stays(result, kind, right & counted, counted)
    found = {name: calibration.total(many) for name, many in rows.items()}
    given.out.mkdir(parents=True, exist_ok=True)
    for name, table in (("kinds", kinds(found)), ("thresholds", thresholds(kept, pixels))):
        (given.out / f"{name}.md").write_text(table, "utf-8")
        print(table)
    draw(found, given.out / "confidence.png")


def stays(result: Segmentation, kind: str, right: Any, counted: Any) -> list[tuple[int, int]]:
    """(pixels, right ones) that keep their labels at each threshold."""
    out: list[tuple[int, int]] = []
    for threshold in THRESHOLDS:
        there = (result.abstain(threshold, kind).segmentation != result.ignore_index).numpy()
        out.append((int((there & counted).sum()), int((there & right).sum())))
    return out


def kinds(found: Mapping[tuple[str, str], Calibration]) -> str:
    """One row a walk and a kind."""
    lines = ["| | confidence | mean | pixels right | ECE | risk area |", "|---|---|---|---|---|---|"]
    for (walk, kind), sure in found.items():
        count = sure.pixels.sum()
        ece = f"{100 * sure.ece:.1f}" if kind == "probability" else "–"
        values = (sure.confidence.sum() / count, 100 * sure.right.sum() / count)
        lines.append(f"| {walk} | {kind} | {values[0]:.2f} | {values[1]:.1f} | {ece} | {100 * sure.risk_area:.1f} |")
    return "\n".join(lines) + "\n"


def thresholds(kept: Any, pixels: int) -> str:
    """What stays, and what of it is right, by threshold: one pair of columns a kind."""
    lines = [
        "| threshold | " + " | ".join(f"{kind}: stays | of it right" for kind in CONFIDENCES) + " |",
        "|---" * (1 + 2 * len(CONFIDENCES)) + "|",
    ]
    for at, threshold in enumerate(THRESHOLDS):
        cells = [f"{100 * n / pixels:.1f} | {100 * good / n if n else float('nan'):.1f}" for n, good in kept[:, at].tolist()]
        lines.append(f"| {threshold:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(found: Mapping[tuple[str, str], Calibration], path: Path) -> None:
    """Reliability of the probability, with the walk and without; risk over coverage of the three kinds with it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="#66727f", linewidth=0.9, linestyle="--")
    for walk, hue in zip(WALKS, ("#2f6fa8", "#d97b29"), strict=True):
        sure = found[walk, "probability"]
        there = sure.pixels > 0
        x, y = sure.confidence[there] / sure.pixels[there], sure.right[there] / sure.pixels[there]
        left.plot(x, y, color=hue, label=f"{walk}: ECE {100 * sure.ece:.1f} %")
        left.scatter(x, y, s=8 + 130 * np.sqrt(sure.pixels[there] / sure.pixels.sum()), color=hue, alpha=0.75, linewidths=0)
    labels(left, "Reliability: larger marks hold more pixels", "mean probability of a bin", "share of its pixels that are right")
    for kind, hue in HUES.items():
        points = found["walk", kind].risk_coverage
        right.plot([p[1] for p in points], [100 * p[2] for p in points], color=hue, marker="o", markersize=3.5, label=kind)
    labels(right, "Risk over coverage: the surest pixels first", "share of pixels that are kept", "of these, wrong, %")
    right.set_ylim(bottom=0)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def labels(axes: Any, *texts: Sequence[str]) -> None:
    """Title, axes, legend."""
    axes.set_title(texts[0], loc="left", fontsize=10.5)
    axes.set_xlabel(texts[1])
    axes.set_ylabel(texts[2])
    axes.set_xlim(0, 1.02)
    axes.grid(visible=True, color="#d8dde3", linewidth=0.6)
    axes.legend(frameon=False)


if __name__ == "__main__":
    main()
