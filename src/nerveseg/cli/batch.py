"""``nerveseg batch IN OUT --labels FILE --format coco``."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nerveseg.cli._bands import read_bands
from nerveseg.cli._console import conclude, counting, guarded, json_line, note, say, waiting
from nerveseg.cli._jobs import Engine, EngineKnobs, Prefetch, Threads, Workers
from nerveseg.cli._words import read_shard
from nerveseg.cli.segment import (
    Abstain,
    BackgroundWords,
    Bands,
    Device,
    Dtype,
    Labels,
    LowMemory,
    Offline,
    Overlap,
    Range,
    RecipeName,
    Seed,
    Settings,
    Tile,
)

if TYPE_CHECKING:
    from nerveseg.batch import Ran

__all__ = ["batch"]

_OVERLAP = 0.25  # as in image.tiles, which needs NumPy


@guarded
def batch(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="A folder, a 'pattern*.jpg', a .txt file of paths, or - for stdin.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the masks.", show_default=False)],
    *,
    labels: Labels,
    format: Annotated[str, typer.Option("--format", "-f", help="What is written: png, overlay, coco, voc, …")] = "png",
    writer: Annotated[list[str] | None, typer.Option(metavar="KNOB=VALUE", help="Change a knob of the format.")] = None,
    recipe: RecipeName = "nerve",
    settings: Settings = None,
    background: BackgroundWords = "none",
    abstain: Abstain = None,
    tile: Tile = None,
    overlap: Overlap = _OVERLAP,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the batch in OUT.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there, a batch included; never an input.")] = (
        False
    ),
    shard: Annotated[str, typer.Option(metavar="I/N", help="Every Nth image from the Ith on, from 0; all into one OUT.")] = "0/1",
    engine: Engine = "local",
    engine_knobs: EngineKnobs = None,
    workers: Workers = 1,
    threads: Threads = None,
    prefetch: Prefetch = 4,
    skip_bad: Annotated[bool, typer.Option(help="Go on after an image that cannot be used; exit 3 at the end.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
    low_memory: LowMemory = False,
    seed: Seed = None,
    bands: Bands = None,
    value_range: Range = None,
) -> None:
    """Label every pixel of many images: masks in one format, in one folder.

    Images keep their paths in OUT. Whatever stops it, the same command with --resume goes on and repeats nothing. Exits 0 if all went
    well, 1 if it failed, 2 for a wrong command, 3 if some images could not be used (listed).
    """
    from nerveseg.batch import Job, find, run
    from nerveseg.cli._words import read_background, read_labels, read_settings
    from nerveseg.image.endings import told

    part = read_shard(shard)
    vocabulary = read_labels(labels)
    with waiting("looking for images"):
        from nerveseg.cli._console import still

        still()
        found = find(source, leave_out=out, stdin=sys.stdin)
    if found.left_out:
        note(told(found.left_out))
    job = Job(
        vocabulary,
        read_background(background, vocabulary),
        recipe,
        read_settings(settings or ()),
        format=format,
        writer=read_settings(writer or (), "--writer", "sidecar=false"),
        abstain=abstain,
        tile=tile,
        overlap=overlap,
        seed=seed,
        device=device,
        dtype=dtype,
        offline=offline,
        low_memory=low_memory,
        threads=threads or (1 if workers > 1 else None),
        **read_bands(bands, value_range),
    )
    total = len(found.items[part[0] :: part[1]])
    try:
        with counting({str(out): total}) as said:
            ran = run(
                job,
                found,
                out,
                shard=part,
                resume=resume,
                overwrite=overwrite,
                read=(source, labels, background),
                engine=engine,
                workers=workers,
                prefetch=prefetch,
                skip_bad=skip_bad,
                said=lambda done, _: said(str(out), done),
                engine_options=read_settings(engine_knobs or (), "--engine-set", "address=auto"),
            )
    except KeyboardInterrupt:
        note("What is finished is kept; the same command with --resume goes on.")
        raise
    _tell(ran, (total if ran.waiting else len(found.items)) + len(found.unread), found.left_out, json=json)


def _tell(ran: Ran, total: int, left_out: Counter[str], *, json: bool) -> None:
    if json:
        bad = [{"item": one.item, "type": one.type, "message": one.message} for one in ran.bad]
        waiting_for = [f"{at}/{count}" for at, count in ran.waiting]
        json_line(
            {
                "folder": str(ran.out),
                "done": ran.done,
                "before": ran.before,
                "bad": bad,
                "waiting_for": waiting_for,
                "left_out": dict(left_out),
            }
        )
    else:
        before = f" ({ran.before} of them before)" if ran.before else ""
        others = f", {left_out.total()} left out for their endings" if left_out else ""
        say(f"{ran.out}: {ran.done + ran.before} images labelled{before}, {len(ran.bad)} could not be used{others}")
    if ran.waiting:
        note(f"{', '.join(f'{at}/{count}' for at, count in ran.waiting)}; the joined files come with the last.", lead="other shards")
    conclude([(one.item, one.message) for one in ran.bad], total, lead="skipped", rest=f"{ran.out}/batch.json names them")
