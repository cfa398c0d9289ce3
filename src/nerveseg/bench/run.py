"""Run recipes on data sets: one folder a run, which can be stopped, resumed, split over machines and put together again.

    ran = run(Job("mini", "embedded", limit=500), "out")
    ran.metrics["miou"]

A folder holds what every long job's does (`nerveseg.runs`) and, once the last image is done, ``metrics.json``, ``confusion.csv`` and
``seconds.json`` (`nerveseg.bench.scored`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nerveseg import runs
from nerveseg.bench import scored
from nerveseg.bench.job import Job, about, identity
from nerveseg.bench.worker import Make
from nerveseg.errors import OptionError
from nerveseg.reprs import brief
from nerveseg.runs.merge import merge as merged

__all__ = ["Ran", "folders", "merge", "run"]


@dataclass(frozen=True)
class Ran:
    """How a run ended.

    Attributes:
        folder: where it is.
        summary: images done now, before, bad, left.
        metrics: what ``metrics.json`` says; None where images of other shards are missing, or none was scored.
    """

    folder: Path
    summary: runs.Summary
    metrics: Mapping[str, Any] | None

    __repr__ = brief


def folders(jobs: Sequence[Job], out: str | Path, *, shard: tuple[int, int] = (0, 1)) -> tuple[Path, ...]:
    """Name the folder of each run: ``OUT/DATA-RECIPE``, with ``-IofN`` for a shard.

    Raises:
        OptionError: two runs that would write into one folder.
    """
    part = f"-{shard[0]}of{shard[1]}" if shard[1] > 1 else ""
    named = tuple(Path(out) / f"{job.data}-{job.compose().name}{part}" for job in jobs)
    for place, folder in enumerate(named):
        if folder in named[:place]:
            raise OptionError(f"Got two runs for {folder}. Accepted are recipes with names of their own. Rename one recipe's file.")
    return named


def run(
    job: Job,
    folder: str | Path,
    *,
    shard: tuple[int, int] = (0, 1),
    engine: str = "local",
    workers: int = 1,
    prefetch: int = 4,
    skip_bad: bool = False,
    said: Callable[[int, int], None] | None = None,
    command: str = "",
    engine_options: Mapping[str, Any] | None = None,
) -> Ran:
    """Score a recipe on a data set, or go on where the folder's run was stopped.

    Args:
        job: what is run.
        folder: of this run alone; see `folders`.
        shard: (i, n): only images whose number leaves i when divided by n. `merge` puts the shards together.
        engine: "local" or "ray".
        workers: that share the images, each with its own networks. Larger: faster, more memory.
        prefetch: images that each reads ahead.
        skip_bad: go on after an image that cannot be read or segmented; `Ran.summary` lists it, and it is tried again at the next start.
        said: called as ``said(done, of)`` after each image.
        command: for ``run.json``.
        engine_options: knobs of the engine.

    Raises:
        DataError, ImageError: an image or mask, without ``skip_bad``. RunError: the folder holds another run. WeightsNotFound and the
        other errors of loading.
    """
    data = job.open()
    items = tuple(item.id for item in data.items[: job.limit])
    plan = runs.Plan(items, identity(job, data), about(job, command=command, engine=engine, workers=workers), shard)
    with _threads_as_before():
        summary = runs.run(
            plan,
            Make(job),
            folder,
            engine=engine,
            workers=workers,
            prefetch=prefetch,
            skip_bad=skip_bad,
            said=said,
            engine_options=engine_options,
        )
    whole = shard[1] == 1 and summary.left == 0 and summary.done + summary.skipped > 0
    return Ran(Path(folder), summary, scored.finish(folder) if whole else None)


def merge(shards: Sequence[str | Path], folder: str | Path) -> Mapping[str, Any]:
    """Put the shards of one run together and score the whole; gives what ``metrics.json`` says.

    Raises:
        RunError: shards of two runs, a shard twice, or one that is missing or not finished.
    """
    merged([Path(shard) for shard in shards], Path(folder))
    return scored.finish(folder)


@contextmanager
def _threads_as_before() -> Iterator[None]:
    """A worker in this process sets torch's threads; the caller's come back."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
