"""An ablation as a long job: pictures that rules are chosen on and pictures that are scored, every variant on each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from nerveseg import registry
from nerveseg.bench.ablate import _solve
from nerveseg.bench.ablate.base import RULES, Rule, Setting, Variant
from nerveseg.bench.cache import Kept
from nerveseg.bench.confusion import count
from nerveseg.bench.job import Job, about, identity
from nerveseg.bench.words import Asked, ask
from nerveseg.datasets import DataSet, Item
from nerveseg.datasets.classes import has_synonyms, read
from nerveseg.errors import OptionError
from nerveseg.masks.decide import decide
from nerveseg.masks.upsample import resample
from nerveseg.picture import Picture
from nerveseg.recipe import Recipe
from nerveseg.runs.plan import Plan
from nerveseg.runs.worker import Record
from nerveseg.segmenter import Encoding, Segmenter
from nerveseg.showing import brief

__all__ = ["CHOOSE", "SCORE", "Ablation", "Worker", "plan"]

CHOOSE, SCORE = "choose", "score"
"""The two parts of the items: ``choose/NAME`` and ``score/NAME``."""


@dataclass(frozen=True)
class Ablation:
    """Which ablation of which job.

    Attributes:
        kind: registry name.
        job: the recipe, the data set and the split that is scored.
        choose: how many pictures of another split rules are chosen on; 0: every variant keeps the recipe's rule.
        choose_split: that split; None: the first other one that the data set has.
        synonyms: file of other words for the classes, for ablations of names.
        cache: folder of encodings; None: networks are passed once a picture, and again in the next ablation.
        half: keep encodings in float16.
        variants: in place of those of the ablation's file.
    """

    kind: str
    job: Job
    choose: int = 60
    choose_split: str | None = None
    synonyms: str | None = None
    cache: str | None = None
    half: bool = False
    variants: tuple[Variant, ...] | None = None

    __repr__ = brief

    @property
    def module(self) -> ModuleType:
        """The ablation's file."""
        return registry.load("ablations", self.kind)

    def choosing(self, data: DataSet) -> Job | None:
        """The job of the pictures that rules are chosen on, none of which is scored."""
        if self.choose == 0:
            return None
        others = [split for split in registry.load("datasets", data.name).splits if split != data.split]
        split = self.choose_split or next(
            iter(sorted(others, key=("val", "train").index) if set(others) <= {"val", "train"} else others), None
        )
        if split is None or split == data.split:
            raise OptionError(
                f"Got the split {split!r} of {data.name} to choose rules on, and {data.split!r} to score. Accepted are two splits. "
                "Name another split, or choose on 0 pictures, which keeps the recipe's rule."
            )
        return dataclasses.replace(self.job, split=split, limit=self.choose)


def plan(given: Ablation, *, command: str = "", shard: tuple[int, int] = (0, 1)) -> Plan:
    """Fix items and identity; reads the weights for their digests."""
    data = given.job.open()
    choosing = given.choosing(data)
    items = [f"{SCORE}/{item.id}" for item in data.items[: given.job.limit]]
    if choosing is not None:
        items = [f"{CHOOSE}/{item.id}" for item in choosing.open().items[: choosing.limit]] + items
    rules = [rule.label for rule in RULES]
    mine = {"ablation": given.kind, "choose": given.choose, "rules": rules, "half": given.half, "synonyms": _digest(given)}
    return Plan(tuple(items), {**identity(given.job, data), **mine, "kind": "nerveseg-ablate-1"}, about(given.job, command=command), shard)


@dataclass(eq=False)
class Worker:
    """Labels pictures by every variant; picklable until `start`.

    A result line holds ``{"variants": {name: {"about": {…}, "rules": {rule: [[truth, guess, pixels], …]}}}}``.
    """

    given: Ablation
    _state: dict[str, Any] = field(default_factory=dict, repr=False)

    __repr__ = brief

    def __call__(self) -> Worker:
        """A worker of its own for a process."""
        return Worker(self.given)

    def start(self) -> None:
        """Open the data, load the networks, compose every variant's recipe."""
        job = self.given.job
        data = job.open()
        choosing = self.given.choosing(data)
        parts = {SCORE: data} if choosing is None else {SCORE: data, CHOOSE: choosing.open()}
        segmenter = job.load()
        first = self._kept(segmenter).encode(data.read(data.items[0])[0])
        setting = Setting(segmenter.recipe, segmenter.networks, first.heads.count if first.heads else 0, data, _path(self.given.synonyms))
        self._state = {
            "segmenter": segmenter,
            "data": parts,
            "items": {f"{part}/{item.id}": (of, item) for part, of in parts.items() for item in of.items},
            "variants": _solve.prepare(
                segmenter.recipe, self.given.module.variants(setting) if self.given.variants is None else self.given.variants
            ),
        }

    def read(self, item: str) -> Any:
        """The picture and its mask."""
        data, entry = self._state["items"][item]
        return data.read(entry)

    def work(self, item: str, read: Any) -> Record:
        """Every variant by every rule."""
        picture, mask = read
        data, entry = self._state["items"][item]
        segmenter: Segmenter = self._state["segmenter"]

        def encode(recipe: Recipe) -> Encoding:
            return self._kept(dataclasses.replace(segmenter, recipe=recipe)).encode(picture)

        def asked(variant: Variant) -> Asked:
            return self._asked(data, entry, variant)

        found: dict[str, dict[str, Any]] = {}
        for prepared, solved in _solve.Solver(segmenter, encode, asked)(self._state["variants"]):
            words = asked(prepared.variant)
            rules = {
                label: count(mask, words.guess(ids), data.classes).tolist()
                for label, ids in self._decided(solved, words, picture, prepared.recipe)
            }
            found[prepared.variant.name] = {"about": _about(prepared.variant), "rules": rules}
        return Record({"variants": found})

    def stop(self) -> None:
        """Let the networks go."""
        self._state.clear()

    def _kept(self, segmenter: Segmenter) -> Kept:
        return Kept(segmenter, _path(self.given.cache), half=self.given.half)

    def _asked(self, data: DataSet, item: Item, variant: Variant) -> Asked:
        named = data if variant.names is None else dataclasses.replace(data, names=variant.names)
        return ask(named, item, offer=self.given.job.offer, misses=self.given.job.rules.misses)

    def _decided(self, solved: _solve.Solved, asked: Asked, picture: Picture, recipe: Recipe) -> Iterator[tuple[str, Any]]:
        maps = [columns.T.unflatten(1, solved.grid) for columns in (solved.P, solved.G)]
        background = asked.background is not None
        for label, rule, options in _rules(recipe, choose=self.given.choose > 0):
            through = getattr(options, "through", 0)
            P = resample(maps[0], (through, through)) if through else maps[0]
            G = solved.own if solved.own is not None and rule == recipe.rule.name else maps[1]
            ids = decide(P, G, picture.size, background=background, rule=rule, options=options, scale=solved.scale)
            yield label, ids.cpu().numpy()


def _digest(given: Ablation) -> str | None:
    """Of the words that an ablation of names draws from, whether they ship or come from a file."""
    if given.kind != "names":
        return None
    path = given.synonyms or ("synonyms" if has_synonyms(given.job.data) else None)
    return None if path is None else read(given.job.data, path).digest


def _about(variant: Variant) -> dict[str, Any]:
    about = {"at": variant.at, "group": variant.group, "worst": variant.worst}
    return {name: value for name, value in about.items() if value is not None and value is not False}


def _rules(recipe: Recipe, *, choose: bool) -> Iterator[tuple[str, str, Any]]:
    if not choose:
        yield recipe.rule.name, recipe.rule.name, recipe.rule.options
        return
    for rule in RULES:
        yield rule.label, rule.name, _options(rule, recipe)


def _options(rule: Rule, recipe: Recipe) -> Any:
    # The recipe's own knobs, such as a floor, stay with its own rule.
    knobs: Mapping[str, Any] = dataclasses.asdict(recipe.rule.options) if rule.name == recipe.rule.name else {}
    return registry.options(registry.load("rules", rule.name).Options, {**knobs, **rule.knobs}, rule.name)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
