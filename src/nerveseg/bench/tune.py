"""Tune a recipe's walk and decision on your labelled images, and validate the gain on images that were never looked at.

Images are parted in two by a digest of their names. Rounds of a small grid are measured on one half; the other is measured once, with the
recipe as it was and as it became. Only where the paired interval over those images leaves 0 out is the gain called one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nerveseg import registry, runs
from nerveseg.bench.ablate._run import SCORE, Ablation, Worker
from nerveseg.bench.ablate.base import RULES, Variant
from nerveseg.bench.holdout import halves
from nerveseg.bench.job import Job, about, identity
from nerveseg.bench.report.bootstrap import Interval, difference, miou
from nerveseg.bench.report.tallies import Tallies, Tally
from nerveseg.datasets import DataSet
from nerveseg.recipe import Recipe
from nerveseg.reprs import brief
from nerveseg.runs import results
from nerveseg.runs.atomic_write import writing

__all__ = ["ROUNDS", "Tuned", "tune"]

ROUNDS: tuple[Mapping[str, tuple[Any, ...]], ...] = (
    {"transition.neighbours": (0.003, 0.01, 0.03), "transition.peakedness": (0.0, 30.0, 100.0, 300.0)},
    {"transition.beta": (0.0, 0.1, 0.2, 0.4, 0.6), "walk.alpha": (0.8, 0.9, 0.95, 0.98)},
    {"kernel.name": ("exp", "power", "anchor", "elu")},
)
"""Grids, one after the other; what a round finds is kept in those that follow. Decision rules are chosen anew in each."""


@dataclass(frozen=True)
class Tuned:
    """What came of it.

    Attributes:
        settings: knobs that changed, by dotted name, the rule included.
        gain: tuned − as it was, on the images that were not looked at, with its 95 % interval.
        before: mIoU of the recipe as it was, there.
        after: of the tuned one, there.
        looked: mIoU of the tuned one on the images that it was tuned on.
        images: how many were tuned on, and how many were not looked at.
        toml: the tuned recipe.
    """

    settings: Mapping[str, Any]
    gain: Interval
    before: float
    after: float
    looked: float
    images: tuple[int, int]
    toml: str

    __repr__ = brief

    @property
    def real(self) -> bool:
        """Whether the gain is one: its interval lies above 0."""
        return self.gain.low > 0


def tune(
    job: Job,
    folder: str | Path,
    *,
    cache: str | None = None,
    rounds: Sequence[Mapping[str, tuple[Any, ...]]] = ROUNDS,
    workers: int = 1,
    said: Callable[[str, int, int], None] | None = None,
    command: str = "",
) -> Tuned:
    """Tune a recipe; every round is a long job in FOLDER that goes on where it was stopped.

    Args:
        job: recipe, data set and split; the split should be one that nothing is reported on.
        folder: for the rounds and, where the gain is real, ``recipe.toml``.
        cache: folder of encodings; None keeps them in FOLDER.
        rounds: grids; see `ROUNDS`.
        workers: that share the images.
        said: called as ``said(round, done, all)``.
        command: for the record.

    Raises:
        DataError: too few images. What the recipe and the data set raise.
    """
    data, recipe = job.open(), job.compose()
    seen, unseen = halves(data, job.limit)
    bench = _Bench(job, data, Path(folder), cache or str(Path(folder) / "encodings"), workers, said, command)
    settings: dict[str, Any] = {}
    looked = -math.inf
    for number, grid in enumerate(rounds, 1):
        candidates = _candidates(recipe, settings, grid)
        if not candidates:
            continue
        found = bench.measure(f"round-{number}", candidates, seen)
        for variant, rule in itertools.product(candidates, RULES):
            score = miou(found[variant.name][rule.label], average=bench.average)
            if score > looked:
                looked, settings = score, {**variant.settings, "masks.name": rule.name, **{f"masks.{k}": v for k, v in rule.knobs.items()}}
    as_it_was = bench.measure("check-before", [Variant("as it was")], unseen, own_rule=True)["as it was"]
    tuned = bench.measure("check-after", [Variant("tuned", settings)], unseen, own_rule=True)["tuned"]
    before, after = next(iter(as_it_was.values())), next(iter(tuned.values()))
    gain = difference(after, before, average=bench.average)
    changed = recipe.changed(settings)
    result = Tuned(
        settings,
        gain,
        miou(before, average=bench.average),
        miou(after, average=bench.average),
        looked,
        (len(seen), len(unseen)),
        changed.to_toml(),
    )
    if result.real:
        with writing(Path(folder) / "recipe.toml") as file:
            file.write(_comment(result, job) + result.toml)
    return result


@dataclass(frozen=True)
class _Bench:
    """Measures variants on some of the images."""

    job: Job
    data: DataSet
    folder: Path
    cache: str
    workers: int
    said: Callable[[str, int, int], None] | None
    command: str

    @property
    def average(self) -> str:
        return self.job.rules.average

    def measure(
        self, name: str, variants: Sequence[Variant], items: Sequence[str], *, own_rule: bool = False
    ) -> dict[str, dict[str, Tallies]]:
        """Pixels by variant and rule; with ``own_rule`` each by its recipe's rule alone."""
        rules = () if own_rule else RULES
        given = Ablation("tune", self.job, choose=0, rules=rules, cache=self.cache, variants=tuple(variants))
        mine = {"kind": "nerveseg-tune-1", "round": name, "variants": [[one.name, dict(one.settings)] for one in variants]}
        names = tuple(f"{SCORE}/{item}" for item in items)
        plan = runs.Plan(names, {**identity(self.job, self.data), **mine}, about(self.job, command=self.command))
        place = self.folder / name
        told = None if self.said is None else (lambda done, count: self.said and self.said(name, done, count))
        runs.run(plan, Worker(given), place, workers=self.workers, said=told)
        tallies: dict[str, dict[str, Tally]] = {}
        with results.understood(place):
            for line in results.read(place):
                for variant, entry in line["variants"].items():
                    for rule, counts in entry["rules"].items():
                        kept = tallies.setdefault(variant, {}).setdefault(rule, Tally(self.data.classes))
                        kept.add(np.array(counts, np.int64).reshape(-1, 3))
        return {variant: {rule: kept.done() for rule, kept in rules.items()} for variant, rules in tallies.items()}


def _candidates(recipe: Recipe, settings: Mapping[str, Any], grid: Mapping[str, tuple[Any, ...]]) -> list[Variant]:
    """Every point of a grid that the recipe can be composed at; the knobs that are there already among them."""
    kept = {name: value for name, value in settings.items() if not name.startswith("masks.")}
    points = [{**kept}, *({**kept, **dict(zip(grid, point, strict=True))} for point in itertools.product(*grid.values()))]
    sharp = recipe.kernel.module.sharpness
    out: list[Variant] = []
    for point in points:
        usable = point if sharp or "kernel.name" in point else {k: v for k, v in point.items() if k != "transition.neighbours"}
        if "kernel.name" in usable:
            usable = _for_kernel(usable, recipe)
        name = ", ".join(f"{key}={value}" for key, value in usable.items()) or "as it was"
        if name not in {variant.name for variant in out}:
            out.append(Variant(name, usable))
    return out


def _for_kernel(settings: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    sharp = registry.load("kernels", settings["kernel.name"]).sharpness
    share = settings.get("transition.neighbours", recipe.transition.neighbours)
    return {**settings, "transition.neighbours": share if sharp else None}


def _comment(result: Tuned, job: Job) -> str:
    gain = result.gain
    return (
        f"# Tuned from {job.recipe} on {result.images[0]} images of {job.data}; on {result.images[1]} others "
        f"{result.before:.1f} -> {result.after:.1f} mIoU, {gain.value:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}].\n"
    )
