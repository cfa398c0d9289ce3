"""The content of a report: runs by data set, their intervals and differences, and the published rows beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import MappingProxyType

from nerveseg import registry
from nerveseg.bench.published import Published, read
from nerveseg.bench.report.bootstrap import DRAWS, Interval, interval
from nerveseg.bench.report.compare import Paired, changed, compare, same_field
from nerveseg.bench.report.folder import Run, load
from nerveseg.errors import OptionError, RegistryError, RunError
from nerveseg.reprs import brief

__all__ = ["BENCHMARKS", "PUBLISHED", "Field", "Report", "build", "names_list", "told"]

BENCHMARKS: Mapping[str, str] = MappingProxyType(
    {
        "voc21": "V21",
        "context60": "PC60",
        "coco_object": "C-Obj",
        "voc20": "V20",
        "ade20k": "ADE",
        "context59": "PC59",
        "coco_stuff": "C-Stf",
        "cityscapes": "City",
    }
)
"""Data set → its head in Table 1 of the NERVE paper, in the order of that table; Cityscapes, which it has not, comes last."""

PUBLISHED = ("near", "all", "none")
"""Published rows: those of the paper's Table 1 and those that the recipes here are to be held against; all; none."""


@dataclass(frozen=True, eq=False)
class Field:
    """The runs on one data set, split and protocol.

    Attributes:
        runs: in the order they were given.
        intervals: of each run's mIoU, over images.
        paired: differences to the runs that the report is held against.
    """

    runs: tuple[Run, ...]
    intervals: tuple[Interval, ...]
    paired: tuple[Paired, ...]

    __repr__ = brief

    @property
    def data(self) -> str:
        """Registry name of the data set."""
        return self.runs[0].data

    @property
    def title(self) -> str:
        """Data set, split, protocol."""
        first = self.runs[0]
        return f"{first.data}, {first.split}, protocol {first.protocol}"


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that the formats write.

    Attributes:
        runs: as given.
        labels: what each is called: the recipe, with its folder where two would be called the same.
        fields: the runs by data set, split and protocol.
        published: rows to set beside ours.
        changes: for each run, the knobs in which its recipe is not the one of that name that ships.
        per_class: whether tables class by class are asked for.
        draws: of the bootstrap.
        seed: likewise.
    """

    runs: tuple[Run, ...]
    labels: Mapping[Path, str]
    fields: tuple[Field, ...]
    published: tuple[Published, ...]
    changes: Mapping[Path, tuple[str, ...]]
    per_class: bool
    draws: int
    seed: int

    __repr__ = brief


def build(
    folders: Sequence[str | Path],
    *,
    against: Sequence[str | Path] = (),
    per_class: bool = False,
    published: str = "near",
    draws: int = DRAWS,
    seed: int = 0,
    said: Callable[[str, int], None] = lambda *_: None,
) -> Report:
    """Read runs and make a report of them.

    Args:
        folders: of finished runs.
        against: folders of runs that each of the others on the same data set is paired with.
        per_class: add tables class by class.
        published: one of `PUBLISHED`.
        draws: of the bootstrap.
        seed: of the draws.
        said: called with "reading" or "intervals" and how many runs are done, for progress bars.

    Raises:
        RunError: a run that cannot be read, the same one twice, or one that cannot be paired. OptionError: another word for ``published``.
    """
    if published not in PUBLISHED:
        raise OptionError(f"Got published rows {published!r}. Accepted are {', '.join(PUBLISHED)}. Choose one of them.")
    places = tuple(dict.fromkeys(Path(folder).resolve() for folder in (*folders, *against)))
    if not folders:
        raise RunError("Got no run. Accepted are folders of finished runs, one at least. Name them.")
    given = {Path(folder).resolve(): Path(folder) for folder in reversed((*folders, *against))}
    found: list[Run] = []
    for place in places:
        found.append(load(given[place]))
        said("reading", len(found))
    runs = tuple(found)
    others = {Path(folder).resolve() for folder in against}
    bases = tuple(run for run, place in zip(runs, places, strict=True) if place in others)
    _check_bases(runs, bases)
    keys = tuple(dict.fromkeys((run.data, run.split, run.protocol) for run in runs))
    done = count(1)
    fields = tuple(
        _field(
            [run for run in runs if (run.data, run.split, run.protocol) == key], bases, draws, seed, lambda: said("intervals", next(done))
        )
        for key in sorted(keys, key=_order)
    )
    return Report(
        runs=runs,
        labels=_labels(runs),
        fields=fields,
        published=_chosen(published, runs),
        changes={run.folder: changed(run) for run in runs},
        per_class=per_class,
        draws=draws,
        seed=seed,
    )


def told(run: Run, first: Run, changes: Sequence[str]) -> list[str]:
    """What a reader has to know of a run's score beside others: footnotes.

    Args:
        run: the run.
        first: the run that the others are told apart from.
        changes: knobs in which its recipe is not the one that ships.
    """
    notes: list[str] = []
    if run.protocol != first.protocol:
        notes.append(f"protocol {run.protocol}, not {first.protocol}: other masks or another average, not to be compared")
    if names_list(run) != names_list(first):
        notes.append(f"names list {names_list(run)}, not {names_list(first)}")
    for what, key in (("labels offered", "offer"), ("seed", "seed"), ("precision", "dtype")):
        if (mine := run.identity.get(key)) != (theirs := first.identity.get(key)):
            notes.append(f"{what}: {_said(mine)}, not {_said(theirs)}")
    if (usual := _usual_split(run.data)) not in (None, run.split):
        notes.append(f"split {run.split} of {run.data}, not {usual}, the one that scores are published on")
    if (limit := run.identity.get("limit")) is not None:
        notes.append(f"the first {limit} images of {run.data} only")
    if len(run.items) < run.planned:
        notes.append(f"{run.planned - len(run.items)} of {run.planned} images of {run.data} were skipped")
    if changes:
        shown = ", ".join(changes[:6]) + (f" and {len(changes) - 6} more" if len(changes) > 6 else "")
        notes.append(f"not the recipe {run.recipe} as it ships: {shown}")
    return notes


def names_list(run: Run) -> str:
    """A run's list of names: its name where it ships, else its folder, as lists of one origin have a file a data set."""
    origin = str(run.identity["names"]["origin"])
    return str(Path(origin).parent) if "/" in origin or "\\" in origin or origin.endswith(".txt") else origin


def _said(value: object) -> str:
    return "the recipe's" if value is None else str(value)


def _usual_split(data: str) -> str | None:
    try:
        return next(iter(registry.load("datasets", data).splits), None)  # none: they are folders of one's own
    except RegistryError:  # a data set of a distribution that is not installed here
        return None


def _check_bases(runs: Sequence[Run], bases: Sequence[Run]) -> None:
    for base in bases:
        if not any(run is not base and run not in bases and same_field(run, base) for run in runs):
            others = ", ".join(dict.fromkeys(f"{run.folder} ({run.data}, {run.split}, {run.protocol})" for run in runs if run not in bases))
            raise RunError(
                f"Got {base.folder} ({base.data}, {base.split}, {base.protocol}) to compare with {others or 'nothing else'}. "
                "Accepted is a run on the same data set, split and protocol. Choose another run."
            )


def _field(runs: Sequence[Run], bases: Iterable[Run], draws: int, seed: int, said: Callable[[], None]) -> Field:
    mine = [base for base in bases if base in runs]
    intervals, paired = [], []
    for run in runs:
        intervals.append(interval(run.tallies, average=run.average, draws=draws, seed=seed))
        if run not in mine:
            paired += [compare(run, base, draws=draws, seed=seed) for base in mine]
        said()
    return Field(tuple(runs), tuple(intervals), tuple(paired))


def _order(key: tuple[str, str, str]) -> tuple[int, tuple[str, str, str]]:
    known = list(BENCHMARKS)
    return known.index(key[0]) if key[0] in known else len(known), key


def _labels(runs: Sequence[Run]) -> dict[Path, str]:
    """Names of runs; where two on one data set would have the same, each has its folder, too."""
    found: dict[Path, str] = {}
    for run in runs:
        twins = [other for other in runs if other.name == run.name and same_field(run, other)]
        found[run.folder] = f"{run.name} [{run.folder}]" if len(twins) > 1 else run.name
    return found


def _chosen(published: str, runs: Sequence[Run]) -> tuple[Published, ...]:
    data = {run.data for run in runs}
    if published == "none" or not data & set(BENCHMARKS):
        return ()
    rows = read(table="main")
    if published == "all":
        return rows
    ours = {run.recipe for run in runs if not run.embedded}
    return tuple(row for row in rows if row.source.endswith("Table 1") or ours & set(row.recipes))
