"""``nerveseg ablate KIND``: variants of a recipe beside each other on the same encoded images."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from nerveseg.cli._console import SOME_FAILED, counting, guarded, note, say
from nerveseg.cli._jobs import Engine, EngineKnobs, Names, OneRecipe, Root, SkipBad, Threads, Workers
from nerveseg.cli.segment import Device, Dtype, LowMemory, Offline, Seed, Settings

__all__ = ["ablate"]


@guarded
def ablate(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="affinity, graph, heads, kernel, names or steps.", show_default=False)],
    *,
    recipe: OneRecipe = "mini",
    data: Annotated[str, typer.Option("--data", "-d", help="A data set (nerveseg datasets list).")] = "embedded",
    root: Root = None,
    protocol: Annotated[str, typer.Option(help="sclip or cliper: which masks, and how they are scored.")] = "sclip",
    names: Names = "official",
    split: Annotated[str | None, typer.Option(help="That is scored. Left out: the one that scores are published on.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many images of it. Left out: all.")] = None,
    choose: Annotated[
        int, typer.Option(min=0, help="Images, none of them scored, that each variant's rule is chosen on; 0: the recipe's.")
    ] = 60,
    choose_split: Annotated[
        str | None, typer.Option(help="Their split. Left out: val or train, whichever is not scored, else a part of the scored one.")
    ] = None,
    synonyms: Annotated[Path | None, typer.Option(help="Other words for the classes, for KIND names: one class a line.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of encodings: networks are passed once, whatever is ablated later.")] = None,
    half: Annotated[bool, typer.Option("--half", help="Keep encodings in float16.")] = False,
    seed: Seed = None,
    settings: Settings = None,
    engine: Engine = "local",
    engine_knobs: EngineKnobs = None,
    workers: Workers = 1,
    threads: Threads = None,
    skip_bad: SkipBad = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for ablations; one that is there goes on.")] = Path("nerveseg-ablate"),
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
    low_memory: LowMemory = False,
) -> None:
    """Measure variants of a recipe: each by the decision rule that serves it best on images that are not scored.

    OUT/KIND-DATA-RECIPE gets table.md, figure.png and the lines that they are made from. Stop it and give the same command again, it goes
    on.
    """
    from nerveseg.bench.ablate._jobs import TABLE, run
    from nerveseg.bench.ablate._run import Ablation
    from nerveseg.cli._console import still
    from nerveseg.cli._jobs import job_of, opened
    from nerveseg.cli._words import read_settings

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
        seed=seed,
        device=device,
        dtype=dtype,
        offline=offline,
        low_memory=low_memory,
        workers=workers,
        threads=threads,
    )
    given = Ablation(kind, job, choose, choose_split, _text(synonyms), _text(cache), half)
    place = out / f"{given.kind}-{job.data}-{job.compose().name}"
    count = choose + len(opened(job).items[:limit])
    with counting({str(place): count}) as said:
        summary = run(
            given,
            place,
            engine=engine,
            engine_options=read_settings(engine_knobs or (), "--engine-set", "address=auto"),
            workers=workers,
            skip_bad=skip_bad,
            said=lambda done, _: said(str(place), done),
            command=shlex.join(["nerveseg", *sys.argv[1:]]),
        )
    for bad in summary.bad:
        note(f"{bad.item}: {bad.message}", style="red", lead="skipped")
    if (place / TABLE).is_file():
        say((place / TABLE).read_text("utf-8"), lines=True, end="")
    if summary.bad:
        raise typer.Exit(SOME_FAILED)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
