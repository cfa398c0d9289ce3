"""``nerveseg calibrate``: a recipe's temperature from a few labelled images, with a check that refuses to call noise a gain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nerveseg.cli._console import counting, guarded, note, say
from nerveseg.cli._jobs import Limit, Names, OneRecipe, OwnData, OwnRoot, job_of, opened
from nerveseg.cli._places import check_file, inputs
from nerveseg.cli._words import read_settings
from nerveseg.cli.segment import Device, Dtype, LowMemory, Offline, Seed, Settings

if TYPE_CHECKING:
    from nerveseg.bench.temperature import Calibrated, Measured

__all__ = ["calibrate"]


@guarded
def calibrate(
    *,
    recipe: OneRecipe = "mini",
    data: OwnData = "folder",
    root: OwnRoot = None,
    split: Annotated[str | None, typer.Option(help="Images to calibrate on; best one that nothing is reported on.")] = None,
    limit: Limit = None,
    names: Names = "official",
    cache: Annotated[Path | None, typer.Option(help="Folder of encodings. Left out: none are kept.")] = None,
    seed: Seed = None,
    settings: Settings = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The recipe's file, .toml.")] = Path("calibrated.toml"),
    plot: Annotated[Path | None, typer.Option(help="A .png of the reliability before and after.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")] = False,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
    low_memory: LowMemory = False,
) -> None:
    """Choose how sure a recipe's scores are on half of some labelled images, and check on the other half. No label changes.

    OUT, the recipe with masks.temperature, is written only where its gain on the images that had no say is clear of 0. Eight images
    are the fewest.
    """
    from nerveseg import outputs
    from nerveseg.bench import temperature
    from nerveseg.bench.holdout import few, halves
    from nerveseg.cli._console import still

    own = () if root is None else (root / "names.txt", root / "images", root / "masks")
    read = inputs(recipe, names, *own, settings=read_settings(settings or ()))
    check_file(out, "-o", read, overwrite=overwrite, endings=(".toml",))
    if plot is not None:
        check_file(plot, "--plot", read, overwrite=overwrite, endings=(".png",))
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
        workers=1,
    )
    seen, unseen = halves(opened(job), job.limit)
    with counting({"fit": len(seen), "check": len(unseen)}) as told, outputs.keeping(read, overwrite=overwrite):
        found = temperature.calibrate(job, out, cache=cache, said=told)
    _tell(found)
    if said := few(found.images[1]):
        note(said)
    if plot is not None:
        with outputs.keeping(read, overwrite=overwrite):
            _draw(found, plot, f"{job.compose().name} on {job.data}")
        say(plot)
    if found.real:
        say(out)
    else:
        note("this is no gain that is not noise: no recipe was written", lead="held out")


def _tell(found: Calibrated) -> None:
    say(f"masks.temperature = {found.after.temperature:g}, from {found.images[0]} images")
    say(f"on {found.images[1]} images that had no say:")
    for lead, one in (("before", found.before), ("after", found.after)):
        say(f"  {lead:6}  {_said(one)}")
    gain, errors = found.after.gain, [one.calibration.ece for one in (found.before, found.after)]
    say(f"NLL less by {gain.value:.4f} [{gain.low:.4f}, {gain.high:.4f}]")
    if gain.low > 0 and errors[1] > errors[0]:
        note("the ECE is larger than before: one temperature does not mend all bins, and the NLL weighs the sure and wrong ones most")


def _said(one: Measured) -> str:
    sure = one.calibration
    mean = sure.confidence.sum() / max(1, sure.pixels.sum())
    return f"T {one.temperature:g}   NLL {one.nll:.4f}   ECE {100 * sure.ece:.1f} %   mean confidence {mean:.3f}"


def _draw(found: Calibrated, path: Path, title: str) -> None:
    from nerveseg.bench.report.plots import reliability
    from nerveseg.writers.base import replacing

    shown = {f"{lead}, T = {one.temperature:g}": one.calibration for lead, one in (("before", found.before), ("after", found.after))}
    with replacing(path) as (draft,):
        draft.write_bytes(reliability(shown, title, f"{found.images[1]} images that had no say"))
