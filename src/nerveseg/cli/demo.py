"""``nerveseg demo``: segment the images that come with the package with the networks that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nerveseg.cli._console import console, guarded, json_line, waiting

__all__ = ["demo"]


@guarded
def demo(
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("nerveseg-demo"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of these names that are no results of the demo.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object an image.")] = False,
) -> None:
    """Segment the bundled scenes with the embedded networks. No network, no downloads.

    Leaves an overlay with a legend and an indexed PNG of each, and the scenes themselves in the folder's ``images``. The labels hold
    names that are not in the image, too.
    """
    import shutil

    from nerveseg import outputs
    from nerveseg.cli._places import Place, folder, inputs
    from nerveseg.cli._results import as_json, show
    from nerveseg.cli._session import Networks, Session, save
    from nerveseg.image import load_image
    from nerveseg.synthetic import bundled
    from nerveseg.words.vocabulary import Vocabulary
    from nerveseg.writers.base import replacing

    folder(out)
    folder(out / "pictures")
    networks = Networks("mini")
    for scene in bundled.scenes():
        session = Session(networks, Vocabulary.parse(scene.labels))
        target = Place(scene.path, out / f"{scene.name}.png")
        with waiting(scene.name):
            result = session.segment(load_image(scene.path))
            with outputs.keeping(inputs(scene.path), overwrite=overwrite):  # the same results stay as they are
                files, taken = save(result, target)
                with replacing(out / "pictures" / scene.path.name) as (draft,):
                    shutil.copyfile(scene.path, draft)
        if json:
            json_line(as_json(scene.name, result, files, taken))
        else:
            show(scene.name, result, files, taken)
    if not json:
        console().print(f"Loading the networks took {networks.seconds:.2f} seconds, once. Look at {out}/*.overlay.png.", soft_wrap=True)
