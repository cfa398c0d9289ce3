"""``nerveseg refine SCORES PICTURE``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nerveseg.cli._console import guarded, json_line, note, waiting
from nerveseg.cli.segment import BackgroundWords, Device, Dtype, Offline, RecipeName, Seed, Settings
from nerveseg.errors import OptionError

__all__ = ["refine"]

_ENDING = ".probabilities.safetensors"


@guarded
def refine(
    scores: Annotated[
        Path,
        typer.Argument(metavar="SCORES", help="An .npz or .safetensors file with the array 'scores' (K, h, w).", show_default=False),
    ],
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="The picture file that they are of.", show_default=False)],
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
) -> None:
    """Walk any model's label probabilities on a recipe's graph.

    Writes NAME.png, NAME.run.json, NAME.overlay.png and NAME.probabilities.safetensors ('scores', float16, on the graph's grid).
    For logits add --set labels.kind=logits. Exits 0 if all went well, 1 if it failed, 2 for a wrong command.
    """
    from nerveseg import refinement
    from nerveseg.cli._places import folder, plan
    from nerveseg.cli._results import as_json, show
    from nerveseg.cli._session import Networks, save
    from nerveseg.cli._words import read_labels, read_settings
    from nerveseg.picture import load
    from nerveseg.writers import scores as scores_writer

    (place,) = plan([picture], out, overwrite=overwrite)
    refined = place.ids.with_name(place.ids.name.removesuffix(".png") + _ENDING)
    _check_free(refined, scores, overwrite=overwrite)
    vocabulary = read_labels(labels) if labels is not None else None
    networks = Networks(recipe, device, dtype, offline, refinement.settings_for(read_settings(settings or ())))
    with waiting("reading the recipe"):
        chosen = refinement.recipe_for(recipe, networks.settings)
        columns = refinement.prepare(scores, chosen, labels=vocabulary, background=_background(background))
    loaded = load(picture)
    for remark in loaded.notes:
        note(f"{picture}: {remark}")
    segmenter = networks.segmenter()
    folder(out)
    with waiting(str(picture)):
        result = refinement.walk_on(segmenter, columns, loaded, seed=seed)
        scores_files = scores_writer.write(result, refined, scores_writer.Options(at="grid"))
        files, taken = save(result, place)
    if json:
        json_line(as_json(str(picture), result, (*scores_files, *files), taken))
    else:
        show(str(picture), result, (*scores_files, *files), taken)


def _background(text: str) -> Any:
    from nerveseg.words.vocabulary import Vocabulary

    word = text.strip().lower()
    return {"none": None, "auto": "auto"}[word] if word in ("none", "auto") else Vocabulary.parse_line(text)


def _check_free(path: Path, scores: Path, *, overwrite: bool) -> None:
    if path.resolve() == scores.resolve():
        raise OptionError(f"Got {scores}, which the result would replace. Accepted is another folder. Choose one with -o.")
    if path.exists() and not overwrite:
        raise OptionError(
            f"Got {path}, which is there already. Accepted is a place without it. Choose another folder with -o, or add --overwrite."
        )
