"""Decide which runs may be compared, and compute the paired difference of two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nerveseg.bench.report.bootstrap import DRAWS, Interval, difference
from nerveseg.bench.report.folder import Run
from nerveseg.errors import RunError
from nerveseg.reprs import brief

__all__ = ["Paired", "apart", "changed", "compare", "same_field"]


@dataclass(frozen=True)
class Paired:
    """Two runs over the same images.

    Attributes:
        run: the one.
        against: the other.
        difference: mIoU(run) − mIoU(against), with its interval.
        differ: what else of them differs, in words; such as another list of names.
        draws: of the bootstrap.
        seed: likewise.
    """

    run: Run
    against: Run
    difference: Interval
    differ: tuple[str, ...]
    draws: int
    seed: int

    __repr__ = brief


def same_field(one: Run, other: Run) -> bool:
    """Whether two runs are of one data set, split and protocol."""
    return (one.data, one.split, one.protocol) == (other.data, other.split, other.protocol)


def compare(run: Run, against: Run, *, draws: int = DRAWS, seed: int = 0) -> Paired:
    """Score a run against another on the same images.

    Args:
        run: the one.
        against: the other; the order of its images may be another.
        draws: of the bootstrap.
        seed: of the draws.

    Raises:
        RunError: another data set, split, protocol or set of images; it is named.
    """
    for what, one, other in _fields(run, against):
        if one != other:
            raise RunError(
                f"Got {run.folder} with {what} {one} and {against.folder} with {what} {other}. "
                "Accepted for a paired difference are runs over the same images, masks and classes. Choose two such runs."
            )
    tallies = against.tallies
    if run.items != against.items:
        place = {item: at for at, item in enumerate(against.items)}
        tallies = tallies.ordered(np.array([place[item] for item in run.items], np.int64))
    if (run.tallies.true - tallies.true).count_nonzero():
        raise RunError(
            f"Got {run.folder} and {against.folder}, whose masks differ. Accepted are runs over the same masks. "
            "Convert the data set once, and run both on it."
        )
    found = difference(run.tallies, tallies, average=run.average, draws=draws, seed=seed)
    return Paired(run, against, found, tuple(apart(run, against)), draws, seed)


def _fields(run: Run, against: Run) -> Iterator[tuple[str, object, object]]:
    for what in ("data", "split", "protocol"):
        yield f"the {what}", getattr(run, what), getattr(against, what)
    yield "the number of classes", len(run.classes), len(against.classes)
    mine, theirs = set(run.items), set(against.items)
    missing = sorted(mine ^ theirs)
    if missing:
        first = missing[0]
        yield (
            "the images",
            f"{len(mine)} ({'with' if first in mine else 'without'} {first!r})",
            f"{len(theirs)} ({'with' if first in theirs else 'without'} {first!r})",
        )
        return
    digests = dict(zip(against.items, against.images, strict=True))
    for item, image in zip(run.items, run.images, strict=True):
        if digests[item] != image:
            yield f"the image {item!r} of digest", image, digests[item]
            return


def apart(one: Run, other: Run) -> Iterator[str]:
    """Say in what two runs of one data set differ that a reader of their scores has to know, the recipe aside."""
    for what, mine, theirs in (
        ("names list", one.names, other.names),
        ("labels offered", one.identity.get("offer"), other.identity.get("offer")),
        ("precision", one.identity.get("dtype"), other.identity.get("dtype")),
    ):
        if mine != theirs:
            yield f"{what}: {mine}, not {theirs}"


def changed(run: Run) -> tuple[str, ...]:
    """The knobs in which a run's recipe differs from the recipe of its name that ships, seeds aside; empty where none of its name ships."""
    import tomllib

    from nerveseg import recipe as recipes

    if run.recipe not in recipes.list_recipes():
        return ()
    shipped = tomllib.loads(recipes.load(run.recipe).for_benchmark(run.data.replace("_", "-")).to_toml())
    left, right = _flat(run.tables), _flat(shipped)
    return tuple(
        knob for knob in sorted({*left, *right}) if left.get(knob) != right.get(knob) and "." in knob and not knob.endswith(".seed")
    )


def _flat(tables: object) -> dict[str, object]:
    rows = tables if isinstance(tables, dict) else {}
    return {
        f"{name}.{knob}": value
        for name, table in rows.items()
        if isinstance(table, dict) and name != "benchmarks"
        for knob, value in table.items()
    }
