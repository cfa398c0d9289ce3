"""The verbs, gathered."""

from __future__ import annotations

from typing import Annotated

import typer

from nerveseg import __version__
from nerveseg.cli import (
    ablate,
    batch,
    bench,
    calibrate,
    datasets,
    demo,
    doctor,
    explain,
    names,
    recipes,
    refine,
    segment,
    serve,
    synthetic,
    tune,
    weights,
)
from nerveseg.cli import app as page

__all__ = ["app"]

app = typer.Typer(
    help="Segment any image with any words, without training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: nerveseg demo",
)


def _version(value: bool) -> bool:  # noqa: FBT001  typer calls it so
    if value:
        typer.echo(f"nerveseg {__version__}")
        raise typer.Exit
    return value


@app.callback()
def _root(
    *,
    version: Annotated[bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version and stop.")] = False,
) -> None:
    """Segment any image with any words, without training."""


app.command()(segment.segment)
app.command()(batch.batch)
app.command()(demo.demo)
app.command()(explain.explain)
app.command()(refine.refine)
app.command()(doctor.doctor)
app.add_typer(recipes.app, name="recipes")
app.add_typer(weights.app, name="weights")
app.add_typer(synthetic.app, name="synthetic")
app.add_typer(synthetic.app, name="world", hidden=True, deprecated=True)  # what it was called
app.add_typer(datasets.app, name="datasets")
app.add_typer(names.app, name="names")
app.add_typer(bench.app, name="bench")
app.command()(ablate.ablate)
app.command()(tune.tune)
app.command()(calibrate.calibrate)
app.command()(serve.serve)
app.command()(page.app)
