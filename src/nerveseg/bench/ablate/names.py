"""The effect of class names on a score: the lists that ship, one string a class, random synonyms, and many words for the background."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

from nerveseg import datasets
from nerveseg.bench.ablate.base import CONTROLS, Setting, Variant
from nerveseg.datasets import DataSet, classes
from nerveseg.datasets.classes import SYNONYMS, ClassNames
from nerveseg.words.vocabulary import BACKGROUND, Background, Label, Vocabulary

__all__ = ["DRAWS", "WORST", "claim", "draw", "plain", "reference", "title", "variants"]

title = "Names of the classes"
claim = "No names are printed, and no other words for the classes."
reference = "official names"

DRAWS = 5
"""Draws of synonyms."""

WORST = "worst draw"
"""The group of the draws; its worst is a row."""


def variants(given: Setting) -> tuple[Variant, ...]:
    """The rows.

    - official names: the data set's own list; where it was opened with another, that is a row as well;
    - plain names: the first string of each class alone, the background's included;
    - every other list that ships;
    - the official names with many words for the background, where there is one: what a list gains by its background alone;
    - five draws of one other word a class, the background's strings untouched, so that the classes' words alone differ; where there is a
      file of synonyms, given or shipped. Each draw is a row, and the worst one, chosen on images that are not scored, the robust score.
    """
    data = given.data
    official = data.names
    if official.origin != "official":
        official = datasets.open(data.name, data.root, split=data.split, protocol=data.protocol).names
    rows = [*(Variant(control.name, control.settings, names=official) for control in CONTROLS), Variant(reference, names=official)]
    rows.append(Variant("plain names", names=plain(official)))  # also where it is the same: a table without it would be asked for it
    seen = {row.names.digest for row in rows if row.names is not None}
    for name, names in _named(data, official):
        if names.digest not in seen:
            seen.add(names.digest)
            rows.append(Variant(name, names=names))
    rows += [Variant(f"draw {number} of synonyms", group=WORST, worst=True, names=names) for number, names in _drawn(given, official)]
    return tuple(rows)


def _named(data: DataSet, official: ClassNames) -> Iterator[tuple[str, ClassNames]]:
    for origin in classes.lists(data.name):
        if origin != "official":
            yield f"list {origin}", classes.read(data.name, origin, count=data.classes, background=data.background)
    if data.names.origin != "official":
        yield "names as given", data.names
        yield "names as given, plain", plain(data.names)
    if data.background:
        kept = Vocabulary(official.labels[1:])
        many = Background.parse("auto", kept)
        words = official.labels[0].strings if many is None else many.strings
        yield "official names, many background words", ClassNames((Label(BACKGROUND, words), *kept.labels), "many background words")


def _drawn(given: Setting, official: ClassNames) -> Iterator[tuple[int, ClassNames]]:
    data = given.data
    if given.synonyms is None and not classes.has_synonyms(data.name):
        return
    found = classes.read(data.name, given.synonyms or SYNONYMS, count=data.classes, background=data.background)
    yield from ((seed + 1, draw(official, found, seed, background=data.background)) for seed in range(DRAWS))


def plain(names: ClassNames) -> ClassNames:
    """The first string of each class alone."""
    labels = tuple(Label(label.name, label.strings[:1]) for label in names.labels)
    return dataclasses.replace(names, labels=labels, origin=f"{names.origin}, plain")


def draw(official: ClassNames, synonyms: ClassNames, seed: int, *, background: bool) -> ClassNames:
    """One other word for each class.

    Args:
        official: names that the classes keep; their own strings are not drawn, unless there is nothing else.
        synonyms: words of the same classes in the same order.
        seed: equal seeds give equal words on every machine.
        background: class 0 keeps the official strings.

    A word that another class was given before is not drawn again where there is a choice.
    """
    chance = random.Random(f"synonyms {seed}")  # noqa: S311  words, not secrets
    taken: set[str] = set()
    labels: list[Label] = []
    for index, (own, other) in enumerate(zip(official.labels, synonyms.labels, strict=True)):
        if background and index == 0:
            labels.append(own)
            continue
        known = {string.casefold() for string in own.strings}
        words = [string for string in other.strings if string.casefold() not in known] or list(own.strings[:1])
        free = [string for string in words if string.casefold() not in taken] or words
        word = free[int(chance.random() * len(free))]
        taken.add(word.casefold())
        labels.append(Label(own.name, (word,)))
    return ClassNames(tuple(labels), f"{synonyms.origin}, draw {seed + 1}")
