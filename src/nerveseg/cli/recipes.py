"""``nerveseg recipes list | show NAME | diff A B``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from nerveseg.cli._console import console, guarded, json_line, say

__all__ = ["app"]

app = typer.Typer(help="The recipes: one named choice for every stage, with its knobs.", no_args_is_help=True)
_STAGES = {"labels": "maskclip", "graph": "none", "walk": "infinite"}
_Name = Annotated[str, typer.Argument(help="A recipe's name, file or folder.", show_default=False)]


@app.command("list")
@guarded
def list_(*, json: Annotated[bool, typer.Option("--json", help="Print one JSON object a recipe.")] = False) -> None:
    """List the recipes that come with the package: their stages, what they download, under which licences."""
    from nerveseg import recipe
    from nerveseg.cli._results import plain_table

    table = plain_table("recipe", "labels", "graph", "walk", "downloads", "licences", right=("downloads",))
    for name in recipe.list_recipes():
        rows = recipe.raw(name)[1]
        stages = {part: str(rows.get(part, {}).get("name", default)) for part, default in _STAGES.items()}
        size, licences = _weights(rows.get("weights", {}))
        if json:
            facts = {"title": str(rows.get("title", "")), "weights": rows.get("weights", {}), "bytes": size, "licences": licences}
            json_line({"recipe": name, **stages, **facts})
        # A walk that is named where there is no graph goes on the heads of the pass that the words went through.
        walks = stages["walk"] if stages["graph"] != "none" or "name" in rows.get("walk", {}) else "none"
        table.add_row(name, stages["labels"], _dash(stages["graph"]), _dash(walks), _size(size), "; ".join(licences))
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
        packaged = name in recipe.list_recipes()
        source = files("nerveseg") / "recipes" / f"{name}.toml" if packaged else path / "recipe.toml" if path.is_dir() else path
        text = source.read_text("utf-8")
    say(text, lines=True, end="")


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


def _weights(references: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Bytes that a recipe's weights take to download, as far as the catalogue knows them, and their licences."""
    from nerveseg.weights.catalogue import find

    rows = [row for row in (find(str(reference)) for reference in references.values()) if row is not None]
    return sum(row.bytes for row in rows if row.ids), list(dict.fromkeys(row.licence for row in rows))


def _size(count: int) -> str:
    return "–" if count == 0 else f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _dash(name: str) -> str:
    return "–" if name == "none" else name


def _flat(chosen: Any) -> dict[str, Any]:
    import tomllib

    tables = tomllib.loads(chosen.to_toml())
    return {f"{table}.{knob}": value for table, inner in tables.items() if isinstance(inner, Mapping) for knob, value in inner.items()}


def _shown(side: Mapping[str, Any], knob: str) -> str:
    return str(side[knob]) if knob in side else "–"
