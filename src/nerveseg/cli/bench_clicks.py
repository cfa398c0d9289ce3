"""``nerveseg bench clicks``: what clicks are worth."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from nerveseg.cli._console import counting, guarded, say
from nerveseg.cli._jobs import Names, OneRecipe, Root, Threads, Workers, opened
from nerveseg.cli.segment import Device, Dtype, LowMemory, Offline, Settings

__all__ = ["clicks"]


@guarded
def clicks(
    *,
    recipe: OneRecipe = "mini",
    data: Annotated[str, typer.Option("--data", "-d", help="A data set (nerveseg datasets list).")] = "embedded",
    root: Root = None,
    protocol: Annotated[str, typer.Option(help="sclip or cliper: which masks, and how they are scored.")] = "sclip",
    names: Names = "official",
    split: Annotated[str | None, typer.Option(help="Left out: the one that scores are published on.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The first so many images.")] = 100,
    cap: Annotated[int, typer.Option(min=1, max=200, help="Most clicks at a thing.")] = 20,
    cache: Annotated[Path | None, typer.Option(help="Folder of encodings: networks are passed once an image.")] = None,
    settings: Settings = None,
    workers: Workers = 1,
    threads: Threads = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the run; one that is there goes on.")] = Path("nerveseg-clicks"),
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
    low_memory: LowMemory = False,
) -> None:
    """Let a robot that knows the truth click at the centre of the largest error, and count how fast things come right.

    OUT/clicks-DATA-RECIPE gets table.md, figure.png and the lines that they are made from. Stop it and give the same command again, it goes
    on. Knobs of clicks are set as those of recipes are: --set clicks.alpha=0.99.
    """
    from nerveseg.bench.clicks import TABLE, Clicking, run
    from nerveseg.cli._console import still
    from nerveseg.cli._jobs import job_of

    still()
    job = job_of(
        recipe=recipe,
        data=data,
        root=root,
        split=split,
        protocol=protocol,
        class_names=names,
        limit=limit,
        settings=settings,
        device=device,
        dtype=dtype,
        offline=offline,
        low_memory=low_memory,
        workers=workers,
        threads=threads,
    )
    given = Clicking(job, cap, None if cache is None else str(cache))
    place = out / f"clicks-{job.data}-{given.plain.compose().name}"
    with counting({str(place): len(opened(given.plain).items[:limit])}) as said:
        run(given, place, workers=workers, said=lambda done, _: said(str(place), done), command=shlex.join(["nerveseg", *sys.argv[1:]]))
    if (place / TABLE).is_file():
        say((place / TABLE).read_text("utf-8"), lines=True, end="")
