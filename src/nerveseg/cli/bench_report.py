"""``nerveseg bench report``: tables and plots of finished runs, published numbers beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nerveseg.cli._console import counting, guarded, say, waiting
from nerveseg.cli._places import check_file, inputs
from nerveseg.errors import OptionError
from nerveseg.outputs import Inputs

__all__ = ["report"]

_FORMATS = ("md", "csv", "json", "html", "png")


@guarded
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs (nerveseg bench run).", show_default=False)
    ],
    *,
    format_: Annotated[
        str | None,
        typer.Option("--format", "-f", help="md, csv, json, html, png. Left out: by the ending of -o, else md.", show_default=False),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="A run that the others on its data set are paired with, over the same images; may be given more than once."),
    ] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Add tables class by class.")] = False,
    published: Annotated[
        str,
        typer.Option(help="near: the rows of NERVE's Table 1 and those that the recipes here are to be held against; all; none."),
    ] = "near",
    draws: Annotated[int, typer.Option(min=100, help="Bootstrap draws of images, for the 95 % intervals.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File; left out: standard output. png needs one.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Make a report of finished runs: Table 1's shape, measures, intervals over images, classes, plots.

    Scores are counted anew from each run's results.jsonl. Published rows are marked as such, with their source. A difference
    between runs over other images, masks or classes is refused; other settings that matter are told in footnotes.
    """
    chosen = _format(format_, out)
    read = inputs(*runs, *(against or ()))
    _check(chosen, out, read, overwrite=overwrite)
    with waiting("reading"):
        from nerveseg.bench.report import build, to_csv, to_html, to_json, to_markdown
    total = len({place.resolve() for place in (*runs, *(against or ()))})
    with counting({"reading": total, "intervals": total}) as said:
        made = build(
            runs,
            against=against or (),
            per_class=per_class,
            published=published,
            draws=draws,
            seed=seed,
            said=said,
        )
    if chosen in ("html", "png"):
        with waiting("drawing"):
            from nerveseg.bench.report import plots

            content = plots.one_figure(made) if chosen == "png" else to_html(made, plots.every(made)).encode()
    else:
        content = {"csv": to_csv, "json": to_json, "md": to_markdown}[chosen](made).encode()
    if out is None:
        say(content.decode(), lines=True, end="")
        return
    from nerveseg import outputs
    from nerveseg.writers.base import replacing

    with outputs.keeping(read, overwrite=overwrite), replacing(out) as (draft,):
        draft.write_bytes(content)
    say(out)


def _format(name: str | None, out: Path | None) -> str:
    ending = "" if out is None else out.suffix.lower().lstrip(".")
    chosen = name or {"markdown": "md", "htm": "html"}.get(ending, ending) or "md"
    if chosen not in _FORMATS:
        given = f"--format {name}" if name else f"-o {out}"
        raise OptionError(f"Got {given}. Accepted are {', '.join(_FORMATS)}. Name one with --format.")
    return chosen


def _check(chosen: str, out: Path | None, read: Inputs, *, overwrite: bool) -> None:
    """Refuse a place that the report cannot go to, before any work."""
    if out is None:
        if chosen == "png":
            raise OptionError("Got --format png without a file. Accepted is one. Name it with -o report.png.")
        return
    check_file(out, "-o", read, overwrite=overwrite)
