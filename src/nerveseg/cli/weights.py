"""``nerveseg weights list | fetch NAME | verify [NAME]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nerveseg.cli._console import FAILED, console, fail, guarded, json_line, note, still, waiting
from nerveseg.errors import NerveSegError, RecipeError, WeightsError, WeightsNotFound

if TYPE_CHECKING:
    from nerveseg.weights import Folder, Row

__all__ = ["app", "size", "where"]

app = typer.Typer(help="Checkpoints: which there are, which are here, and how to get them.", no_args_is_help=True)


@app.command("list")
@guarded
def list_(*, json: Annotated[bool, typer.Option("--json", help="Print one JSON object a checkpoint.")] = False) -> None:
    """List the checkpoints of the catalogue and where they are on this machine."""
    from nerveseg.cli._results import plain_table
    from nerveseg.weights import catalogue

    table = plain_table("name", "kind", "size", "here", "licence", right=("size",))
    for row in catalogue().values():
        folder, why = where(row.name)
        if json:
            place = str(folder.path) if folder else None
            json_line({"name": row.name, "kind": row.kind, "bytes": row.bytes, "licence": row.licence, "path": place, "why": why})
        table.add_row(row.name, row.kind, size(row), str(folder.source) if folder else f"no: {why}", row.licence)
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
) -> None:
    """Download checkpoints into the hub's cache."""
    from nerveseg.weights import fetch as download
    from nerveseg.weights.catalogue import find

    for name in [part for given in names for part in _checkpoints(given)]:
        row = find(name)
        if row is not None and row.ids:
            note(f"{name}: about {size(row)}, licence {row.licence}. {row.note}", style="cyan", lead="fetching")
        folder = download(name, revision=revision)
        typer.echo(f"{name}\t{folder.path}")


@app.command()
@guarded
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Left out: all that are here.", show_default=False)] = None,
) -> None:
    """Read checkpoints whole: print each one's digest, and load it; exits 1 if one cannot be used."""
    from nerveseg.weights import catalogue, locate

    asked = [part for given in names for part in _checkpoints(given)] if names else list(catalogue())
    bad = 0
    for name in asked:
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
        bad += not _loads(name, folder)
    if bad:
        raise typer.Exit(FAILED)


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
    return f"{row.bytes / 1e9:.1f} GB" if row.bytes >= 1e9 else f"{row.bytes / 1e6:.0f} MB"


def _checkpoints(name: str) -> list[str]:
    from nerveseg import recipe

    try:
        return [str(reference) for reference in recipe.raw(name)[1].get("weights", {}).values()]
    except RecipeError:
        return [name]


def _loads(name: str, folder: Folder) -> bool:
    from nerveseg.backbones import clip, stable_diffusion

    still()
    kind = folder.row.kind if folder.row else ("diffusion" if (folder.path / "unet").is_dir() else "clip")
    try:
        with waiting(f"reading {name}"):
            {"clip": clip.load, "diffusion": stable_diffusion.load}[kind](folder.path)
            digest = folder.digest
    except NerveSegError as error:
        fail(f"{name}: {error}")
        return False
    typer.echo(f"{name}\tsha256:{digest}\t{folder.path}")
    return True
