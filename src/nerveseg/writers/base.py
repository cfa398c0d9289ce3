"""Shared by writers: atomic writes, and the record beside a label map."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
from jaxtyping import UInt16

from nerveseg import __version__, outputs
from nerveseg.errors import ImageError, NerveSegError, OutputError
from nerveseg.reprs import brief
from nerveseg.segmentation import Segmentation

__all__ = [
    "DetailLost",
    "Reading",
    "alone",
    "check_holds",
    "check_names",
    "files_of",
    "finite",
    "is_collection",
    "labels_of",
    "reading_back",
    "record",
    "replacing",
    "shared",
    "to_json",
]

_PACKAGES = ("torch", "transformers", "diffusers", "numpy", "pillow")


class DetailLost(UserWarning):
    """A format that cannot hold all of a result; the message says what is lost, and where it is told for each image."""


@dataclass(frozen=True, eq=False)
class Reading:
    """A label map read back.

    Attributes:
        ids: (H, W) label ids, as in the result that was written.
        labels: names by id; empty where the file does not say.
        run: the record written beside it; empty where there is none.
    """

    ids: UInt16[np.ndarray, "H W"]
    labels: tuple[str, ...]
    run: Mapping[str, Any]

    __repr__ = brief


@contextmanager
def reading_back(path: Path) -> Generator[None, None, None]:
    """Say where a file of ours is that cannot be read back. Somebody changed or cut it, and such files break in any way.

    Raises:
        ImageError: in the place of every error that is not ours.
    """
    try:
        yield
    except NerveSegError:
        raise
    except Exception as error:
        raise ImageError(f"Got {path}, which cannot be read ({error!r}). Accepted is what nerveseg writes. Write it again.") from error


def labels_of(run: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in a record, by id; raises `ValueError` or `TypeError` where they are none."""
    entries = run.get("labels", [])
    names = {entry["id"]: entry["name"] for entry in entries}
    if not all(type(id) is int and 0 <= id < 1 << 16 and isinstance(name, str) for id, name in names.items()) or len(names) < len(entries):
        raise ValueError("its list of labels is none")
    return tuple(names[id] for id in sorted(names))


@contextmanager
def replacing(*paths: Path) -> Generator[tuple[Path, ...], None, None]:
    """Give a temporary file beside each path; at the end all take their places in order, on any error none does.

    The last path should be the one that others look for: once it is there, the rest is too. Inside `nerveseg.outputs.keeping` no input
    is replaced, and no other file that was there without leave.

    Raises:
        OutputError: a missing folder, a folder in the way, no permission, a full disk, a file that may not be replaced.
    """
    for path in paths:
        _check_place(path)
    stamp = uuid.uuid4().hex[:12]
    drafts = tuple(path.with_name(f".{_short(path.name)}.{stamp}.part") for path in paths)
    try:
        yield drafts
        outputs.put(*zip(drafts, paths, strict=True))
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise outputs.refused(paths[-1], error) from error
    finally:
        for draft in drafts:
            with suppress(OSError):  # what went wrong first is what is told
                draft.unlink(missing_ok=True)


def files_of(writer: ModuleType | Any, path: Path, options: Any) -> tuple[Path, ...]:
    """Every file that a writer of single files writes for ``path``."""
    return (path,) if writer.files is None else writer.files(path, options)


def check_holds(writer: ModuleType | Any, labels: int, path: Path) -> None:
    """Refuse more labels than the format can hold, and no label where it needs one."""
    if labels == 0 and not writer.holds(0):
        raise OutputError(f"Got no label for {path}. Accepted in this format are one or more. Choose another format.")
    if not writer.holds(labels):
        raise OutputError(f"Got {labels} labels for {path}. Accepted are fewer in this format. Choose another format, or fewer labels.")


def check_names(result: Segmentation, forbidden: str, path: Path, *, blank: bool = True) -> None:
    """Refuse names that the format cannot hold.

    Args:
        result: its labels are checked.
        forbidden: characters that a name may not hold.
        path: what is written, for the message.
        blank: whether a name may be empty, start or end with a space.
    """
    for label in result.labels:
        found = [character for character in forbidden if character in label.name]
        if found or not (blank or label.name == label.name.strip() != ""):
            listed = " ".join(repr(character) for character in forbidden)
            raise OutputError(
                f"Got the label {label.name!r} for {path}. Accepted in this format are names without {listed}"
                f"{'' if blank else ' and without spaces at their ends'}. Rename the label, or choose another format."
            )


def record(result: Segmentation, *, id_shift: int = 0) -> dict[str, Any]:
    """What it takes to understand and repeat a result; no times, so that the same result gives the same record.

    Args:
        result: the result.
        id_shift: what the file's ids are larger by than the result's, where a format reserves 0.
    """
    return {**shared(result, id_shift=id_shift), **alone(result)}


def shared(result: Segmentation, *, id_shift: int = 0) -> dict[str, Any]:
    """What of `record` is the same for all images of one job; see there."""
    return {
        "format": "nerveseg-run-1",
        "labels": [{"id": index, "name": label.name, "strings": list(label.strings)} for index, label in enumerate(result.labels)],
        "background": result.background,
        "ignore_index": result.ignore_index,
        "id_shift": id_shift,
        "recipe": result.recipe,
        # Left out at 1, so that what says nothing of one means the scores as they are.
        **({} if result.temperature == 1.0 else {"temperature": result.temperature}),
        "weights": dict(result.weights),
        "versions": {"nerveseg": __version__, **{name: found for name in _PACKAGES if (found := _version(name))}},
    }


def alone(result: Segmentation) -> dict[str, Any]:
    """What of `record` belongs to this image alone: ``walk`` and ``image``."""
    return {
        "walk": None if result.walk is None else asdict(result.walk),
        "picture": {
            "name": result.image.name,
            "height": result.size[0],
            "width": result.size[1],
            "sha256": result.image.sha256,
            "orientation": result.image.orientation,
            "notes": list(result.image.notes),
        },
    }


def is_collection(writer: ModuleType | Any) -> bool:
    """Whether a writer makes one folder of many images (``part`` and ``finish``) rather than a file an image (``write``)."""
    return writer.part is not None


def to_json(content: Mapping[str, Any]) -> str:
    """JSON with a fixed order of keys; infinities, which JSON has not, become null, and bytes of names that are no UTF-8 escapes."""
    text = json.dumps(finite(content), ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def finite(value: Any) -> Any:
    """The value for JSON: infinities and NaN become null, tuples lists."""
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): finite(part) for name, part in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in cast("list[Any]", value)]
    return value


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _short(name: str) -> str:
    """At most 200 bytes, so that a draft's name is no longer than file systems allow."""
    return name.encode("utf-8", "surrogateescape")[:200].decode("utf-8", "ignore")


def _check_place(path: Path) -> None:
    if not os.path.isdir(path.parent):  # noqa: PTH112 (Path's raises for a name that is too long)
        raise OutputError(
            f"Got {path}, whose folder {path.parent} does not exist. Accepted is a file in a folder that exists. Make the folder first."
        )
    if os.path.isdir(path):  # noqa: PTH112
        raise OutputError(f"Got {path}, which is a folder. Accepted is a file name. Add one to the folder.")
