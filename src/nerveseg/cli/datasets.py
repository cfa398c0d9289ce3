"""``nerveseg datasets list | prepare NAME | verify NAME``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nerveseg.cli._console import SOME_FAILED, console, fail, guarded, json_line, note, say, talk
from nerveseg.errors import DataError, OptionError

if TYPE_CHECKING:
    from nerveseg.datasets._verify import Report

__all__ = ["app"]

app = typer.Typer(help="Benchmarks on disk: which there are, how they are made, whether they are whole.", no_args_is_help=True)

Root = Annotated[Path, typer.Option("--root", metavar="DIR", help="Folder that holds the data sets' own folders.")]
Split = Annotated[str | None, typer.Option(help="Left out: the one that scores are published on.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A data set; `nerveseg datasets list` has them.", show_default=False)]

_SHOWN = 20  # problems that are named without --json


@app.command("list")
@guarded
def list_(
    *,
    root: Annotated[Path | None, typer.Option("--root", metavar="DIR", help="Say which are there, too.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a data set.")] = False,
) -> None:
    """List the data sets: classes, splits, protocols, lists of names, what is downloaded under which licence."""
    from nerveseg import registry
    from nerveseg.cli._results import plain_table
    from nerveseg.datasets import classes, names

    table = plain_table(
        "name", "what", "classes", "splits", "names", "download", *(["here"] if root else []), "licence", right=("classes",)
    )
    for name in names():
        module = registry.load("datasets", name)
        here = _here(name, root) if root else None
        lists = classes.lists(name) or ("official",)
        count = module.count
        if json:
            json_line({"name": name, **_about(module), "names": list(lists), "here": here})
        shown = [name, module.title, str(count or "any"), ", ".join(module.splits) or "folders", ", ".join(lists), _download(module)]
        table.add_row(*shown, *(["yes" if here else "no"] if root else []), module.licence)
    if not json:
        console().print(table)


@app.command()
@guarded
def prepare(
    name: Name,
    *,
    root: Root,
    archives: Annotated[Path | None, typer.Option("--from", metavar="DIR", help="Archives that are on disk. Left out: download.")] = None,
    split: Split = None,
    again: Annotated[bool, typer.Option("--again", help="Make files anew that are there.")] = False,
) -> None:
    """Make the layout of a data set from its archives: download or take them, unpack, convert; goes on where it was stopped.

    Says how much is downloaded under which licence before it starts.
    """
    from nerveseg.datasets import _prepare

    wanted = _prepare.needed(name, split)
    for archive in wanted if archives is None else ():
        if archive.url is not None and not (root.expanduser() / _prepare.DOWNLOADS / archive.name).is_file():
            size = f"{archive.bytes / 1e9:.2f} GB" if archive.bytes else "size not stated"
            note(f"{archive.name}: {size} from {archive.url}; {archive.note}", style="cyan", lead="needs")
    with _stages() as said:
        data = _prepare.prepare(name, root, archives_from=archives, split=split, said=said, again=again)
    note(f"{len(data)} items in {data.split} of {name}, masks in {data.about.get('masks', '')}", style="green", lead="made")
    say(f"{name}\t{data.split}\t{data.root}")
    note(f"nerveseg datasets verify {name} --root {root} --split {data.split} reads every file of it", style="cyan", lead="next")


@app.command()
@guarded
def verify(
    name: Name,
    *,
    root: Annotated[Path | None, typer.Option("--root", metavar="DIR", help="Folder that holds the data sets' own folders.")] = None,
    split: Split = None,
    protocol: Annotated[str, typer.Option(help="sclip or cliper: which masks and items.")] = "sclip",
    names: Annotated[str, typer.Option(metavar="LIST|FILE", help="Class names: a list that ships, or a file.")] = "official",
    workers: Annotated[int, typer.Option(min=1, help="Threads that read.")] = 4,
    quick: Annotated[bool, typer.Option("--quick", help="Read images' heads alone: damaged ones are not found.")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="A part of the split is meant: do not count its files.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object with everything.")] = False,
) -> None:
    """Read a data set whole: counts files, ids, sizes, pixels of each class, and names what is wrong and how to mend it.

    Exits 0 if all is well, 1 if it cannot be opened, 3 if something in it is wrong.
    """
    from nerveseg import datasets
    from nerveseg.datasets._verify import verify as read

    data = datasets.open(name, root, split=split, protocol=protocol, class_names=names)
    if data.draw is not None:
        raise OptionError(
            f"Got {name}, whose images are drawn: there is no file that could be wrong. Accepted are data sets on disk. "
            "Use it as it is, such as in nerveseg bench run."
        )
    if data.left_out:
        note(data.left_out)
    with _stages() as said:
        report = read(data, workers=workers, quick=quick, partial=partial, said=said)
    if json:
        json_line(_plain(report))
    else:
        _show(report)
    for problem in report.problems[:_SHOWN] if not json else ():
        fail(f"{problem.item}: {problem.message}" if problem.item else problem.message)
    if report.problems:
        if len(report.problems) > _SHOWN and not json:
            fail(f"{len(report.problems) - _SHOWN} more; --json has all of them.")
        raise typer.Exit(SOME_FAILED)


def _show(report: Report) -> None:
    from nerveseg.cli._results import plain_table

    data = report.data
    table = plain_table("id", "class", "pixels", "share", "items", right=("id", "pixels", "share", "items"))
    total = max(int(report.pixels.sum()), 1)
    for index, name in enumerate(data.names.names):
        pixels = int(report.pixels[index])
        table.add_row(str(index), name, f"{pixels:,}", f"{100 * pixels / total:.2f} %", f"{int(report.items[index]):,}")
    console().print(table)
    known = "" if report.published is None else f" ({report.published:,} are published)"
    note(f"{report.files:,} images{known}, {len(data):,} items, {report.ignored:,} pixels not counted, names {data.names.origin}",
         style="cyan", lead=f"{data.name} {data.split}")  # fmt: skip
    if report.turned:
        stored = sum(follows for _, follows in report.turned)
        note(
            f"{len(report.turned)} images carry an EXIF orientation ({', '.join(item for item, _ in report.turned[:5])}): "
            f"{stored} masks follow the stored pixels, {len(report.turned) - stored} the turned ones. Both are read so that they fit."
        )
    if report.absent:
        note(f"no pixel of {', '.join(report.absent[:10])}{' …' if len(report.absent) > 10 else ''}")
    if report.good:
        note("every file was read and is as it should be", style="green", lead="good")


def _plain(report: Report) -> dict[str, Any]:
    data = report.data
    return {
        "name": data.name, "split": data.split, "protocol": data.protocol, "names": data.names.origin, "files": report.files,
        "published": report.published, "items": len(data), "ignored": report.ignored, "about": dict(data.about),
        "classes": [
            {"id": index, "name": name, "pixels": int(report.pixels[index]), "items": int(report.items[index])}
            for index, name in enumerate(data.names.names)
        ],
        "turned": [{"item": item, "mask_follows_stored": follows} for item, follows in report.turned],
        "problems": [{"item": problem.item, "message": problem.message} for problem in report.problems],
    }  # fmt: skip


def _about(module: ModuleType) -> dict[str, Any]:
    archives = [
        {"name": a.name, "url": a.url, "bytes": a.bytes, "optional": a.optional, "note": a.note, "splits": list(a.splits)}
        for a in module.archives
    ]
    about = {key: getattr(module, key) for key in ("title", "url", "licence", "background")}
    return {**about, "classes": module.count, "splits": list(module.splits), "protocols": list(module.protocols),
            "archives": archives}  # fmt: skip


def _download(module: ModuleType) -> str:
    """What the first split takes, in a few words."""
    if not module.archives:
        return "none"
    wanted = [archive for archive in module.archives if not archive.optional and archive.serves(module.splits[0])]
    if any(archive.url is None for archive in wanted):
        return "by hand"
    known = sum(archive.bytes or 0 for archive in wanted) / 1e9
    if not known:
        return "not stated"
    return f"{known:.1f} GB" if all(archive.bytes for archive in wanted) else f"over {known:.1f} GB"


def _here(name: str, root: Path) -> bool:
    from nerveseg import datasets

    try:
        return len(datasets.open(name, root)) > 0
    except DataError:
        return False


@contextmanager
def _stages() -> Iterator[Callable[[str, int, int], None]]:
    """One progress bar a stage on stderr, with the time left; nothing without a terminal."""
    from rich.progress import Progress, TimeRemainingColumn

    shown = talk()
    tasks: dict[str, Any] = {}
    with Progress(*Progress.get_default_columns()[:3], TimeRemainingColumn(), console=shown, disable=not shown.is_terminal) as bars:

        def said(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total or None)
            bars.update(tasks[stage], completed=done, total=total or None)

        yield said
