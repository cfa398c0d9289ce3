"""Decide all output paths before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerveseg import outputs
from nerveseg.errors import OptionError, OutputError
from nerveseg.outputs import Inputs

__all__ = ["Place", "check_file", "folder", "inputs", "plan"]

_ENDINGS = (".png", ".run.json")
_OVERLAY = ".overlay.png"


@dataclass(frozen=True)
class Place:
    """An image and its files: ``NAME.png``, ``NAME.run.json``, ``NAME.overlay.png``.

    Attributes:
        image: what is read.
        ids: the label map.
        painted: whether there is an overlay.
    """

    image: Path
    ids: Path
    painted: bool = True

    @property
    def overlay(self) -> Path | None:
        """``NAME.overlay.png``; None where none is wanted."""
        return self.named(_OVERLAY) if self.painted else None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that will be written."""
        return tuple(self.named(ending) for ending in (*_ENDINGS, *([_OVERLAY] if self.painted else [])))

    def named(self, ending: str) -> Path:
        """The image's file with an ending."""
        return self.ids.with_name(self.ids.name.removesuffix(".png") + ending)


def inputs(*given: str | Path | None, settings: Mapping[str, Any] | None = None) -> Inputs:
    """Every file that a command reads: what was given that is a file or a folder, and values of knobs that are."""
    return outputs.inputs(*given, *(value for value in (settings or {}).values() if isinstance(value, str)))


def check_file(path: Path, option: str, read: Inputs, *, overwrite: bool, endings: Sequence[str] = ()) -> None:
    """Refuse a file that nothing can go to, before any work.

    Raises:
        OptionError: another ending, no folder, an input, or a file that is there already and ``overwrite`` is not said.
    """
    if endings and path.suffix.lower() not in endings:
        raise OptionError(f"Got {option} {path}. Accepted is a file ending in {', '.join(endings)}. Change the ending.")
    if not path.parent.is_dir():
        raise OptionError(f"Got {option} {path}, whose folder does not exist. Accepted is a file in a folder that exists. Make it first.")
    outputs.check([path], read, overwrite=overwrite, advice=f"Choose another name with {option}")


def plan(
    images: Sequence[Path], out: Path, read: Inputs, *, overwrite: bool, endings: Sequence[str] = (), painted: bool = True
) -> list[Place]:
    """Give every image its files in ``out``.

    Args:
        images: what is read.
        out: the folder.
        read: other files that are read.
        overwrite: results that are there may be replaced.
        endings: of files beside those of a `Place`.
        painted: an overlay is among the files.

    Raises:
        OptionError: two images that would write one file, a result that would replace a file that is read, or one that is there
            already and ``overwrite`` is not said.
    """
    from nerveseg.image.names import stem  # Pillow comes with it

    places = [Place(image, out / f"{stem(image.name)}.png", painted=painted) for image in images]
    owner: dict[str, Path] = {}
    read = read | outputs.inputs(*images)
    for place in places:
        for path in (*place.files, *(place.named(ending) for ending in endings)):
            first = owner.setdefault(outputs.key(str(path)), place.image)
            if first is not place.image:
                raise OptionError(
                    f"Got {first} and {place.image}, which would both write {path}. Accepted are images with names of their own. "
                    "Rename one, or run them with different folders in -o."
                )
            outputs.check([path], read, overwrite=overwrite, advice="Choose another folder with -o")
    return places


def folder(out: Path) -> Path:
    """Make the folder for results."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"Got -o {out}, which cannot be made ({reason}). Accepted is a folder. Choose another one.") from error
    return out
