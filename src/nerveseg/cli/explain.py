"""``nerveseg explain IMAGE``: one figure of what happens inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nerveseg.cli._bands import read_bands
from nerveseg.cli._console import guarded, note, say, waiting
from nerveseg.cli.segment import BackgroundWords, Bands, Device, Dtype, Labels, LowMemory, Offline, Range, RecipeName, Seed, Settings

__all__ = ["explain"]


@guarded
def explain(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.", show_default=False)],
    *,
    labels: Labels,
    recipe: RecipeName = "nerve",
    settings: Settings = None,
    background: BackgroundWords = "none",
    out: Annotated[Path, typer.Option("--out", "-o", help="The figure: .png, .svg or .pdf.")] = Path("nerveseg-explain.png"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a figure that is there already.")] = False,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
    low_memory: LowMemory = False,
    seed: Seed = None,
    bands: Bands = None,
    value_range: Range = None,
) -> None:
    """Draw one figure: the image, G, the weights of the heads, the walk at 0, 1, 5, 10, 20, 40 and ∞ steps, its bound."""
    from nerveseg import outputs
    from nerveseg.cli import _figure
    from nerveseg.cli._inside import check, look
    from nerveseg.cli._places import inputs
    from nerveseg.cli._session import Networks
    from nerveseg.cli._words import read_background, read_labels, read_settings
    from nerveseg.image import load_image

    vocabulary = read_labels(labels)
    rest = read_background(background, vocabulary)
    given = read_settings(settings or ())
    read = inputs(image, labels, background, recipe, settings=given)
    _figure.check(out, read, overwrite=overwrite)
    networks = Networks(recipe, device, dtype, offline, given, low_memory=low_memory)
    check(networks.check())
    loaded = load_image(image, **read_bands(bands, value_range))
    for remark in loaded.notes:
        note(f"{image}: {remark}")
    segmenter = networks.segmenter()
    with waiting(str(image)):
        inside = look(segmenter, segmenter.encode(loaded, seed=seed), vocabulary, rest)
        with outputs.keeping(read, overwrite=overwrite):
            _figure.draw(inside, out)
    say(out)
