"""Compute a run's scores from its results, one image at a time, and write them as files for people and programs.

Everything here follows from a run's folder alone (``run.json`` and ``results.jsonl``); neither images nor networks are needed.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from nerveseg.bench import calibration
from nerveseg.bench.calibration import Calibration
from nerveseg.bench.confusion import AVERAGES, Confusion, Metrics, metrics
from nerveseg.bench.csv_safe import cell
from nerveseg.bench.job import KIND
from nerveseg.bench.protocol import protocol
from nerveseg.errors import RunError
from nerveseg.reprs import brief
from nerveseg.runs import journal, plan, results
from nerveseg.runs.atomic_write import writing

__all__ = ["Scored", "classes_of", "confusions", "finish", "percent", "read", "seconds"]

_DIGITS = 10  # of percents: more than anybody reads, fewer than two machines' sums differ in


@dataclass(frozen=True, eq=False)
class Scored:
    """What a run's lines sum up to.

    Attributes:
        names: of the classes.
        images: that were scored.
        confusion: of all of them.
        calibration: of all of them.
        average: that of the run's protocol.
    """

    names: tuple[str, ...]
    images: int
    confusion: Confusion
    calibration: Calibration
    average: str

    __repr__ = brief

    @property
    def metrics(self) -> Metrics:
        """Under the run's own protocol."""
        return metrics(self.confusion, self.average)


def classes_of(folder: str | Path) -> tuple[str, ...]:
    """Names of the classes of a run, in the order of their ids.

    Raises:
        RunError: a folder of something else.
    """
    return tuple(_identity(folder)["names"]["classes"])


def confusions(folder: str | Path) -> Iterator[tuple[str, Int64[np.ndarray, "m 3"]]]:
    """Each image's item and counts (see `nerveseg.bench.confusion.count`), in the order of the plan: for intervals over images."""
    for entry in results.read(folder):
        yield entry["item"], np.array(entry["confusion"], np.int64).reshape(-1, 3)


def read(folder: str | Path) -> Scored:
    """Sum a run's lines up. Memory does not grow with their number.

    Raises:
        RunError: a run that is not finished, or a folder of something else.
    """
    identity = _identity(folder)
    with results.understood(folder):
        return _summed(folder, identity)


def _summed(folder: str | Path, identity: Mapping[str, Any]) -> Scored:
    names = tuple(identity["names"]["classes"])
    table = np.zeros((len(names), len(names) + 1), np.int64)
    seen = 0

    def rows() -> Iterator[list[list[float]]]:
        nonlocal seen
        for entry in results.read(folder):
            for true, guess, pixels in entry["confusion"]:
                table[true, guess] += pixels
            seen += 1
            yield entry["calibration"]

    summed = calibration.total(rows())
    return Scored(names, seen, Confusion(table), summed, protocol(identity["data"]["protocol"]).average)


def finish(folder: str | Path) -> dict[str, Any]:
    """Write ``metrics.json``, ``confusion.csv`` and ``seconds.json`` beside a run's lines, and give what the first says.

    The first two follow from ``results.jsonl`` to the last byte; the third from the journal, whose times are never the same twice.
    """
    place = Path(folder)
    scored = read(place)
    identity = _identity(place)
    asked = len(plan.read(place).mine)
    with results.understood(place):
        said = {
            "recipe": identity["recipe"]["name"],
            "data": identity["data"]["name"],
            "split": identity["data"]["split"],
            "protocol": identity["data"]["protocol"],
            "names": identity["names"]["origin"],
            "pictures": scored.images,
            "missing": asked - scored.images,
            **_summary(scored),
        }
    _write(place / "metrics.json", said)
    with writing(place / "confusion.csv") as file:
        table = csv.writer(file, lineterminator="\n")
        named = [cell(name) for name in scored.names]
        table.writerow(["truth \\ guess", *named, "none"])
        table.writerows([name, *row] for name, row in zip(named, scored.confusion.table.tolist(), strict=True))
    _write(place / "seconds.json", seconds(place))
    return said


def seconds(folder: str | Path) -> dict[str, Any]:
    """How long the stages took, from the journal: sum, median and 95th percentile a stage, over the images that were scored."""
    last: dict[str, dict[str, float]] = {entry["item"]: entry["seconds"] for entry in journal.read(folder) if "result" in entry}
    with results.understood(folder):
        return _paces(last)


def _paces(last: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    stages = dict.fromkeys(stage for taken in last.values() for stage in taken)
    found = {stage: sorted(taken[stage] for taken in last.values() if stage in taken) for stage in stages}
    return {
        "pictures": len(last),
        "stages": {
            stage: {
                "sum": round(math.fsum(taken), 3),
                "median": round(statistics.median(taken), 4),
                "p95": round(taken[math.ceil(0.95 * len(taken)) - 1], 4),
            }
            for stage, taken in found.items()
        },
    }


def _summary(scored: Scored) -> dict[str, Any]:
    own = scored.metrics
    counts = zip(scored.confusion.both.tolist(), scored.confusion.true.tolist(), scored.confusion.guessed.tolist(), strict=True)
    return {
        "pixels": int(scored.confusion.table.sum()),
        "miou": percent(own.miou),
        "miou_by_average": {average: percent(metrics(scored.confusion, average).miou) for average in AVERAGES},
        "pixel_accuracy": percent(own.pixel_accuracy),
        "mean_accuracy": percent(own.mean_accuracy),
        "weighted_iou": percent(own.weighted_iou),
        "ece": percent(100 * scored.calibration.ece),
        "risk_area": percent(100 * scored.calibration.risk_area),
        "risk_coverage": [
            {"confidence": edge, "coverage": percent(100 * coverage), "risk": percent(100 * risk)}
            for edge, coverage, risk in scored.calibration.risk_coverage
        ],
        "classes": [
            {
                "id": index,
                "name": name,
                "iou": percent(iou),
                "accuracy": percent(accuracy),
                "both": both,
                "true": true,
                "guessed": guessed,
            }
            for index, (name, iou, accuracy, (both, true, guessed)) in enumerate(
                zip(scored.names, own.iou.tolist(), own.accuracy.tolist(), counts, strict=True)
            )
        ],
    }


def percent(value: float) -> float | None:
    """A score as files have it: None where there is none."""
    return None if math.isnan(value) else round(float(value), _DIGITS)


def _identity(folder: str | Path) -> dict[str, Any]:
    identity = dict(plan.read(folder).identity)
    if identity.get("kind") != KIND:
        raise RunError(f"Got {folder}, the folder of another kind of job. Accepted is one of `nerveseg bench run`. Choose it.")
    return identity


def _write(path: Path, content: dict[str, Any]) -> None:
    with writing(path) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
