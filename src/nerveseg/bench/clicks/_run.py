"""Clicking as a long job: one image, every variant."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nerveseg.bench.cache import Kept
from nerveseg.bench.clicks._robot import Ids, iou, next_click
from nerveseg.bench.job import Job, about, identity
from nerveseg.bench.words import Asked, ask
from nerveseg.clicks import Click, Correction, parted
from nerveseg.reprs import brief
from nerveseg.runs.plan import Plan
from nerveseg.runs.worker import Record
from nerveseg.segmentation import Segmentation
from nerveseg.segmenter import Encoding
from nerveseg.synthetic.names import STUFF
from nerveseg.words.vocabulary import Vocabulary

__all__ = ["BOTH", "CAP", "KIND", "NEW", "REACHED", "VARIANTS", "Clicking", "Worker", "plan"]

KIND = "nerveseg-clicks-1"

BOTH = "both"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "absorbing only": {"clicks.visual": "off"},
    "visual word only": {"clicks.absorb": False},
    BOTH: {},
}
"""Name → knobs of clicks; those of a job come first."""

CAP = 20
"""Most clicks at a thing."""

REACHED = 90.0
"""IoU at which the robot is content."""

NEW = 3
"""Clicks at a label that has no words."""


@dataclass(frozen=True)
class Clicking:
    """What is measured.

    Attributes:
        job: recipe and images; settings may hold knobs of clicks, which hold in every variant.
        cap: most clicks at a thing.
        cache: folder of encodings.
    """

    job: Job
    cap: int = CAP
    cache: str | None = None

    __repr__ = brief

    @property
    def knobs(self) -> dict[str, Any]:
        """The job's knobs of clicks."""
        return {name: value for name, value in self.job.settings.items() if name.startswith("clicks.")}

    @property
    def plain(self) -> Job:
        """The job without them."""
        return dataclasses.replace(self.job, settings=parted(self.job.settings)[1])


def plan(given: Clicking, *, command: str = "") -> Plan:
    """Fix items and identity; reads the weights for their digests."""
    data = given.plain.open()
    items = tuple(item.id for item in data.items[: given.job.limit])
    options = {name: dataclasses.asdict(parted({**given.knobs, **knobs})[0]) for name, knobs in VARIANTS.items()}
    mine = {"kind": KIND, "clicks": options, "cap": given.cap, "new": NEW, "reached": REACHED}
    return Plan(items, {**identity(given.plain, data), **mine}, about(given.plain, command=command))


@dataclass(eq=False)
class Worker:
    """Clicks through images; picklable until `start`.

    A result line holds ``first``: [thing's name or None, error's pixels, IoU before, {variant: after}], ``things``: {name: {variant:
    [IoU before, after each click]}} and ``new``: {name: [the same with both]}, of the largest thing.
    """

    given: Clicking
    _state: dict[str, Any] = field(default_factory=dict, repr=False)

    __repr__ = brief

    def __call__(self) -> Worker:
        """A worker of its own for a process."""
        return Worker(self.given)

    def start(self) -> None:
        """Open the data and load the networks."""
        data = self.given.plain.open()
        cache = None if self.given.cache is None else Path(self.given.cache)
        kept = Kept(self.given.plain.load(), cache)
        self._state = {"data": data, "items": {item.id: item for item in data.items}, "kept": kept}

    def read(self, item: str) -> Any:
        """The image and its mask."""
        return self._state["data"].read(self._state["items"][item])

    def work(self, item: str, read: Any) -> Record:
        """Every variant by every question."""
        image, mask = read
        data, kept = self._state["data"], self._state["kept"]
        asked = ask(data, self._state["items"][item], offer=self.given.job.offer, misses=self.given.job.rules.misses)
        started = time.perf_counter()
        encoding = kept.encode(image)
        encoded = time.perf_counter()
        found = _Clicked(kept, encoding, asked, _truth(mask, asked), self.given)
        result = {"first": found.first(), "things": found.things(), "new": found.new()}
        return Record(result, {"encode": encoded - started, "click": time.perf_counter() - encoded})

    def stop(self) -> None:
        """Let the networks go."""
        self._state.clear()


@dataclass(eq=False)
class _Clicked:
    """One image."""

    kept: Kept
    encoding: Encoding
    asked: Asked
    truth: Ids
    given: Clicking

    def __post_init__(self) -> None:
        self.names = self.asked.vocabulary.names
        start = self._start(self.asked.vocabulary)
        self.starts = {name: _by(start, {**self.given.knobs, **knobs}) for name, knobs in VARIANTS.items()}
        self.guess = _ids(self.starts[BOTH])
        self.present = [label for label, name in enumerate(self.names) if name not in STUFF and bool((self.truth == label).any())]

    def first(self) -> list[Any]:
        """One click at the largest error of all."""
        click = next_click(self.guess, self.truth, ids=range(len(self.names)))
        thing = None if click is None else next((label for label in (click.label, click.instead) if self.names[label] not in STUFF), None)
        if click is None or thing is None:
            return [None, 0 if click is None else click.pixels, 0.0, {}]
        seed = Click(self.names[click.label], points=(click.x, click.y))
        after = {name: _round(iou(_ids(start.add(seed)), self.truth, thing)) for name, start in self.starts.items()}
        return [self.names[thing], click.pixels, _round(iou(self.guess, self.truth, thing)), after]

    def things(self) -> dict[str, dict[str, list[float]]]:
        """Each thing, click by click."""
        return {
            self.names[thing]: {name: self._clicked(start, self.truth, thing, self.given.cap) for name, start in self.starts.items()}
            for thing in self.present
        }

    def new(self) -> dict[str, list[float]]:
        """The largest thing as a label that has no words."""
        if not self.present:
            return {}
        thing = max(self.present, key=lambda label: int((self.truth == label).sum()))
        others = [label for label in self.asked.vocabulary if label.name != self.names[thing]]
        if len(others) + (self.asked.background is not None) < 2:
            return {}
        # The new label comes last.
        truth = np.where(self.truth == thing, len(others), self.truth - (self.truth > thing))
        start = self._start(Vocabulary(tuple(others)))
        return {self.names[thing]: self._clicked(start, truth, len(others), NEW, name=self.names[thing])}

    def _start(self, vocabulary: Vocabulary) -> Correction[Segmentation]:
        return self.kept.segmenter.correct(self.encoding, vocabulary, background=self.asked.background, settings=self.given.knobs)

    def _clicked(self, start: Correction[Segmentation], truth: Ids, thing: int, cap: int, *, name: str | None = None) -> list[float]:
        names: Sequence[str] = start.labels if name is None else (*start.labels, name)
        guess, edit = _ids(start), start
        marks = [_round(iou(guess, truth, thing))]
        while len(marks) <= cap and marks[-1] < REACHED:
            click = next_click(guess, truth, ids=range(len(names)), of=thing)
            if click is None:
                break
            edit = edit.add(Click(names[click.label], points=(click.x, click.y)))
            guess = _ids(edit)
            marks.append(_round(iou(guess, truth, thing)))
        return marks


def _by(start: Correction[Segmentation], settings: Mapping[str, Any]) -> Correction[Segmentation]:
    """The same start with other knobs; what was factorised for its α serves them all."""
    return dataclasses.replace(start, ground=dataclasses.replace(start.ground, options=parted(settings)[0]))


def _ids(edit: Correction[Segmentation]) -> Ids:
    return edit.result.segmentation.numpy()


def _truth(mask: Any, asked: Asked) -> Ids:
    """The mask in the ids of the result; −1 where it is none of them."""
    table = np.full(1 << 16, -1, np.int64)
    table[asked.ids] = np.arange(len(asked.ids))
    return table[mask]


def _round(value: float) -> float:
    return round(value, 3)
