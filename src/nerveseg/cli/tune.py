"""``nerveseg tune``: a recipe's knobs on labelled images of one's own, with a check that refuses to call noise a gain."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from nerveseg import outputs
from nerveseg.cli._console import guarded, note, say
from nerveseg.cli._jobs import Limit, Names, OneRecipe, OwnData, OwnRoot, Workers, job_of, opened
from nerveseg.cli._places import inputs
from nerveseg.cli._words import read_settings
from nerveseg.cli.segment import Device, Dtype, LowMemory, Offline, Seed, Settings
from nerveseg.outputs import Inputs

__all__ = ["tune"]


@guarded
def tune(
    *,
    recipe: OneRecipe = "mini",
    data: OwnData = "folder",
    root: OwnRoot = None,
    split: Annotated[str | None, typer.Option(help="Images to tune on; best one that nothing is reported on.")] = None,
    limit: Limit = None,
    names: Names = "official",
    cache: Annotated[Path | None, typer.Option(help="Folder of encodings. Left out: in OUT.")] = None,
    seed: Seed = None,
    settings: Settings = None,
    workers: Workers = 1,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the rounds and recipe.toml; one that is there goes on.")] = Path(
        "nerveseg-tune"
    ),
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
    low_memory: LowMemory = False,
) -> None:
    """Tune sharpness, head peakedness, α, β, kernel and decision rule on half of the images, and check on the other half.

    OUT/recipe.toml is written only where the gain on the images that were not looked at is clear of 0.
    """
    from nerveseg.bench.holdout import few
    from nerveseg.bench.tune import tune as tuned
    from nerveseg.cli._console import still

    _check(out, inputs(recipe, names, settings=read_settings(settings or ())))
    still()
    job = job_of(
        recipe=recipe,
        data=data,
        root=root,
        split=split,
        class_names=names,
        limit=limit,
        settings=settings,
        seed=seed,
        device=device,
        dtype=dtype,
        offline=offline,
        low_memory=low_memory,
        workers=workers,
    )
    opened(job)
    found = tuned(job, out, cache=None if cache is None else str(cache), workers=workers, command=shlex.join(["nerveseg", *sys.argv[1:]]))
    gain = found.gain
    said = f"{found.before:.1f} -> {found.after:.1f} mIoU, {gain.value:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}]"
    say(f"{found.images[1]} images not looked at: {said}")
    for name, value in found.settings.items():
        say(f"{name} = {value}")
    if warning := few(found.images[1]):
        note(warning)
    if found.real:
        say(out / "recipe.toml")
    else:
        note("this is no gain that the other half confirms: no recipe was written", lead="held out")


def _check(out: Path, read: Inputs) -> None:
    """Refuse a folder whose ``recipe.toml`` is an input, or was made by no tuning that is there to go on."""
    made = any(out.glob("*/run.json"))
    outputs.check([out / "recipe.toml"], read, overwrite=made, advice="Choose another folder with -o")
