"""``nerveseg refine SCORES IMAGE``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nerveseg.cli._bands import read_bands
from nerveseg.cli._console import guarded, json_line, note, waiting
from nerveseg.cli.segment import BackgroundWords, Bands, Device, Dtype, Offline, Range, RecipeName, Seed, Settings

__all__ = ["refine"]

_ENDING = ".probabilities.safetensors"


@guarded
def refine(
    scores: Annotated[
        Path,
        typer.Argument(metavar="SCORES", help="An .npz or .safetensors file with the array 'scores' (K, h, w).", show_default=False),
    ],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image file that they are of.", show_default=False)],
    *,
    labels: Annotated[
        str | None,
        typer.Option("--labels", "-l", help="K words, or a file of them. Left out: the names in SCORES, or class 0, class 1, …."),
    ] = None,
    recipe: RecipeName = "nerve",
    settings: Settings = None,
    background: BackgroundWords = "none",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("nerveseg-out"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there already.")] = False,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
    seed: Seed = None,
    bands: Bands = None,
    value_range: Range = None,
) -> None:
    """Walk any model's label probabilities on a recipe's graph.

    Writes NAME.png, NAME.run.json, NAME.overlay.png and NAME.probabilities.safetensors ('scores', float16, on the graph's grid).
    For logits add --set labels.kind=logits. Exits 0 if all went well, 1 if it failed, 2 for a wrong command.
    """
    from nerveseg import outputs, refinement
    from nerveseg.cli._places import folder, inputs, plan
    from nerveseg.cli._results import as_json, show
    from nerveseg.cli._session import Networks, save
    from nerveseg.cli._words import background_words, read_labels, read_settings
    from nerveseg.image import load_image
    from nerveseg.writers import scores as scores_writer

    given = read_settings(settings or ())
    read = inputs(image, scores, labels, background, recipe, settings=given)
    (place,) = plan([image], out, read, overwrite=overwrite, endings=(_ENDING,))
    refined = place.named(_ENDING)
    vocabulary = read_labels(labels) if labels is not None else None
    networks = Networks(recipe, device, dtype, offline, refinement.settings_for(given))
    loaded = load_image(image, **read_bands(bands, value_range))
    for remark in loaded.notes:
        note(f"{image}: {remark}")
    with waiting("reading the recipe"):
        chosen = refinement.recipe_for(recipe, networks.settings)
        columns = refinement.prepare(scores, chosen, labels=vocabulary, background=background_words(background), size=loaded.size)
    segmenter = networks.segmenter()
    folder(out)
    with waiting(str(image)):
        result = refinement.walk_on(segmenter, columns, loaded, seed=seed)
        with outputs.keeping(read, overwrite=overwrite):
            scores_files = scores_writer.write(result, refined, scores_writer.Options(at="grid"))
            files, taken = save(result, place)
    if json:
        json_line(as_json(str(image), result, (*scores_files, *files), taken))
    else:
        show(str(image), result, (*scores_files, *files), taken)
