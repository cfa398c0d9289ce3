"""``nerveseg recipes list | show NAME | diff A B``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from nerveseg.cli._console import console, guarded, json_line

__all__ = ["app"]

app = typer.Typer(help="The recipes: one named choice for every stage, with its knobs.", no_args_is_help=True)
_Name = Annotated[str, typer.Argument(help="A recipe's name, file or folder.", show_default=False)]


@app.command("list")
@guarded
def list_(*, json: Annotated[bool, typer.Option("--json", help="Print one JSON object a recipe.")] = False) -> None:
    """List the recipes that come with the package."""
    from nerveseg import recipe
    from nerveseg.cli._results import plain_table

    table = plain_table("recipe", "what it is")
    for name in recipe.names():
        rows = recipe.raw(name)[1]
        title = str(rows.get("title", ""))
        if json:
            json_line({"recipe": name, "title": title, "weights": rows.get("weights", {})})
        table.add_row(name, title)
    if not json:
        console().print(table)


@app.command()
@guarded
def show(
    name: _Name,
    *,
    full: Annotated[bool, typer.Option("--full", help="Write out every knob, those left at their default included.")] = False,
) -> None:
    """Print a recipe as TOML: as it is written, comments included, or with every knob."""
    from nerveseg import recipe

    if full:
        text = recipe.load(name).to_toml()
    else:
        recipe.raw(name)  # tells a wrong name
        path = Path(name)
        packaged = name in recipe.names()
        source = files("nerveseg") / "recipes" / f"{name}.toml" if packaged else path / "recipe.toml" if path.is_dir() else path
        text = source.read_text("utf-8")
    typer.echo(text, nl=False)


@app.command()
@guarded
def diff(a: _Name, b: _Name) -> None:
    """Print the knobs in which two recipes differ, defaults included."""
    from nerveseg import recipe
    from nerveseg.cli._results import plain_table

    left, right = _flat(recipe.load(a)), _flat(recipe.load(b))
    table = plain_table("knob", a, b)
    for knob in sorted({*left, *right}):
        if left.get(knob) != right.get(knob):
            table.add_row(knob, *(_shown(side, knob) for side in (left, right)))
    if table.row_count:
        console().print(table)
    else:
        console().print(f"{a} and {b} choose the same.")


def _flat(chosen: Any) -> dict[str, Any]:
    import tomllib

    tables = tomllib.loads(chosen.to_toml())
    return {f"{table}.{knob}": value for table, inner in tables.items() if isinstance(inner, Mapping) for knob, value in inner.items()}


def _shown(side: Mapping[str, Any], knob: str) -> str:
    return str(side[knob]) if knob in side else "–"
