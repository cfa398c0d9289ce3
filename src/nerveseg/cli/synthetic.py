"""``nerveseg synthetic render | train | score``: the embedded world and the pair of networks that is trained on it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from nerveseg.cli._console import counting, guarded, note, say
from nerveseg.errors import OptionError, OutputError

__all__ = ["app"]

app = typer.Typer(help="The embedded world: drawn scenes with exact masks, and the small networks that know them.", no_args_is_help=True)

# Of the minutes: the autoencoder is done early; CLIP decides the labels; the diffusion half is still improving when it stops.
_PARTS = {"vae": 0.1, "clip": 0.35, "diffusion": 0.55}
_ALONE = {"classic": 1.0, "pictures": 1.0}  # done where they are asked for, for all of the minutes; classic is no part of the pair yet


@app.command()
@guarded
def render(
    *,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    index: Annotated[
        list[int] | None, typer.Option("--index", "-i", min=0, help="Number of the scene; may be given more than once.")
    ] = None,
    things: Annotated[
        str | None, typer.Option(metavar="FEWEST,MOST", help="How many kinds of thing a scene has. Left out: the world's own.")
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="HEIGHTxWIDTH", help="Pixels. Left out: the split's own sizes in turn.")] = None,
    world: Annotated[
        int, typer.Option(help="1: flat glyphs on textures. 2: light, shadow, crowds, attributes, up to 256 x 320 pixels.")
    ] = 1,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for NAME.png, NAME.mask.png and NAME.txt.")] = Path("nerveseg-world"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of these names that are no such scenes.")] = False,
) -> None:
    """Draw scenes: the image, the mask (pixel = place in the list of names), and the caption with the names below it."""
    from PIL import Image

    from nerveseg import outputs
    from nerveseg.cli._places import folder
    from nerveseg.masks.palette import voc_palette
    from nerveseg.synthetic import scenes
    from nerveseg.writers.base import replacing

    count = _pair(things, ",", "--things") if things else None
    frame = _pair(size, "x", "--size") if size else None
    folder(out)
    for number in index or [0]:
        scene = scenes.render(split, number, frame, count, world=world)
        stem = out / (f"{split}-{number:05d}" if world == 1 else f"world{world}-{split}-{number:05d}")
        mask = Image.fromarray(scene.mask)
        mask.putpalette(voc_palette().tobytes())
        places = [stem.with_suffix(ending) for ending in (".txt", ".mask.png", ".png")]
        # Scenes are the same every time, so what is there already is not in the way.
        with outputs.keeping(outputs.Inputs(), overwrite=overwrite), replacing(*places) as (words, labels, image):
            words.write_text("\n".join([f"# {scene.caption}", *scene.names]) + "\n", "utf-8")
            mask.save(labels, format="PNG", optimize=True)
            Image.fromarray(scene.image).save(image, format="PNG", optimize=True)
        say(places[-1])


@app.command()
@guarded
def train(
    *,
    folder: Annotated[Path, typer.Option("--folder", "-f", help="Checkpoints, logs and the result; a run that is there goes on.")],
    minutes: Annotated[float, typer.Option(min=0.01, help="Minutes of training in all, earlier runs in the folder included.")] = 240.0,
    part: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            help="vae, clip or diffusion; left out: all three. Or images: what scenes look like. Or classic: another CLIP.",
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the processor. Left out: all.")] = None,
) -> None:
    """Train the embedded pair from captions alone: stop it and run it again, it goes on.

    The networks come to FOLDER/embedded/clip and FOLDER/embedded/diffusion once all three parts have been trained.
    """
    import logging

    shares = {**_PARTS, **_ALONE}
    wanted = part or list(_PARTS)
    for name in wanted:
        if name not in shares:
            raise OptionError(f"Got --part {name!r}. Accepted are {', '.join(shares)}. Choose one of them.")
    from nerveseg.cli._places import folder as made

    made(folder)
    if (folder / "embedded").exists() and not any((folder / f"{name}-run").exists() for name in shares):
        raise OutputError(
            f"Got {folder / 'embedded'}, which no run in {folder} made and which the result would replace. Accepted is a folder of a run, "
            "or one without it. Choose another with -f."
        )
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("nerveseg").setLevel(logging.INFO)
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    for name in (known for known in shares if known in wanted):
        note(f"{minutes * shares[name]:.1f} minutes in all", style="cyan", lead=name)
        import_module(f"nerveseg.synthetic.train.{name}").train(folder, minutes * shares[name])
    if not set(wanted) <= set(_ALONE) and all((folder / f"{name}-run" / "checkpoint.pt").is_file() for name in _PARTS):
        from nerveseg.synthetic.train.export import export

        export(folder, folder / "embedded")
        say(folder / "embedded")


@app.command()
@guarded
def compare(
    *,
    scenes: Annotated[int, typer.Option(min=1, help="Test scenes.")] = 200,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File for the tables.")] = None,
    part: Annotated[str | None, typer.Option(help="recipes or sources. Left out: both.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Recipes at a time; seconds are comparable only at 1.")] = 1,
    keep: Annotated[Path | None, typer.Option(help="Folder of what was measured so far; the same command goes on there.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Measure every recipe that the embedded pair can carry, and the walk on top of every label source."""
    if part not in (None, "recipes", "sources"):
        raise OptionError(f"Got --part {part!r}. Accepted are recipes and sources. Leave it out for both.")
    from nerveseg import outputs
    from nerveseg.cli._places import check_file, inputs
    from nerveseg.cli._places import folder as made
    from nerveseg.synthetic import compare as measured
    from nerveseg.writers.base import replacing

    read = inputs(keep)
    if out is not None:
        made(out.parent)
        check_file(out, "-o", read, overwrite=overwrite)
    text = measured.run(scenes, part=part, workers=workers, keep=keep, said=lambda name: note(name, style="cyan", lead="measured"))
    if out is not None:
        with outputs.keeping(read, overwrite=overwrite), replacing(out) as (draft,):
            draft.write_text(text, encoding="utf-8")
    say(text, lines=True, end="")


@app.command()
@guarded
def score(
    *,
    split_size: Annotated[int, typer.Option("--split-size", min=1, help="Test scenes that the table is measured on.")] = 500,
    val_size: Annotated[int, typer.Option("--val-size", min=2, help="Validation scenes that every choice is made on.")] = 60,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for score.md, the choices and the counts.")] = Path("nerveseg-score"),
    recipe: Annotated[str, typer.Option("--recipe", "-r", help="A recipe's name, file or folder.")] = "mini",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes of one thread each. Left out: as many as cores.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace score.md and choices.json that say other things.")] = False,
) -> None:
    """Measure decision rules × systems on test scenes, every choice made on validation scenes: mIoU with 95 % intervals.

    Stop it and run it again with the same folder, it goes on.
    """
    from nerveseg import outputs
    from nerveseg.cli._places import folder, inputs

    folder(out)
    from nerveseg.synthetic import score as measured

    rounds = {"first round": val_size // 2, "second round": val_size, "test": split_size}
    with counting(rounds) as said, outputs.keeping(inputs(recipe), overwrite=overwrite):
        table = measured.run(recipe, out, val=val_size, test=split_size, workers=workers, said=said)
    say(table, lines=True)


def _pair(text: str, mark: str, name: str) -> tuple[int, int]:
    first, _, second = text.partition(mark)
    if not (first.strip().isdigit() and second.strip().isdigit() and int(second) > 0):
        raise OptionError(f"Got {name} {text!r}. Accepted are two whole numbers parted by {mark!r}. Write it as {name} 2{mark}4.")
    return int(first), int(second)
