"""Check class names before a run: names that the text tower can hardly tell apart, or reads in another sense.

Distances are 1 − cosine of text vectors under the recipe's templates, divided by the typical one: the median between the first strings of
the classes and common words for what stands behind things. 0 is the same vector, 1 as far as two unrelated names; so the numbers mean the
same in text towers whose cosines lie close together and in those whose cosines do not. Nothing here changes a name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nerveseg import backbones, datasets, registry
from nerveseg import recipe as recipes
from nerveseg.backbones.device import device_and_dtype
from nerveseg.datasets import classes
from nerveseg.datasets.classes import ClassNames
from nerveseg.errors import DataError, OptionError
from nerveseg.recipe import Recipe, with_absolute_paths
from nerveseg.reprs import brief
from nerveseg.weights.locate import locate
from nerveseg.words.prompts import clean, template_set
from nerveseg.words.vocabulary import BACKGROUND, BACKGROUND_WORDS, Label

__all__ = ["KINDS", "NEAR", "Finding", "Report", "Spread", "as_json", "check", "names_of", "tower"]

NEAR = 0.25
"""Share of the typical distance from which on two classes are told to be near."""

KINDS: Mapping[str, str] = {
    "same string": "one string in two classes: the first of them gets its pixels",
    "near": "two classes that the text tower hardly tells apart",
    "off sense": "a string that is nearer to another class than to its own",
    "unknown": "a word that this text tower was not trained on",
    "cut": "longer than the text tower reads",
    "no background": "every pixel will get one of the names",
}
"""Kind of a finding → what it means."""


@dataclass(frozen=True)
class Finding:
    """Something that may cost a run its meaning.

    Attributes:
        kind: one of `KINDS`.
        name: of the class; "" where it is about the list.
        string: of that class; "" likewise.
        other: name of the other class, or "".
        beside: string of the other class, or "".
        distance: between both strings, in typical distances; None where nothing is compared.
        own: in "off sense": distance to the nearest string that means the same; else None.
    """

    kind: str
    name: str = ""
    string: str = ""
    other: str = ""
    beside: str = ""
    distance: float | None = None
    own: float | None = None


@dataclass(frozen=True)
class Spread:
    """How far the strings of one class lie from each other: its synonyms' effect on what is looked for.

    Attributes:
        name: of the class.
        strings: how many it has.
        widest: distance of the farthest two, in typical distances. Near 0: they say the same to this text tower; 1: as far as two classes.
        first: one of the two.
        second: the other.
    """

    name: str
    strings: int
    widest: float
    first: str
    second: str


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        origin: of the names.
        digest: of the names.
        classes: how many, the background included.
        strings: how many in all.
        typical: distance, 1 − cosine, that is 1 in this report.
        findings: by kind, in the order of `KINDS`.
        spreads: of every class with two strings or more, the widest first.
    """

    origin: str
    digest: str
    classes: int
    strings: int
    typical: float
    findings: tuple[Finding, ...]
    spreads: tuple[Spread, ...]

    __repr__ = brief


def names_of(given: str) -> ClassNames:
    """Read names: ``DATA`` or ``DATA:LIST`` for a list that ships, such as ``voc21`` or ``voc21:lposs``; anything else is a file.

    Where the first class of a file is called background, it is the background.

    Raises:
        DataError: no such list, or a file that cannot be read or has no name.
        OptionError: a data set whose names are in a folder of yours.
    """
    data, _, origin = given.partition(":")
    if data in registry.names("datasets") and not Path(given).is_file():
        if not datasets.splits_of(data):
            raise OptionError(f"Got {data}, whose names are in a folder of yours. Accepted is their file. Give it, such as ROOT/names.txt.")
        if not classes.lists(data):  # drawn ones hold their own names
            return datasets.open(data, class_names=origin or "official").names
        module = registry.load("datasets", data)
        return classes.read(data, origin or "official", count=module.count, background=module.background)
    found = classes.read("a check", given)
    if not len(found):
        raise DataError(f"Got no name in {given}. Accepted is one class a line, ';' between its strings. Write them.")
    return found


def tower(recipe: str | Path | Recipe, *, device: str | None = None, dtype: str | None = None, offline: bool = False) -> tuple[Any, Recipe]:
    """Load the network whose text tower compares words with images in a recipe, and no other.

    Returns:
        The network, with ``text``, ``unknown`` and ``truncated``; and the recipe.

    Raises:
        OptionError: a label source that has no text vectors. WeightsNotFound, WeightsError: its weights.
    """
    chosen = with_absolute_paths(recipe, recipes.load(recipe)) if not isinstance(recipe, Recipe) else recipe
    kind = chosen.labels.module.embeds
    if kind is None:
        raise OptionError(
            f"Got the recipe {chosen.name!r}, whose words go through the network in one prompt and have no vectors to compare. "
            "Accepted are recipes of a CLIP. Choose one, such as maskclip."
        )
    place, precision = device_and_dtype(device, dtype)
    if kind not in chosen.weights:
        raise OptionError(f"Got the recipe {chosen.name!r} without weights for {kind}. Accepted is one with them. Add it to [weights].")
    folder = locate(chosen.weights[kind], offline=offline, kind=kind)
    with torch.random.fork_rng(devices=[]):
        return backbones.load(kind, folder.path, device=place, dtype=precision), chosen


def check(
    names: ClassNames, network: Any, *, templates: str | Sequence[str], against: ClassNames | None = None, near: float = NEAR
) -> Report:
    """Look through a list of names.

    Args:
        names: the list. A first class called background is the background.
        network: with ``text``, ``unknown`` and ``truncated``.
        templates: sentences that the recipe puts words into.
        against: names of the same classes in the same order, to tell in which sense they are meant; a background may be in one alone.
        near: share of the typical distance from which on two classes are near. Larger: more is told.

    Cost: one pass of the text tower a string and template, and O(s²·E) for s strings.

    Raises:
        DataError: ``against`` has other classes. OptionError: ``near``, or templates.
    """
    if not 0 <= near <= 1:
        raise OptionError(f"Got near = {near}. Accepted is 0 to 1, in typical distances. Choose 0.25, or a larger one to be told more.")
    sentences = template_set(templates)
    owned = [(place, string) for place, label in enumerate(names.labels) for string in label.strings]
    strings = [string for _, string in owned]
    rows = network.text(strings, sentences).double().cpu()
    typical = _typical(names, network, sentences)
    apart = ((1 - rows @ rows.T) / typical).numpy()
    owners = np.array([place for place, _ in owned])
    found = [*_listed(names), *_read(names, network, sentences)]
    found += _same(names, owned)
    found += _near(names, owned, owners, apart, near)
    found += _off(names, owned, owners, apart)
    if against is not None:
        found += _against(names, owned, rows, _meant(names, against), network, sentences, typical)
    order = list(KINDS)
    # A string that is off by both its synonyms and the other list is told once.
    kept = list({(one.kind, one.name, one.string, one.beside): one for one in found}.values())
    kept.sort(key=lambda one: (order.index(one.kind), one.distance if one.distance is not None else 0.0))
    return Report(names.origin, names.digest, len(names), len(strings), typical, tuple(kept), tuple(_spreads(names, owned, owners, apart)))


def _typical(names: ClassNames, network: Any, sentences: Sequence[str]) -> float:
    """The median of 1 − cosine between first strings and common words that this tower knows."""
    taken = {clean(label.strings[0]).casefold() for label in names.labels}
    unknown = set(network.unknown(BACKGROUND_WORDS))
    common = [word for word in BACKGROUND_WORDS if word not in taken and word not in unknown]
    rows = network.text([*(label.strings[0] for label in names.labels), *common], sentences).double().cpu()
    places = torch.triu_indices(len(rows), len(rows), 1)
    between = (1 - rows @ rows.T)[places[0], places[1]]
    middle = float(between.median()) if between.numel() else 1.0
    return middle if middle > 0 else 1.0


def _listed(names: ClassNames) -> Iterator[Finding]:
    if not names.others and not _background(names.labels):
        yield Finding("no background")


def _background(labels: Sequence[Label]) -> bool:
    return any(BACKGROUND in (label.name.casefold(), *(string.casefold() for string in label.strings)) for label in labels)


def _read(names: ClassNames, network: Any, sentences: Sequence[str]) -> Iterator[Finding]:
    for label in names.labels:
        for string in network.unknown(label.strings):
            yield Finding("unknown", label.name, string)
        for string in network.truncated(label.strings, sentences):
            yield Finding("cut", label.name, string)


def _same(names: ClassNames, owned: Sequence[tuple[int, str]]) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for place, string in owned:
        first = seen.setdefault(clean(string).casefold(), place)
        if first != place:
            yield Finding("same string", names.names[first], string, names.names[place], string, 0.0)


def _near(
    names: ClassNames, owned: Sequence[tuple[int, str]], owners: np.ndarray, apart: Float[np.ndarray, "s s"], near: float
) -> Iterator[Finding]:
    """The nearest strings of every pair of classes that are near."""
    found: dict[tuple[int, int], tuple[float, int, int]] = {}
    rows, columns = np.nonzero(np.triu((apart <= near) & (owners[:, None] != owners[None]), 1))
    for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
        if clean(owned[i][1]).casefold() == clean(owned[j][1]).casefold():
            continue  # told as the same string
        pair = (int(owners[i]), int(owners[j]))
        found[pair] = min(found.get(pair, (np.inf, 0, 0)), (float(apart[i, j]), i, j))
    for (one, other), (distance, i, j) in found.items():
        yield Finding("near", names.names[one], owned[i][1], names.names[other], owned[j][1], max(0.0, distance))


def _off(names: ClassNames, owned: Sequence[tuple[int, str]], owners: np.ndarray, apart: Float[np.ndarray, "s s"]) -> Iterator[Finding]:
    """Strings of a class with several that lie nearer to another class; those of the background may mean anything."""
    rest = names.names.index(BACKGROUND) if BACKGROUND in names.names else -1
    keys = np.array([clean(string).casefold() for _, string in owned])
    for i, (place, string) in enumerate(owned):
        alike, others = owners == place, (owners != place) & (owners != rest) & (keys != keys[i])
        alike[i] = False
        if place == rest or not alike.any() or not others.any():
            continue
        own = float(apart[i][alike].min())
        j = int(np.flatnonzero(others)[apart[i][others].argmin()])
        if apart[i, j] < own:
            yield Finding("off sense", names.names[place], string, names.names[owned[j][0]], owned[j][1], max(0.0, float(apart[i, j])), own)


def _meant(names: ClassNames, against: ClassNames) -> tuple[Label | None, ...]:
    """What each class is meant to be; None for a background, which means whatever is left."""
    ours, theirs = (found.names[:1] == (BACKGROUND,) for found in (names, against))
    labels = against.labels[1:] if theirs else against.labels
    if len(labels) + ours != len(names):
        raise DataError(
            f"Got {len(labels)} classes in {against.origin} against {len(names) - ours} in {names.origin}, backgrounds not counted. "
            "Accepted are lists of the same classes in the same order. Give the list of this data set."
        )
    return ((None, *labels) if ours else tuple(labels)) if len(labels) else ()


def _against(
    names: ClassNames,
    owned: Sequence[tuple[int, str]],
    rows: Float[Tensor, "s E"],
    meant: Sequence[Label | None],
    network: Any,
    sentences: Sequence[str],
    typical: float,
) -> Iterator[Finding]:
    """Strings that lie nearer to what another class is meant to be."""
    told = [(place, string) for place, label in enumerate(meant) if label is not None for string in label.strings]
    if not told:
        return
    other = network.text([string for _, string in told], sentences).double().cpu()
    apart = ((1 - rows @ other.T) / typical).numpy()
    places = np.array([place for place, _ in told])
    for i, (place, string) in enumerate(owned):
        if meant[place] is None or (places == place).all():
            continue
        own = float(apart[i][places == place].min())
        j = int(np.flatnonzero(places != place)[apart[i][places != place].argmin()])
        if apart[i, j] < own:
            label = meant[told[j][0]]
            name = "" if label is None else label.name
            yield Finding("off sense", names.names[place], string, name, told[j][1], max(0.0, float(apart[i, j])), own)


def _spreads(names: ClassNames, owned: Sequence[tuple[int, str]], owners: np.ndarray, apart: Float[np.ndarray, "s s"]) -> list[Spread]:
    found: list[Spread] = []
    for place, label in enumerate(names.labels):
        mine = np.flatnonzero(owners == place)
        if len(mine) < 2:
            continue
        block = apart[np.ix_(mine, mine)]
        i, j = np.unravel_index(block.argmax(), block.shape)
        first, second = sorted((int(i), int(j)))
        found.append(Spread(label.name, len(mine), float(block[i, j]), owned[mine[first]][1], owned[mine[second]][1]))
    return sorted(found, key=lambda one: -one.widest)


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain values."""
    return dataclasses.asdict(report)
