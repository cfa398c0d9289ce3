"""``nerveseg segment IMAGE... --labels "cat; kitten, dog, grass"``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from nerveseg.cli._bands import read_bands
from nerveseg.cli._console import FAILED, SOME_FAILED, fail, guarded, json_line, note, waiting
from nerveseg.errors import NerveSegError, OptionError

__all__ = ["segment"]

Labels = Annotated[
    str,
    typer.Option(
        "--labels", "-l", help="Words parted by ',', synonyms by ';', '\"cat, striped\"' for a comma – or a file: .txt, .csv, .json."
    ),
]
RecipeName = Annotated[str, typer.Option("--recipe", "-r", help="A recipe's name, file or folder. 'mini' works offline.")]
Settings = Annotated[list[str] | None, typer.Option("--set", "-s", metavar="TABLE.KNOB=VALUE", help="Change a knob of the recipe.")]
BackgroundWords = Annotated[str, typer.Option("--background", "-b", help="none, auto, or words as for --labels, or a file.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps. Left out: the best there is.")]
Dtype = Annotated[str | None, typer.Option(help="float32, float16, bfloat16. Left out: float16 on CUDA, else float32.")]
LowMemory = Annotated[bool, typer.Option("--low-memory", help="Keep only one stage's networks on the device. Slower.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask the network.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of the diffusion noise. Left out: the recipe's.")]
Tile = Annotated[int | None, typer.Option(metavar="PIXELS", help="For big images: tiles of this side, one walk over all. Try 1024.")]
Overlap = Annotated[float, typer.Option(help="With --tile: the share of a tile's side that its neighbour has, too.")]
Abstain = Annotated[float | None, typer.Option(help="Give pixels less probable than this the ignored id. Try 0.6.")]
Bands = Annotated[
    str | None,
    typer.Option(metavar="R,G,B", help="Bands of a file that are red, green and blue, from 1, as 4,3,2; or one. TIFF takes rasterio."),
]
Range = Annotated[
    str | None,
    typer.Option("--range", metavar="LOW,HIGH", help="Values that become 0 and 255. Left out: the file's own, 8 bits as they are."),
]
Clicks = Annotated[
    list[str] | None,
    typer.Option(
        "--click", metavar="LABEL@X,Y", help="A pixel that has a label, or a box, LABEL@x0,y0,x1,y1; may be given more than once."
    ),
]
_OVERLAP = 0.25  # as in image.tiles, which needs NumPy
_BIG = 2048  # pixels of the shorter side: a network that is shown 512 of them loses what is smaller than 4


@guarded
def segment(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.", show_default=False)],
    *,
    labels: Labels,
    recipe: RecipeName = "nerve",
    settings: Settings = None,
    background: BackgroundWords = "none",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("nerveseg-out"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object an image.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there already.")] = False,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
    low_memory: LowMemory = False,
    seed: Seed = None,
    tile: Tile = None,
    overlap: Overlap = _OVERLAP,
    click: Clicks = None,
    abstain: Abstain = None,
    bands: Bands = None,
    value_range: Range = None,
    overlay: Annotated[bool, typer.Option("--overlay/--no-overlay", help="Paint NAME.overlay.png, to look at.")] = True,
) -> None:
    """Label every pixel of images by words.

    Writes NAME.png (pixel = label id), NAME.run.json (labels, recipe, versions) and NAME.overlay.png for each image.
    Exits 0 if all went well, 1 if it failed, 2 for a wrong command, 3 if some images failed.
    """
    from nerveseg import outputs
    from nerveseg.cli._places import folder, inputs, plan
    from nerveseg.cli._results import as_json, show
    from nerveseg.cli._session import Networks, Session, save
    from nerveseg.cli._words import read_background, read_clicks, read_labels, read_settings
    from nerveseg.image import load_image

    vocabulary = read_labels(labels)
    rest = read_background(background, vocabulary)
    chosen = read_bands(bands, value_range)
    given = read_settings(settings or ())
    read = inputs(*images, labels, background, recipe, settings=given)
    places = plan(images, out, read, overwrite=overwrite, painted=overlay)
    if click and len(images) > 1:
        raise OptionError(f"Got --click with {len(images)} images. Accepted is one: a click is a place in it. Go image by image.")
    knobs = {name: given.pop(name) for name in tuple(given) if name.startswith("clicks.")}
    networks = Networks(recipe, device, dtype, offline, given, low_memory=low_memory)
    networks.check()
    session = Session(networks, vocabulary, rest, seed, tile, overlap, read_clicks(click or ()), knobs, abstain)
    session.check()
    folder(out)

    failed: list[Path] = []
    for place in places:
        with _attempt(place.image, failed, json=json):
            image = load_image(place.image, **chosen)
            for remark in image.notes:
                note(f"{place.image}: {remark}")
            if tile is None and min(image.size) >= _BIG:
                note(f"{place.image}: {image.size[0]} × {image.size[1]} pixels, of which the networks see few. --tile 1024 shows more.")
        if place.image in failed:
            continue
        networks.segmenter()  # not in an attempt: without networks every image fails
        with _attempt(place.image, failed, json=json):
            with waiting(str(place.image)):
                result = session.segment(image)
                with outputs.keeping(read, overwrite=overwrite):
                    files, taken = save(result, place)
            if json:
                json_line(as_json(str(place.image), result, files, taken))
            else:
                show(str(place.image), result, files, taken)
    _conclude(failed, len(places))


@contextmanager
def _attempt(path: Path, failed: list[Path], *, json: bool) -> Iterator[None]:
    """Report one image's failure and go on: one that is damaged or too large must not lose the others."""
    try:
        yield
    except (NerveSegError, RuntimeError, MemoryError) as error:
        failed.append(path)
        fail(str(error) if isinstance(error, NerveSegError) else f"{path}: {type(error).__name__}: {error}")
        if json:
            json_line({"picture": str(path), "error": {"type": type(error).__name__, "message": str(error)}})


def _conclude(failed: list[Path], total: int) -> None:
    if not failed:
        return
    if total > 1:
        note(f"{len(failed)} of {total} images: {', '.join(map(str, failed))}", style="red", lead="failed")
    raise typer.Exit(FAILED if len(failed) == total else SOME_FAILED)
