"""Shared by formats for many images: file layout, parts, and joined files that are streamed to disk."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from jaxtyping import UInt16

from nerveseg import outputs, registry
from nerveseg.errors import ImageError, OutputError
from nerveseg.image import MAX_PIXELS
from nerveseg.parse import from_json
from nerveseg.segmentation import Segmentation
from nerveseg.writers.base import Reading, alone, finite, is_collection, labels_of, reading_back, shared

__all__ = ["RUN", "JsonListWriter", "begin", "below", "file_name", "joined", "line", "make", "read_run", "reading", "run_head", "save_all"]

RUN = "run.json"
"""The record of a collection, in its folder: `base.shared`, and ``images``, one a part in their order."""


def below(folder: Path, stem: str, ending: str, kind: str = "") -> Path:
    """Where an image's file is: ``folder/kind/stem + ending``; the folders between are made.

    Raises:
        OutputError: a stem that leads out of the folder, or a folder that cannot be made.
    """
    path = folder / kind / f"{_checked(stem)}{ending}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"Got {path.parent}, which cannot be made ({error.strerror}). Accepted is a folder. Move what is in its way, or check rights."
        ) from error
    return path


def file_name(result: Segmentation, stem: str) -> str:
    """The image's file as joined files name it: the stem and the ending that the image came with (none for one from memory)."""
    return stem + PurePosixPath(result.image.name).suffix


def begin(result: Segmentation, stem: str, files: Iterable[Path] = (), *, folder: Path, id_shift: int = 0) -> dict[str, Any]:
    """What every part holds: ``stem``, ``files``, ``shared`` and ``image``; see the package.

    Args:
        result: the result.
        stem: the image's path in the collection without its ending.
        files: what was written for this image.
        folder: the collection's folder.
        id_shift: what the files' ids are larger by than the result's.
    """
    own = alone(result)
    return {
        "stem": _checked(stem),
        "files": [path.relative_to(folder).as_posix() for path in files],
        "shared": shared(result, id_shift=id_shift),
        "picture": {"stem": stem, "file": file_name(result, stem), "walk": own["walk"], **own["picture"]},
    }


def joined(parts: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any] | None, Iterator[Mapping[str, Any]]]:
    """What the parts share, and the parts; (None, nothing) where there is no part.

    Raises:
        OutputError: while iterating, a part of other labels, another recipe, weights or versions than the first.
    """
    parts = iter(parts)
    first = next(parts, None)
    if first is None:
        return None, iter(())
    common = dict(first["shared"])

    def alike() -> Iterator[Mapping[str, Any]]:
        for part in chain([first], parts):
            if part["shared"] != common:
                wrong = sorted(name for name in common if part["shared"].get(name) != common[name])
                raise OutputError(
                    f"Got the image {part['stem']} with other {', '.join(wrong)} than {first['stem']}. Accepted is one job a folder, "
                    "with the same labels, recipe and versions throughout. Write them to two folders, or run both again."
                )
            yield part

    return common, alike()


class JsonListWriter:
    """A JSON object with lists that grow on disk, not in memory; use as a context. `save` writes it, one entry a line, names sorted."""

    def __init__(self, folder: Path, *lists: str) -> None:
        """Keep the entries of ``lists`` in nameless files in ``folder`` until `save`."""
        self._spools: dict[str, IO[str]] = {
            name: tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder)  # noqa: SIM115 (closed by __exit__)
            for name in lists
        }

    def __enter__(self) -> JsonListWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for spool in self._spools.values():
            spool.close()

    def add(self, name: str, entry: Any) -> None:
        """Append an entry to the list ``name``."""
        spool = self._spools[name]
        spool.write(",\n" if spool.tell() else "\n")
        spool.write(line(entry))

    def save(self, draft: Path, head: Mapping[str, Any]) -> None:
        """Write ``head`` and the lists."""
        with draft.open("w", encoding="utf-8", newline="\n") as file:
            for number, name in enumerate(sorted({*head, *self._spools})):
                file.write(("," if number else "{") + "\n" + json.dumps(name) + ": ")
                spool = self._spools.get(name)
                if spool is None:
                    file.write(line(head[name]))
                    continue
                file.write("[")
                spool.seek(0)
                shutil.copyfileobj(spool, file)
                file.write("]")
            file.write("\n}\n")


def run_head(common: Mapping[str, Any], collection: str) -> dict[str, Any]:
    """What ``run.json`` says beside its list ``images``: what the parts share, and which writer made the folder."""
    return {**common, "collection": collection}


def read_run(folder: str | Path, collection: str | None = None) -> dict[str, Any]:
    """The record of a collection, with its ``images``.

    Raises:
        ImageError: none there, one that is no record, or of another collection than the one named.
    """
    path = Path(folder) / RUN
    with reading_back(path):
        run = from_json(path.read_text(encoding="utf-8"))
        labels_of(run)
        if not 0 <= int(run["ignore_index"]) < 1 << 16:
            raise ValueError(f"its ignore_index is {run['ignore_index']}")
        for image in run["pictures"]:
            if not (isinstance(image["stem"], str) and 0 < image["height"] * image["width"] <= MAX_PIXELS):
                raise ValueError(f"its image {image['stem']!r} has no name or size")
        found = run["collection"]
    if collection not in (None, found):
        raise ImageError(f"Got {path} of the format {found!r}. Accepted is {collection!r}. Read it with the writer that made it.")
    return run


def reading(ids: UInt16[np.ndarray, "H W"], run: Mapping[str, Any], image: Mapping[str, Any]) -> Reading:
    """An image of a collection read back: its record is that of the collection, with ``image`` in place of ``images``."""
    own = {name: value for name, value in run.items() if name != "pictures"}
    return Reading(ids, labels_of(run), {**own, "picture": image})


def save_all(
    results: Iterable[Segmentation | tuple[str, Segmentation]], folder: str | Path, format: str, **options: Any
) -> tuple[Path, ...]:
    """Write many results as one collection, one after the other, as they come.

    Args:
        results: results, or pairs of a stem (the image's path in the collection without its ending) and a result; without a stem it
            is the image's name without its ending.
        folder: made if it is not there (its parent must be).
        format: a collection in the registry kind ``writers``, such as ``coco``.
        options: the writer's knobs.

    Returns:
        All files written.

    Raises:
        OutputError: a format that is no collection, the same stem twice, results with different labels, or a place that cannot be written.
    """
    writer = registry.load("writers", format)
    if not is_collection(writer):
        known = ", ".join(name for name in registry.names("writers") if is_collection(registry.load("writers", name)))
        raise OutputError(f"Got the format {format} for many images. Accepted are {known}. Choose one, or call Segmentation.save on each.")
    chosen = registry.options(writer.Options, options, f"writers.{format}")
    folder = Path(folder)
    make(folder)
    written: list[Path] = []
    seen: set[str] = set()

    def parts() -> Iterator[Mapping[str, Any]]:
        for entry in results:
            stem, result = entry if isinstance(entry, tuple) else (entry.stem, entry)
            if stem in seen:
                raise OutputError(f"Got the image {stem!r} twice. Accepted is each once. Give pairs of a stem and a result.")
            seen.add(stem)
            with outputs.keeping(outputs.inputs(result.image.path), overwrite=True):
                part = writer.part(result, folder, stem, chosen)
            written.extend(folder / name for name in part["files"])
            yield part

    joint = writer.finish(parts(), folder, chosen)
    return (*joint, *written)


def make(folder: Path) -> None:
    """Make a folder, not its parents.

    Raises:
        OutputError: no parent, a file in the way, no right.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"Got the folder {folder}, which cannot be made ({error.strerror}). Accepted is a folder, or a new one beside others. "
            "Make the folders above it, or choose another."
        ) from error


def _checked(stem: str) -> str:
    path = PurePosixPath(stem)
    if path.is_absolute() or not path.parts or ".." in path.parts or path.as_posix() != stem or "\0" in stem:
        raise OutputError(
            f"Got the image's place {stem!r}. Accepted is a path inside the folder, parted by '/', without ending. Use 'a/b' for a/b.jpg."
        )
    return stem


def line(value: Any) -> str:
    """A value as one line of JSON: names sorted, no spaces, infinities null."""
    return json.dumps(finite(value), sort_keys=True, allow_nan=False, separators=(",", ":"))
