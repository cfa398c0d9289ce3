"""What a confidence is worth: scenes of the embedded world, each pixel's confidence against whether its label is right.

    OMP_NUM_THREADS=1 python benchmarks/confidence.py -n 40 -o out/confidence

Writes ``kinds.md`` (the three confidences, with the walk and without it), ``thresholds.md`` (what stays and what of it is right),
``temperature.md`` (temperatures from validation scenes, on these), ``confidence.png`` (reliability, and risk over coverage) and
``temperature.png`` (reliability before and after).
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nerveseg import datasets
from nerveseg.bench import calibration, temperature
from nerveseg.bench.calibration import Calibration
from nerveseg.bench.job import Job
from nerveseg.bench.report.plots import reliability
from nerveseg.bench.temperature import Calibrated, Labelled, Measured
from nerveseg.bench.words import ask
from nerveseg.datasets import IGNORE
from nerveseg.segmentation import CONFIDENCES, Segmentation
from nerveseg.segmenter import Segmenter

WALKS: Mapping[str, Mapping[str, Any]] = {"walk": {}, "no walk": {"walk.name": "none"}}
THRESHOLDS = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LABELLED = (20, 40, 80)
"""Validation scenes that a temperature is chosen and checked on, half of them each."""
DRAWN = 40
HUES = {"probability": "#2f6fa8", "margin": "#d97b29", "entropy": "#3f8f5b"}


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-r", "--recipe", default="mini")
    parser.add_argument("-n", "--scenes", type=int, default=40)
    parser.add_argument("--cache", type=Path, help="Folder of encodings of the validation scenes.")
    parser.add_argument("-o", "--out", type=Path, default=Path("out/confidence"))
    given = parser.parse_args()
    data, seg = datasets.open("embedded", split="test"), Segmenter.from_pretrained(given.recipe)
    rows: dict[tuple[str, str], list[list[calibration.Row]]] = {(walk, kind): [] for walk in WALKS for kind in CONFIDENCES}
    kept = np.zeros((len(CONFIDENCES), len(THRESHOLDS), 2), np.int64)
    results: dict[str, list[Labelled]] = {walk: [] for walk in WALKS}
    pixels = 0
    for item in data.items[: given.scenes]:
        image, truth = data.read(item)
        asked, encoding, counted = ask(data, item), seg.encode(image), truth != IGNORE
        pixels += int(counted.sum())
        for walk, settings in WALKS.items():
            result = seg.decode(encoding, asked.vocabulary, background=asked.background, settings=settings)
            right = asked.guess(result.segmentation.numpy()) == truth
            results[walk].append(temperature.labelled(result, asked, truth))
            for at, kind in enumerate(CONFIDENCES):
                rows[walk, kind].append(calibration.bins(result.confidence(kind).numpy(), right, counted))
                if walk == "walk":
                    kept[at] += stays(result, kind, right & counted, counted)
    found = {name: calibration.total(many) for name, many in rows.items()}
    given.out.mkdir(parents=True, exist_ok=True)
    chosen = {
        (walk, count): temperature.calibrate(
            Job(given.recipe, "embedded", split="val", limit=count, settings=settings, threads=1), cache=given.cache
        )
        for walk, settings in WALKS.items()
        for count in LABELLED
    }
    tested = {
        walk: temperature.measured(many, (1.0, *(chosen[walk, count].after.temperature for count in LABELLED)))
        for walk, many in results.items()
    }
    tables = {"kinds": kinds(found), "thresholds": thresholds(kept, pixels), "temperature": temperatures(chosen, tested, results)}
    for name, table in tables.items():
        (given.out / f"{name}.md").write_text(table, "utf-8")
        print(table)
    draw(found, given.out / "confidence.png")
    before, after = tested["walk"][0], tested["walk"][1 + LABELLED.index(DRAWN)]
    shown = {"as it is": before.calibration, f"T = {after.temperature:g}": after.calibration}
    (given.out / "temperature.png").write_bytes(reliability(shown, given.recipe, f"{given.scenes} test scenes of the embedded world"))


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


def temperatures(
    chosen: Mapping[tuple[str, int], Calibrated], tested: Mapping[str, Sequence[Measured]], results: Mapping[str, Sequence[Labelled]]
) -> str:
    """One row a walk and a number of labelled scenes: what their other half says of T, and what the test scenes do."""
    lines = [
        "| | labelled | T | NLL less by, on their other half | recipe | ECE | NLL | mean | risk area |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for walk, measures in tested.items():
        for count, one in zip((0, *LABELLED), measures, strict=True):
            cells = ["–", "1", "–", "–"]
            if count:
                found = chosen[walk, count]
                gain = found.after.gain
                told = f"{gain.value:.3f} [{gain.low:.3f}, {gain.high:.3f}]"
                cells = [str(count), f"{one.temperature:.2f}", told, "written" if found.real else "refused"]
            sure = one.calibration
            mean, area = sure.confidence.sum() / sure.pixels.sum(), risk(results[walk], one.temperature)
            cells += [f"{100 * sure.ece:.1f}", f"{one.nll:.3f}", f"{mean:.2f}", f"{100 * area:.2f}"]
            lines.append(f"| {walk} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def risk(many: Sequence[Labelled], T: float) -> float:
    """Area under risk over coverage, pixel by pixel: the last of twenty bins holds nearly all pixels at a low temperature."""
    sure, wrong = [], []
    for one in many:
        counted = one.counted.numpy()
        sure.append(dataclasses.replace(one.result, temperature=T).confidence().numpy()[counted])
        wrong.append((one.result.segmentation != one.truth).numpy()[counted])
    order = np.argsort(-np.concatenate(sure), kind="stable")
    return float((np.cumsum(np.concatenate(wrong)[order]) / np.arange(1, len(order) + 1)).mean())


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
