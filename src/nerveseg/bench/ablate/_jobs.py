"""Run an ablation in a folder, and write its table and figure beside its lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nerveseg import runs
from nerveseg.bench.ablate import _report, _run
from nerveseg.bench.ablate._run import Ablation
from nerveseg.runs.atomic_write import writing

__all__ = ["TABLE", "run", "write"]

TABLE, FIGURE = "table.md", "figure.png"


def run(
    given: Ablation,
    folder: str | Path,
    *,
    shard: tuple[int, int] = (0, 1),
    engine: str = "local",
    workers: int = 1,
    skip_bad: bool = False,
    said: Callable[[int, int], None] | None = None,
    command: str = "",
    engine_options: Mapping[str, Any] | None = None,
) -> runs.Summary:
    """Measure every variant on every image, or go on where the folder's run was stopped.

    Args:
        given: what is ablated.
        folder: of this ablation alone.
        shard: (i, n), as for every long job.
        engine: "local" or "ray".
        workers: that share the images, each with its own networks.
        skip_bad: go on after images that cannot be used.
        said: called as ``said(done, all)``.
        command: for the record.
        engine_options: knobs of the engine.

    Returns:
        How far it came; once nothing is left, ``table.md`` and ``figure.png`` are there too.
    """
    plan = _run.plan(given, command=command, shard=shard)
    summary = runs.run(
        plan, _run.Worker(given), folder, engine=engine, workers=workers, skip_bad=skip_bad, said=said, engine_options=engine_options
    )
    if summary.left == 0 and shard[1] == 1:
        write(folder)
    return summary


def write(folder: str | Path) -> str:
    """Write ``table.md`` and ``figure.png`` of a finished ablation, and give the table."""
    place = Path(folder)
    found = _report.outcome(place)
    text = _report.table(found)
    with writing(place / TABLE) as file:
        file.write(text)
    _report.figure(found, place / FIGURE)
    return text
