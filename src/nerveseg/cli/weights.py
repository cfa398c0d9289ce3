"""``nerveseg weights list | fetch NAME | verify [NAME]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nerveseg.cli._console import FAILED, console, fail, guarded, json_line, note, say, still, talk, waiting
from nerveseg.errors import NerveSegError, RecipeError, WeightsError, WeightsNotFound

if TYPE_CHECKING:
    from nerveseg.weights import Folder, Plan, Row

__all__ = ["app", "size", "where"]

app = typer.Typer(help="Checkpoints: which there are, which are here, and how to get them.", no_args_is_help=True)


@app.command("list")
@guarded
def list_(*, json: Annotated[bool, typer.Option("--json", help="Print one JSON object a checkpoint.")] = False) -> None:
    """List the checkpoints of the catalogue: how large they are, where on this machine, under which licence."""
    from nerveseg.cli._results import plain_table
    from nerveseg.weights import catalogue

    table = plain_table("name", "kind", "size", "here", "licence", right=("size",))
    for row in catalogue().values():
        folder, why = where(row.name)
        here = folder.bytes if folder else None
        if json:
            place, source = (str(folder.path), folder.source) if folder else (None, None)
            about = {"bytes": row.bytes, "bytes_here": here, "licence": row.licence, "ids": list(row.ids)}
            json_line({"name": row.name, "kind": row.kind, **about, "source": source, "path": place, "why": why})
        table.add_row(
            row.name, row.kind, size(row) if here is None else _bytes(here), str(folder.path) if folder else f"no: {why}", row.licence
        )
    if not json:
        console().print(table)


@app.command()
@guarded
def fetch(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="A checkpoint, a recipe (all it needs), or a hub id.", show_default=False)
    ],
    *,
    revision: Annotated[str | None, typer.Option(help="Hub revision. Left out: the catalogue's.")] = None,
    half: Annotated[bool, typer.Option("--half", help="Prefer float16 files, where a mirror has them: half the bytes.")] = False,
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also put them into plain folders, to carry to a machine without network.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="With --to: replace other files that are there.")] = False,
) -> None:
    """Download checkpoints into the hub's cache: says how many bytes under which licence first, and goes on where it was cut off.

    With --to and one recipe, FOLDER is a recipe of its own: nerveseg segment IMAGE --recipe FOLDER needs no network.
    """
    from nerveseg.weights import plan, present

    asked = list(dict.fromkeys(part for given in names for part in _checkpoints(given)))
    here = {name: folder for name in asked if (folder := _here(name) or present(name, revision=revision, half=half))}
    plans = {name: _planned(plan, name, revision=revision, half=half) for name in asked if name not in here}
    for found in plans.values():
        licence = f"licence {found.row.licence}. {found.row.note}" if found.row else "licence unknown: not in the catalogue"
        had = found.bytes - found.bytes_left
        rest = f" ({_bytes(had)} of them here already)" if had else ""
        note(f"{found.name}: {_bytes(found.bytes)}{rest} in {len(found.files)} files from {found.page.hub_id}, {licence}", style="cyan",
             lead="fetching")  # fmt: skip
    if plans:
        note(f"{_bytes(sum(found.bytes_left for found in plans.values()))} in all", style="cyan", lead="fetching")
    with _arriving(list(plans.values())) as said:
        found = {name: here.get(name) or plans[name].carry_out(said=said(name)) for name in asked}
    if to is None:
        for name, folder in found.items():
            say(f"{name}\t{folder.path}")
        return
    with waiting(f"copying to {to}"):
        _carry(names, found, to, overwrite=overwrite)


@app.command()
@guarded
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Left out: all that are here.", show_default=False)] = None,
) -> None:
    """Read checkpoints whole: hold every file to its digest, print each checkpoint's own, and load it; exits 1 if one cannot be used."""
    from nerveseg.weights import catalogue, locate

    asked = [part for given in names for part in _checkpoints(given)] if names else list(catalogue())
    bad = 0
    for name in dict.fromkeys(asked):
        try:
            folder = locate(name, offline=True)
        except WeightsNotFound:
            if names:
                raise
            continue
        except WeightsError as error:
            bad += 1
            fail(f"{name}: {error}")
            continue
        bad += not _sound(name, folder)
    if bad:
        raise typer.Exit(FAILED)


def _carry(names: Sequence[str], found: Mapping[str, Folder], to: Path, *, overwrite: bool) -> None:
    """Copy checkpoints to FOLDER; beside those of one recipe goes the recipe itself."""
    from nerveseg import outputs, recipe
    from nerveseg.weights import carry, catalogue

    to = to.expanduser()
    placed = carry.carry(found, to, overwrite=overwrite)
    for name, folder in placed.items():
        say(f"{name}\t{folder}")
    if len(names) != 1 or names[0] in catalogue() or names[0] in found:
        return
    chosen = recipe.load(names[0])
    kinds = dict(zip(chosen.weights, _checkpoints(names[0]), strict=True))
    from nerveseg.runs.atomic_write import writing

    with outputs.keeping(outputs.Inputs(), overwrite=overwrite), writing(to / "recipe.toml") as file:
        file.write(recipe.placed_at(chosen, {kind: f"./{placed[name].name}" for kind, name in kinds.items()}))
    say(f"{names[0]}\t{to / 'recipe.toml'}")
    note(f"carry {to} to the other machine, then: nerveseg weights verify {to.name} && nerveseg segment IMAGE --recipe {to.name}",
         style="cyan", lead="next")  # fmt: skip


def where(name: str) -> tuple[Folder | None, str]:
    """The folder of a checkpoint on this machine, or None and why not in a few words."""
    from nerveseg.weights import locate

    try:
        return locate(name, offline=True), ""
    except WeightsNotFound:
        return None, "not in the hub's cache" if not name.startswith("embedded:") else "missing from this installation"
    except WeightsError as error:
        return None, str(error)


def size(row: Row) -> str:
    """Bytes for people."""
    return _bytes(row.bytes)


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _checkpoints(name: str) -> list[str]:
    from nerveseg import recipe

    try:
        references = [str(reference) for reference in recipe.raw(name)[1].get("weights", {}).values()]
    except RecipeError:
        return [name]
    home = Path(name) if Path(name).is_dir() else Path(name).parent
    return [str(home / reference) if reference.startswith("./") else reference for reference in references]


def _here(name: str) -> Folder | None:
    """What no download can bring: a folder that a recipe names, or the embedded pair."""
    from nerveseg.weights.locate import is_path, locate

    return locate(name, offline=True) if name.startswith("embedded:") or Path(name).exists() or is_path(name) else None


def _planned(plan: Callable[..., Plan], name: str, *, revision: str | None, half: bool) -> Plan:
    from nerveseg.weights import catalogue
    from nerveseg.weights.locate import on_hub

    if not on_hub(name):
        known = ", ".join(catalogue())
        raise WeightsNotFound(f"Got the weights {name!r}. Accepted are a recipe, a hub id owner/name, or one of {known}. Check the name.")
    with waiting(f"asking for {name}"):
        return plan(name, revision=revision, half=half)


@contextmanager
def _arriving(plans: Sequence[Plan]) -> Iterator[Callable[[str], Callable[[int], None]]]:
    """One bar of bytes a checkpoint on stderr; nothing where stderr is no terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    shown = talk()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=shown, disable=not shown.is_terminal) as bars:
        tasks = {found.name: bars.add_task(found.name, total=found.bytes, completed=found.bytes - found.bytes_left) for found in plans}
        yield lambda name: lambda count: bars.advance(tasks[name], count)


def _sound(name: str, folder: Folder) -> bool:
    from nerveseg import backbones
    from nerveseg.weights import carry, check
    from nerveseg.weights.catalogue import GENERIC

    still()
    kind = folder.row.kind if folder.row else check.kind_of(folder.path)
    try:
        with waiting(f"reading {name}"):
            needed = folder.row.files if folder.row else GENERIC.get(kind or "", ())
            wrong = check.broken(folder.path, {**carry.stated(folder.path), **(folder.row.digests if folder.row else {})}, needed)
            if not wrong and kind is not None and kind in backbones.kinds():
                backbones.load(kind, folder.path)
            digest = folder.digest
    except NerveSegError as error:
        fail(f"{name}: {error}")
        return False
    for sentence in wrong:
        fail(f"{name}: {sentence}. Delete it, and fetch {name} again.")
    if not wrong:
        say(f"{name}\tsha256:{digest}\t{folder.path}")
    return not wrong
