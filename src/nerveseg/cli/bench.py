"""``nerveseg bench run | merge``: recipes on data sets, one folder a run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nerveseg.cli import bench_clicks, bench_report, bench_wsss
from nerveseg.cli._console import conclude, console, counting, guarded, json_line, waiting
from nerveseg.cli._jobs import Engine, EngineKnobs, Limit, Names, Prefetch, Root, SkipBad, Threads, Workers, opened
from nerveseg.cli.segment import Device, Dtype, LowMemory, Offline, Seed, Settings

if TYPE_CHECKING:
    from nerveseg.bench.job import Job
    from nerveseg.bench.run import Ran

__all__ = ["app"]

app = typer.Typer(help="The harness: recipes on data sets, scored as the field does.", no_args_is_help=True)
app.command()(bench_report.report)
app.command()(bench_wsss.wsss)
app.command()(bench_clicks.clicks)


@app.command()
@guarded
def run(
    *,
    recipe: Annotated[list[str], typer.Option("--recipe", "-r", help="A recipe's name, file or folder; may be given more than once.")],
    data: Annotated[list[str], typer.Option("--data", "-d", help="A data set (nerveseg datasets list); may be given more than once.")],
    root: Root = None,
    protocol: Annotated[str, typer.Option(help="sclip or cliper: which masks, and how they are scored.")] = "sclip",
    names: Names = "official",
    split: Annotated[str | None, typer.Option(help="Left out: the one that scores are published on.")] = None,
    limit: Limit = None,
    seed: Seed = None,
    offer: Annotated[
        str, typer.Option(help="listed: the labels that the data set offers in an image, where it does; all: every class.")
    ] = "listed",
    settings: Settings = None,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Every Nth image from the Ith on, from 0; for several machines.")] = "0/1",
    engine: Engine = "local",
    engine_knobs: EngineKnobs = None,
    workers: Workers = 1,
    threads: Threads = None,
    prefetch: Prefetch = 4,
    skip_bad: SkipBad = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the runs; one that is there goes on.")] = Path("nerveseg-bench"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a run.")] = False,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
    low_memory: LowMemory = False,
) -> None:
    """Score recipes on data sets: mIoU and its relatives from one confusion matrix over all images.

    Each recipe and data set gets the folder OUT/DATA-RECIPE: run.json, results.jsonl, metrics.json, confusion.csv, seconds.json. Stop it
    and give the same command again, it goes on. Exits 0 if all went well, 1 if it failed, 2 for a wrong command, 3 if images were
    skipped.
    """
    from nerveseg.bench import run as bench
    from nerveseg.cli._console import still
    from nerveseg.cli._jobs import job_of
    from nerveseg.cli._words import read_settings, read_shard

    part = read_shard(shard)
    jobs = [
        job_of(
            recipe=one,
            data=name,
            root=root,
            split=split,
            protocol=protocol,
            class_names=names,
            offer=offer,
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
        for name in data
        for one in recipe
    ]
    with waiting("reading recipes and lists"):
        still()
        places = bench.folders(jobs, out, shard=part)
        counts = _counts(jobs, part)
    ran: list[Ran] = []
    with counting({str(place): count for place, count in zip(places, counts, strict=True)}) as said:
        for job, place in zip(jobs, places, strict=True):
            ran.append(
                bench.run(
                    job,
                    place,
                    shard=part,
                    engine=engine,
                    engine_options=read_settings(engine_knobs or (), "--engine-set", "address=auto"),
                    workers=workers,
                    prefetch=prefetch,
                    skip_bad=skip_bad,
                    said=lambda done, _, name=str(place): said(name, done),
                    command=shlex.join(["nerveseg", *sys.argv[1:]]),
                )
            )
    _tell(ran, json=json)


@app.command()
@guarded
def merge(
    shards: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="The shards of one run, all of them.", show_default=False)],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the whole; it must be new or empty.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Put the shards of one run together: the same results as a run in one piece."""
    from nerveseg.bench import run as bench

    with waiting("reading the shards"):
        found = bench.merge(shards, out)
    _show([{"folder": str(out), **found}], json=json)


def _counts(jobs: Sequence[Job], shard: tuple[int, int]) -> list[int]:
    """Images of each run's shard; opening a data set also finds wrong names and folders before anything is loaded."""
    return [len(opened(job).items[: job.limit][shard[0] :: shard[1]]) for job in jobs]


def _tell(ran: Sequence[Ran], *, json: bool) -> None:
    """Show what came out, name what was skipped, and exit 3 if anything was."""
    rows = [
        {
            "folder": str(one.folder),
            "bad": [{"item": bad.item, "type": bad.type, "message": bad.message} for bad in one.summary.bad],
            **(one.metrics or {}),
        }
        for one in ran
    ]
    _show(rows, json=json)
    bad = [(f"{entry.item} in {one.folder}", entry.message) for one in ran for entry in one.summary.bad]
    conclude(bad, len(bad) + 1, lead="skipped", rest="the journals name them")


def _show(rows: Sequence[Mapping[str, Any]], *, json: bool) -> None:
    if json:
        for row in rows:
            json_line(dict(row))
        return
    from nerveseg.cli._results import plain_table

    scores = {"mIoU": "miou", "pixel acc.": "pixel_accuracy", "mean acc.": "mean_accuracy", "fw IoU": "weighted_iou", "ECE": "ece"}
    table = plain_table("run", "pictures", *scores, right=("pictures", *scores))
    for row in rows:
        cells = [f"{row[key]:.2f}" if row.get(key) is not None else "–" for key in scores.values()]
        table.add_row(str(row["folder"]), str(row.get("pictures", "–")), *cells)
    console().print(table)
