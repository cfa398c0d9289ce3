"""An ablation as a long job: images that rules are chosen on and images that are scored, every variant on each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from nerveseg import registry
from nerveseg.bench.ablate import _solve
from nerveseg.bench.ablate.base import RULES, Rule, Setting, Variant
from nerveseg.bench.cache import Kept
from nerveseg.bench.confusion import count
from nerveseg.bench.holdout import parted
from nerveseg.bench.job import Job, about, identity
from nerveseg.bench.words import Asked, ask
from nerveseg.datasets import DataSet, Item, splits_of
from nerveseg.datasets.classes import has_synonyms, read
from nerveseg.errors import DataError, OptionError
from nerveseg.image import LoadedImage
from nerveseg.masks.decide import decide
from nerveseg.masks.rules.base import through_of
from nerveseg.masks.upsample import resample
from nerveseg.recipe import Recipe
from nerveseg.reprs import brief
from nerveseg.runs.plan import Plan
from nerveseg.runs.worker import Record
from nerveseg.segmenter import Encoding, Segmenter

__all__ = ["CHOOSE", "SCORE", "Ablation", "Parts", "Worker", "plan"]

CHOOSE, SCORE = "choose", "score"
"""The two parts of the items: ``choose/NAME`` and ``score/NAME``."""


@dataclass(frozen=True)
class Ablation:
    """Which ablation of which job.

    Attributes:
        kind: registry name.
        job: the recipe, the data set and the split that is scored.
        choose: how many images, at most, rules are chosen on, none of which is scored; 0: every variant keeps the recipe's rule.
        choose_split: split that those are of; None: the first other one that the data set has. Where it is the one that is scored, or
            there is no other, its images are parted (`nerveseg.bench.holdout`): at most half are chosen on, and the rest are scored.
        synonyms: file of other words for the classes, for ablations of names.
        cache: folder of encodings; None: networks are passed once an image, and again in the next ablation.
        half: keep encodings in float16.
        variants: in place of those of the ablation's file.
        rules: that each variant is measured by, () for its recipe's own; None: `RULES` where images to choose on are, else its own.
    """

    kind: str
    job: Job
    choose: int = 60
    choose_split: str | None = None
    synonyms: str | None = None
    cache: str | None = None
    half: bool = False
    variants: tuple[Variant, ...] | None = None
    rules: tuple[Rule, ...] | None = None

    @property
    def measured_by(self) -> tuple[Rule, ...]:
        """The rules of every variant; none: its recipe's own."""
        return self.rules if self.rules is not None else RULES if self.choose else ()

    __repr__ = brief

    @property
    def module(self) -> ModuleType:
        """The ablation's file."""
        return registry.load("ablations", self.kind)

    def parts(self) -> Parts:
        """Open the images that are scored, and those that rules are chosen on.

        Raises:
            OptionError: a single image for both, or a split to choose on that is not there. What opening raises.
        """
        data = self.job.open()
        scored = dataclasses.replace(data, items=data.items[: self.job.limit])
        if self.choose == 0:
            return Parts(scored, None)
        split = self.choose_split or _other(data, self.job.root)
        if split != data.split:
            try:
                other = dataclasses.replace(self.job, split=split, limit=None).open()
            except DataError as error:
                raise OptionError(
                    f"Got the split {split!r} of {data.name} to choose rules on, which cannot be opened: {error} Accepted are also "
                    f"--choose-split {data.split}, which chooses on a part of what would be scored, and --choose 0, which keeps the "
                    "recipe's rule. Complete that split, or give one of these."
                ) from error
            # Splits may share images: VOC's train_aug has those of train, a folder's "all" those of its folders.
            seen = {(item.image, item.box) if item.image is not None else item.id for item in scored.items}
            apart = [item for item in other.items if ((item.image, item.box) if item.image is not None else item.id) not in seen]
            if not apart:
                raise OptionError(
                    f"Got the split {split!r} of {data.name} to choose rules on, all of whose images are scored. Accepted are others. "
                    f"Give --choose-split {data.split}, which parts what would be scored, or another split."
                )
            return Parts(scored, dataclasses.replace(other, items=tuple(apart[: self.choose])))
        if len(scored) < 2:
            raise OptionError(
                f"Got {len(scored)} image of {data.name} {data.split} to choose rules on and to score. Accepted are two and more. "
                "Take more, or choose on 0 images (--choose 0), which keeps the recipe's rule."
            )
        choosing, rest = parted(scored.items, self.choose)
        return Parts(dataclasses.replace(scored, items=rest), dataclasses.replace(scored, items=choosing))


@dataclass(frozen=True, eq=False)
class Parts:
    """The images of an ablation; no image is in both parts.

    Attributes:
        scored: those that are scored.
        choosing: those that rules are chosen on; None: every variant has one rule.
    """

    scored: DataSet
    choosing: DataSet | None

    @property
    def items(self) -> dict[str, tuple[DataSet, Item]]:
        """Name in the plan → data set and item, in the order of the plan."""
        named = ((CHOOSE, self.choosing), (SCORE, self.scored))
        return {f"{part}/{item.id}": (data, item) for part, data in named if data is not None for item in data.items}


def plan(given: Ablation, *, command: str = "", shard: tuple[int, int] = (0, 1)) -> Plan:
    """Fix items and identity; reads the weights for their digests."""
    parts = given.parts()
    rules = [rule.label for rule in RULES]
    mine = {"ablation": given.kind, "choose": given.choose, "rules": rules, "half": given.half, "synonyms": _digest(given)}
    where = None if parts.choosing is None else parts.choosing.split
    told = about(given.job, command=command, choose_split=where)
    return Plan(tuple(parts.items), {**identity(given.job, parts.scored), **mine, "kind": "nerveseg-ablate-1"}, told, shard)


@dataclass(eq=False)
class Worker:
    """Labels images by every variant; picklable until `start`.

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
        parts = self.given.parts()
        data = parts.scored
        segmenter = job.load()
        first = self._kept(segmenter).encode(data.read(data.items[0])[0])
        setting = Setting(segmenter.recipe, segmenter.networks, first.heads.count if first.heads else 0, data, _path(self.given.synonyms))
        self._state = {
            "segmenter": segmenter,
            "items": parts.items,
            "variants": _solve.prepare(
                segmenter.recipe, self.given.module.variants(setting) if self.given.variants is None else self.given.variants
            ),
        }

    def read(self, item: str) -> Any:
        """The image and its mask."""
        data, entry = self._state["items"][item]
        return data.read(entry)

    def work(self, item: str, read: Any) -> Record:
        """Every variant by every rule."""
        image, mask = read
        data, entry = self._state["items"][item]
        segmenter: Segmenter = self._state["segmenter"]

        def encode(recipe: Recipe) -> Encoding:
            return self._kept(dataclasses.replace(segmenter, recipe=recipe)).encode(image)

        def asked(variant: Variant) -> Asked:
            return self._asked(data, entry, variant)

        found: dict[str, dict[str, Any]] = {}
        for prepared, solved in _solve.Solver(segmenter, encode, asked)(self._state["variants"]):
            words = asked(prepared.variant)
            rules = {
                label: count(mask, words.guess(ids), data.classes).tolist()
                for label, ids in self._decided(solved, words, image, prepared.recipe)
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

    def _decided(self, solved: _solve.Solved, asked: Asked, image: LoadedImage, recipe: Recipe) -> Iterator[tuple[str, Any]]:
        maps = [columns.T.unflatten(1, solved.grid) for columns in (solved.P, solved.G)]
        background = asked.background is not None
        for label, rule, options in _rules(recipe, self.given.measured_by):
            through = through_of(registry.load("rules", rule), options)
            P = resample(maps[0], (through, through)) if through else maps[0]
            G = solved.own if solved.own is not None and rule == recipe.rule.name else maps[1]
            ids = decide(P, G, image.size, background=background, rule=rule, options=options, scale=solved.scale)
            yield label, ids.cpu().numpy()


def _other(data: DataSet, root: str | None) -> str:
    """The split to choose on where none is named: val or train, whichever is not scored; the scored one where there is no other."""
    known = splits_of(data.name, root)
    others = [split for split in known if split != data.split] if data.split in known else []  # all of a folder leaves no other
    return next((split for split in ("val", "train") if split in others), others[0] if others else data.split)


def _digest(given: Ablation) -> str | None:
    """Of the words that an ablation of names draws from, whether they ship or come from a file."""
    if given.kind != "names":
        return None
    path = given.synonyms or ("synonyms" if has_synonyms(given.job.data) else None)
    return None if path is None else read(given.job.data, path).digest


def _about(variant: Variant) -> dict[str, Any]:
    about = {"at": variant.at, "group": variant.group, "worst": variant.worst}
    return {name: value for name, value in about.items() if value is not None and value is not False}


def _rules(recipe: Recipe, measured_by: Sequence[Rule]) -> Iterator[tuple[str, str, Any]]:
    if not measured_by:
        yield recipe.rule.name, recipe.rule.name, recipe.rule.options
    for rule in measured_by:
        yield rule.label, rule.name, _options(rule, recipe)


def _options(rule: Rule, recipe: Recipe) -> Any:
    # The recipe's own knobs, such as a floor, stay with its own rule.
    knobs: Mapping[str, Any] = dataclasses.asdict(recipe.rule.options) if rule.name == recipe.rule.name else {}
    return registry.options(registry.load("rules", rule.name).Options, {**knobs, **rule.knobs}, rule.name)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
