"""``nerveseg names check``: class names before a run, by the text tower of the recipe that will read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nerveseg.cli._console import console, guarded, json_line, waiting
from nerveseg.cli.segment import Device, Dtype, Offline

if TYPE_CHECKING:
    from nerveseg.bench.name_check import Finding, Report

__all__ = ["app"]

app = typer.Typer(help="Class names, before a run.", no_args_is_help=True)

_SHOWN = 12  # classes whose synonyms' spread is listed; --json lists all


@app.callback()
def _root() -> None:
    """Class names, before a run."""


@app.command()
@guarded
def check(
    names: Annotated[
        str, typer.Argument(metavar="FILE", help="One class a line, ';' between its strings; or DATA, DATA:LIST.", show_default=False)
    ],
    *,
    against: Annotated[
        str | None, typer.Option(metavar="FILE|DATA[:LIST]", help="The same classes in the same order, as they are meant; such as voc21.")
    ] = None,
    recipe: Annotated[str, typer.Option("--recipe", "-r", help="Whose text tower and sentences read them.")] = "mini",
    near: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the typical distance from which on two classes are near. Larger: more.")
    ] = 0.25,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
) -> None:
    """Find names that a recipe will mix up or misread; changes nothing.

    Tells strings that stand in two classes, classes that lie near each other, strings that lie nearer to another class than to their own,
    words that the text tower was not trained on, strings that it cuts, a background that is missing, and how far the strings of each class
    lie apart. Distances: 0 is the same, 1 as far as two unrelated names. Exits 0 whatever it finds.
    """
    from nerveseg.bench import name_check
    from nerveseg.cli._console import still

    with waiting("reading names and the text tower"):
        still()
        found = name_check.names_of(names)
        beside = None if against is None else name_check.names_of(against)
        network, chosen = name_check.tower(recipe, device=device, dtype=dtype, offline=offline)
        report = name_check.check(found, network, templates=chosen.templates, against=beside, near=near)
    if json:
        json_line({"names": names, "against": against, "recipe": chosen.name, "templates": chosen.templates, **name_check.as_json(report)})
        return
    _show(report, chosen.name)


def _show(report: Report, recipe: str) -> None:
    from nerveseg.bench.name_check import KINDS
    from nerveseg.cli._results import plain_table

    out = console()
    count = len(report.findings)
    what = f"{count} finding{'s' * (count != 1)}"
    out.print(f"{report.origin}: {report.classes} classes, {report.strings} strings, read by {recipe}: {what}", soft_wrap=True)
    if report.findings:
        table = plain_table("finding", "class", "string", "beside", "distance", "own", "meaning", right=("distance", "own"))
        for one in report.findings:
            table.add_row(one.kind, one.name, one.string, _beside(one), _number(one.distance), _number(one.own), KINDS[one.kind])
        out.print(table)
    if report.spreads:
        table = plain_table("synonyms of", "strings", "widest", "between", right=("strings", "widest"))
        for spread in report.spreads[:_SHOWN]:
            table.add_row(spread.name, str(spread.strings), _number(spread.widest), f"{spread.first} – {spread.second}")
        if len(report.spreads) > _SHOWN:
            table.add_row(f"and {len(report.spreads) - _SHOWN} more", "", "", "")
        out.print(table)


def _beside(finding: Finding) -> str:
    return finding.beside if finding.beside == finding.other else f"{finding.other}: {finding.beside}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
