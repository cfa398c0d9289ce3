"""Read a run's folder: its settings from ``run.json``, and its scores, recomputed from ``results.jsonl`` line by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from nerveseg import parse
from nerveseg.bench import calibration, scored
from nerveseg.bench.calibration import Calibration
from nerveseg.bench.confusion import Confusion, Metrics, metrics, total
from nerveseg.bench.job import KIND
from nerveseg.bench.protocol import protocol
from nerveseg.bench.report.tallies import Tallies, Tally
from nerveseg.errors import RunError
from nerveseg.reprs import brief
from nerveseg.runs import plan, results

__all__ = ["BESIDE", "EMBEDDED", "Run", "load"]

EMBEDDED = "embedded model"
"""What every result of the small pair that comes with the package is called: it says nothing of published checkpoints."""

BESIDE = frozenset({"read", "waited", "work"})
"""Times that the journal keeps beside those of the stages: reading ahead, waiting for it, and the whole of the work on an image."""

_POST = {"pamr": "PAMR", "crf": "CRF", "densecrf": "CRF", "none": "none"}


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        folder: where it is.
        identity: what decided its numbers, as in ``run.json``.
        about: command, versions, hardware.
        planned: images that were to be scored.
        items: those that were, in order.
        images: digest of each, its first digits.
        tallies: pixels by image and class.
        confusion: of all images.
        calibration: of all images.
        seconds: stage → seconds an image, the mean; empty where no journal is left.
    """

    folder: Path
    identity: Mapping[str, Any]
    about: Mapping[str, Any]
    planned: int
    items: tuple[str, ...]
    images: tuple[str, ...]
    tallies: Tallies
    confusion: Confusion
    calibration: Calibration
    seconds: Mapping[str, float]

    __repr__ = brief

    @property
    def recipe(self) -> str:
        """Name of the recipe."""
        return str(self.identity["recipe"]["name"])

    @property
    def name(self) -> str:
        """What reports call it: the recipe, and that it ran on the embedded model where it did."""
        return f"{self.recipe} ({EMBEDDED})" if self.embedded else self.recipe

    @property
    def data(self) -> str:
        """Registry name of the data set."""
        return str(self.identity["data"]["name"])

    @property
    def split(self) -> str:
        """Such as "val"."""
        return str(self.identity["data"]["split"])

    @property
    def protocol(self) -> str:
        """Such as "sclip"."""
        return str(self.identity["data"]["protocol"])

    @property
    def average(self) -> str:
        """How its protocol averages over classes."""
        return protocol(self.protocol).average

    @property
    def classes(self) -> tuple[str, ...]:
        """One name a class, in the order of ids."""
        return tuple(self.identity["names"]["classes"])

    @property
    def names(self) -> str:
        """The list of names that was used, and the first digits of its digest."""
        return f"{self.identity['names']['origin']} ({self.identity['names']['digest'][:8]})"

    @cached_property
    def tables(self) -> Mapping[str, Any]:
        """The recipe, as TOML says it."""
        return parse.from_toml(self.identity["recipe"]["toml"])

    @property
    def weights(self) -> Mapping[str, str]:
        """Network → what it was loaded by; those that the run needed."""
        named = self.tables.get("weights", {})
        return {kind: str(named.get(kind, "not stated")) for kind in self.identity["weights"]}

    @property
    def backbone(self) -> str:
        """The networks in one line."""
        return " + ".join(self.weights.values()) or "none"

    @property
    def embedded(self) -> bool:
        """Whether any of its networks is of the small pair that comes with the package."""
        return any(reference.startswith("embedded:") for reference in self.weights.values())

    @property
    def post(self) -> str:
        """What is done to its masks afterwards; "none" where nothing is."""
        name = str(self.tables.get("refiner", {}).get("name", "none"))
        return _POST.get(name, name)

    @cached_property
    def metrics(self) -> Metrics:
        """Scores under its protocol."""
        return metrics(self.confusion, self.average)

    @property
    def pace(self) -> float:
        """Seconds of work on an image, reading aside, which goes on ahead; NaN where no journal is left."""
        inner = sum(taken for stage, taken in self.seconds.items() if stage not in BESIDE)
        return self.seconds.get("work", inner) if self.seconds else float("nan")


def load(folder: str | Path) -> Run:
    """Read a run's folder; nothing but what is in it is needed.

    Memory grows with images only by their sparse counts, about 30 numbers for each class that an image has.

    Raises:
        RunError: a folder of something else, a run that is not finished, or a damaged line.
    """
    place = Path(folder)
    made = plan.read(place)
    if made.identity.get("kind") != KIND:
        raise RunError(f"Got {place}, the folder of another kind of job. Accepted is one of `nerveseg bench run`. Choose it.")
    with results.understood(place):
        _check(made.identity)
    classes = len(made.identity["names"]["classes"])
    tally, items, images = Tally(classes), [], []

    def counted() -> Iterator[Int64[np.ndarray, "m 3"]]:
        for entry in results.read(place):
            items.append(_text(entry, "item", place))
            images.append(_text(entry, "picture", place))
            yield tally.add(_triples(entry, classes, place))

    confusion = total(counted(), classes)
    if not items:
        raise RunError(f"Got {place}, in which no image was scored. Accepted is a run with one at least. Look into its journal.")
    calibrated = calibration.total(_bins(entry, place) for entry in results.read(place))
    taken = scored.seconds(place)
    pace = {stage: times["sum"] / taken["pictures"] for stage, times in taken["stages"].items()} if taken["pictures"] else {}
    return Run(
        folder=place,
        identity=made.identity,
        about=made.about,
        planned=len(made.mine),
        items=tuple(items),
        images=tuple(images),
        tallies=tally.done(),
        confusion=confusion,
        calibration=calibrated,
        seconds=pace,
    )


def _check(identity: Mapping[str, Any]) -> None:
    """Look at all that a report reads of a run's identity, so that a record of other kinds is told at once."""
    recipe, data, names, weights = (identity[part] for part in ("recipe", "data", "names", "weights"))
    texts = [recipe["name"], recipe["digest"], recipe["toml"], *(data[key] for key in ("name", "split", "protocol")), names["origin"]]
    if not all(isinstance(text, str) for text in (*texts, names["digest"], *names["classes"])) or not isinstance(weights, Mapping):
        raise TypeError("a text was meant")
    protocol(data["protocol"])
    parse.from_toml(recipe["toml"])


def _text(entry: Mapping[str, Any], key: str, place: Path) -> str:
    if not isinstance(entry.get(key), str):
        raise _damaged(entry, place, f"no {key}")
    return entry[key]


def _triples(entry: Mapping[str, Any], classes: int, place: Path) -> Int64[np.ndarray, "m 3"]:
    try:
        found = np.array(entry["confusion"], np.int64).reshape(-1, 3)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(entry, place, "no counts [[truth, guess, pixels], …]") from error
    truth, guess, pixels = found.T
    if ((found < 0).any() or (truth >= classes).any() or (guess > classes).any() or (pixels == 0).any()) and found.size:
        raise _damaged(entry, place, f"counts outside its {classes} classes")
    return found


def _bins(entry: Mapping[str, Any], place: Path) -> list[list[float]]:
    rows = entry.get("calibration")
    good = isinstance(rows, list) and all(isinstance(row, list) and len(row) == 4 and 0 <= row[0] < calibration.BINS for row in rows)
    if not isinstance(rows, list) or not good:
        raise _damaged(entry, place, "no calibration [[bin, pixels, right, confidence], …]")
    return rows


def _damaged(entry: Mapping[str, Any], place: Path, what: str) -> RunError:
    return RunError(
        f"Got the line of {entry.get('item')!r} in {place / results.NAME} with {what}. Accepted are lines of `nerveseg bench run`. "
        "Take the folder again, or run it anew."
    )
