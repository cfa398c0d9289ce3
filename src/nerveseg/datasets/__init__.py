"""Data sets, one file each: what their classes, files, tables and archives are.

A data set file holds

- ``title``, ``url``, ``licence``: for people;
- ``background``: whether class 0 is what no other class is; ``count``: classes;
- ``splits``: names, the one that scores are published on first (none: any, for ``opened`` to judge, and
  ``folders(root) -> tuple[str, ...]`` says which there are); ``protocols``: those in which it differs, "sclip" first;
- ``find(root, split, protocol) -> tuple[Item, ...]``: the items of a split, with the paths where its files lie (those that users of
  mmseg have on disk); raises `DataError` where the list or the folders are missing, and says what `datasets prepare` would do;
- ``values(protocol) -> dict[int, int]``: stored mask value → id or `IGNORE`;
- ``archives``: what `prepare` takes (`_prepare.Archive`), and ``convert(job: _prepare.Job) -> None``, which makes the layout from them;
- optionally ``about(protocol) -> dict[str, str]``; ``published(protocol) -> dict[str, int]``, split → image files that it has as
  published; ``grey``, True where masks with a palette are wrong; ``voc``, True where masks have Pascal VOC's palette;
  ``unpacked(root, split) -> bool``, whether the archives' files lie on disk already, so that ``convert`` needs none; and
  ``opened(root, split, protocol, class_names) -> DataSet`` in place of ``find``, ``values`` and ``count``, where the classes are not
  known beforehand or nothing is read from disk.

Files that start with ``_`` are what they share.
"""

from __future__ import annotations

from pathlib import Path

from nerveseg import registry
from nerveseg.datasets import classes
from nerveseg.datasets.base import IGNORE, PROTOCOLS, UNKNOWN, DataSet, Item, table
from nerveseg.errors import DataError

__all__ = ["IGNORE", "PROTOCOLS", "UNKNOWN", "DataSet", "Item", "names", "open", "splits_of"]


def names() -> tuple[str, ...]:
    """Every data set."""
    return registry.names("datasets")


def splits_of(name: str, root: str | Path | None = None) -> tuple[str, ...]:
    """The splits of a data set, the one that scores are published on first; where they are folders, those that are below the root."""
    module = registry.load("datasets", name)
    return module.splits or module.folders(None if root is None else Path(root).expanduser())


def open(
    name: str,
    root: str | Path | None = None,
    *,
    split: str | None = None,
    protocol: str = "sclip",
    class_names: str | Path = "official",
) -> DataSet:
    """Open a split of a data set.

    Args:
        name: registry name, such as ``voc21``.
        root: folder that holds the data sets' own folders; not needed for what is drawn.
        split: None takes the one that scores are published on.
        protocol: one of `PROTOCOLS`.
        class_names: a list that ships, or a path.

    Raises:
        RegistryError: no such data set. DataError: no such split or protocol, files that are missing, a list with another count.
    """
    module = registry.load("datasets", name)
    if not module.splits:  # any: they are folders
        return module.opened(None if root is None else Path(root).expanduser(), split, protocol, class_names)
    chosen = module.splits[0] if split is None else split
    for given, accepted, what in ((chosen, module.splits, "split"), (protocol, PROTOCOLS, "protocol")):
        if given not in accepted:
            hint = registry.meant(str(given), accepted)
            raise DataError(f"Got the {what} {given!r} of {name}. Accepted are {', '.join(accepted)}. {hint}")
    place = None if root is None else Path(root).expanduser()
    if module.opened is not None:
        return module.opened(place, chosen, protocol, class_names)
    if place is None:
        raise DataError(f"Got no folder for {name}. Accepted is the folder that holds its files. Give root, or --root.")
    found = classes.read(name, class_names, count=module.count, background=module.background)
    values = module.values(protocol)
    entries = 256 if max(values) < 256 else 65536
    items = module.find(place, chosen, protocol)
    return DataSet(
        name,
        chosen,
        protocol,
        found,
        module.background,
        items,
        table(values, entries=entries),
        place,
        about={**({} if module.about is None else module.about(protocol)), **_masks(items, place)},
        grey=module.grey,
        voc=module.voc,
    )


def _masks(items: tuple[Item, ...], root: Path) -> dict[str, str]:
    """The folder below the root that the masks are read from: data sets have more than one."""
    first = items[0].mask if items else None
    return {} if first is None else {"masks": first.parent.relative_to(root).as_posix()}
