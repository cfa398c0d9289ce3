"""Where results go, settled before any work starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nerveseg.errors import OptionError, OutputError

__all__ = ["Place", "folder", "plan"]

_ENDINGS = (".png", ".run.json")
_OVERLAY = ".overlay.png"


@dataclass(frozen=True)
class Place:
    """A picture and its files: ``NAME.png``, ``NAME.run.json``, ``NAME.overlay.png``.

    Attributes:
        picture: what is read.
        ids: the label map.
        painted: whether there is an overlay.
    """

    picture: Path
    ids: Path
    painted: bool = True

    @property
    def overlay(self) -> Path | None:
        """``NAME.overlay.png``; None where none is wanted."""
        return self._named(_OVERLAY) if self.painted else None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that will be written."""
        return tuple(self._named(ending) for ending in (*_ENDINGS, *([_OVERLAY] if self.painted else [])))

    def _named(self, ending: str) -> Path:
        return self.ids.with_name(self.ids.name.removesuffix(".png") + ending)


def plan(pictures: Sequence[Path], out: Path, *, overwrite: bool, painted: bool = True) -> list[Place]:
    """Give every picture its files in ``out``; ``painted``: an overlay among them.

    Raises:
        OptionError: two pictures that would write one file, a result that would replace a picture that is read, or one that is there
            already and ``overwrite`` is not said.
    """
    places = [Place(picture, out / f"{picture.stem or picture.name}.png", painted=painted) for picture in pictures]
    owner: dict[str, Path] = {}
    read = {_key(picture.resolve()) for picture in pictures}
    for place in places:
        for path in place.files:
            first = owner.setdefault(_key(path), place.picture)
            if first is not place.picture:
                raise OptionError(
                    f"Got {first} and {place.picture}, which would both write {path}. Accepted are pictures with names of their own. "
                    "Rename one, or run them with different folders in -o."
                )
            if _key(path.resolve()) in read:
                raise OptionError(
                    f"Got {place.picture}, whose result {path} would replace a picture. Accepted is another folder. Choose one with -o."
                )
            if path.exists() and not overwrite:
                raise OptionError(
                    f"Got {path}, which is there already. Accepted is a place without it. "
                    "Choose another folder with -o, or add --overwrite."
                )
    return places


def folder(out: Path) -> Path:
    """Make the folder for results."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"Got -o {out}, which cannot be made ({reason}). Accepted is a folder. Choose another one.") from error
    return out


def _key(path: Path) -> str:
    # Some file systems do not tell A.png from a.png.
    return str(path).casefold()
