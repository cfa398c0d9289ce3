"""What the verbs that run a recipe on a data set share: the job that their options make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nerveseg.bench.job import Job

__all__ = ["job_of"]


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
