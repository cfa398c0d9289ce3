"""What the verbs that run a recipe on a data set share: options, and the job that they make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nerveseg.bench.job import Job
    from nerveseg.datasets import DataSet

__all__ = [
    "Engine",
    "EngineKnobs",
    "Limit",
    "Names",
    "OneRecipe",
    "OwnData",
    "OwnRoot",
    "Prefetch",
    "Root",
    "SkipBad",
    "Threads",
    "Workers",
    "job_of",
    "opened",
]

Root = Annotated[Path | None, typer.Option(help="Folder that holds the data sets' folders.")]
OwnData = Annotated[str, typer.Option("--data", "-d", help="A data set; 'folder' for images, masks and names.txt of your own.")]
OwnRoot = Annotated[Path | None, typer.Option(help="Its folder.")]
OneRecipe = Annotated[str, typer.Option("--recipe", "-r", help="A recipe's name, file or folder.")]
Names = Annotated[str, typer.Option(metavar="LIST|FILE", help="Class names: a list that ships, or a file.")]
Limit = Annotated[int | None, typer.Option(min=1, help="The first so many images of the list. Left out: all.")]
Engine = Annotated[str, typer.Option(help="local or ray.")]
EngineKnobs = Annotated[
    list[str] | None, typer.Option("--engine-set", metavar="KNOB=VALUE", help="Change a knob of the engine: address=auto, for ray.")
]
Workers = Annotated[int, typer.Option(min=1, help="Workers, each with its own networks.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of each worker. Left out: all with one worker, else one.")]
Prefetch = Annotated[int, typer.Option(min=0, help="Images that each worker reads ahead.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Go on after an image that cannot be used; exit 3 at the end.")]


def job_of(*, data: str, root: Path | None, settings: Sequence[str] | None, workers: int, threads: int | None = None, **given: Any) -> Job:
    """Make a job of what the command line took.

    Args:
        data: a data set; ``-`` stands for ``_``.
        root: folder of the data sets' folders, or None.
        settings: ``knob=value`` each.
        workers: several share the cores, so each takes one thread unless it is told otherwise.
        threads: of each worker.
        given: the other fields of `Job`.
    """
    from nerveseg.bench.job import Job
    from nerveseg.cli._words import read_settings

    return Job(
        data=data.replace("-", "_"),
        root=None if root is None else str(root),
        settings=read_settings(settings or ()),
        threads=threads or (1 if workers > 1 else None),
        **given,
    )


def opened(job: Job) -> DataSet:
    """Open a job's data set, and say what of its folder was left out."""
    from nerveseg.cli._console import note

    data = job.open()
    if data.left_out:
        note(data.left_out)
    return data
