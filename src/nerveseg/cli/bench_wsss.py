"""``nerveseg bench wsss``: pseudo-masks from the labels of whole images."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from nerveseg.cli._console import SOME_FAILED, console, counting, guarded, json_line, note, waiting
from nerveseg.cli._jobs import Engine, EngineKnobs, Limit, Names, OneRecipe, Prefetch, Root, SkipBad, Threads, Workers
from nerveseg.cli.segment import Device, Dtype, LowMemory, Offline, Seed, Settings

__all__ = ["wsss"]

_FEW = 20  # bad images that are named on the terminal; the journal has all


@guarded
def wsss(
    *,
    data: Annotated[str, typer.Option("--data", "-d", help="A data set (nerveseg datasets list).")],
    recipe: OneRecipe = "nerve-iseg",
    root: Root = None,
    split: Annotated[str | None, typer.Option(help="Left out: train, where the data set has it.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="sclip or cliper: which masks, and how they are scored. Left out: cliper, where the data set has it.")
    ] = None,
    names: Names = "official",
    labels: Annotated[
        str, typer.Option(metavar="masks|tagger|FILE", help="Which classes are in an image: its mask, TagCLIP or a file says.")
    ] = "masks",
    tagger: Annotated[str | None, typer.Option(help="Recipe whose CLIP tags. Left out: the same where it has one, else clip.")] = None,
    tag_threshold: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Score above which a class is there. Left out: TagCLIP's, by image.")
    ] = None,
    abstain: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Pixels less sure than this become 255. Larger: fewer pixels, fewer wrong.")
    ] = 0.0,
    soft: Annotated[bool, typer.Option("--soft", help="Also write scores, float16, a file an image.")] = False,
    score: Annotated[bool, typer.Option("--score/--no-score", help="Compare with the true masks.")] = True,
    limit: Limit = None,
    seed: Seed = None,
    settings: Settings = None,
    engine: Engine = "local",
    engine_knobs: EngineKnobs = None,
    workers: Workers = 1,
    threads: Threads = None,
    prefetch: Prefetch = 4,
    skip_bad: SkipBad = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the masks; one that is there goes on.")] = Path("nerveseg-wsss"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
    low_memory: LowMemory = False,
) -> None:
    """Make masks for training from the labels of whole images, and score them where there are true ones.

    OUT/DATA-SPLIT-RECIPE gets masks/NAME.png (a palette; the data set's ids, 255 left out), names.txt, metrics.json and what every run
    leaves. Stop it and give the same command again, it goes on. Exits 0 if all went well, 1 if it failed, 2 for a wrong command, 3 if
    images were skipped.
    """
    from nerveseg import registry
    from nerveseg.bench import wsss as pseudo
    from nerveseg.cli._console import still
    from nerveseg.cli._jobs import job_of, opened
    from nerveseg.cli._words import read_settings

    still()
    name = data.replace("-", "_")
    module = registry.load("datasets", name)
    job = job_of(
        recipe=recipe,
        data=name,
        root=root,
        split=split or ("train" if "train" in module.splits else None),
        protocol=protocol or ("cliper" if "cliper" in module.protocols else module.protocols[0]),
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
    given = pseudo.PseudoMasks(job, labels, abstain, soft, score, tagger, tag_threshold)
    with waiting("reading recipes and lists"):
        place = pseudo.folder_of(given, out)
        total = len(opened(job).items[:limit])
    with counting({str(place): total}) as said:
        made = pseudo.run(
            given,
            place,
            engine=engine,
            engine_options=read_settings(engine_knobs or (), "--engine-set", "address=auto"),
            workers=workers,
            prefetch=prefetch,
            skip_bad=skip_bad,
            said=lambda done, _: said(str(place), done),
            command=shlex.join(["nerveseg", *sys.argv[1:]]),
        )
    bad = [{"item": one.item, "type": one.type, "message": one.message} for one in made.summary.bad]
    _show({"folder": str(place), "bad": bad, **(made.metrics or {})}, json=json)
    for one in bad[:_FEW]:
        note(f"{one['item']}: {one['message']}", style="red", lead="skipped")
    if len(bad) > _FEW:
        note(f"{len(bad) - _FEW} more; the journal names them", style="red", lead="skipped")
    if bad:
        raise typer.Exit(SOME_FAILED)


def _show(row: Mapping[str, Any], *, json: bool) -> None:
    if json:
        json_line(dict(row))
        return
    from nerveseg.cli._results import plain_table

    columns = {
        "mIoU": "miou", "with unsure": "miou_all", "unsure %": "unsure", "label prec.": "label_precision", "label rec.": "label_recall"
    }  # fmt: skip
    table = plain_table("masks", "pictures", "no label", *columns, right=("pictures", "no label", *columns))
    cells = [f"{row[key]:.2f}" if row.get(key) is not None else "–" for key in columns.values()]
    table.add_row(str(row["folder"]), str(row.get("pictures", "–")), str(row.get("without_labels", "–")), *cells)
    console().print(table)
