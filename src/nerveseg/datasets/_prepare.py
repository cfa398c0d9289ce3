"""From archives to the layout on disk that a data set reads: find or download, unpack, convert. Each file appears whole or not at all.

A data set file says what it takes and makes the layout from it::

    archives = (Archive("VOCtrainval_11-May-2012.tar", url="http://…", bytes=1_999_639_040, md5="…"),)

    def convert(job: Job) -> None:
        job.unpack("VOCtrainval_11-May-2012.tar", below("VOCdevkit/VOC2012", "VOCdevkit/VOC2012", "JPEGImages/", "SegmentationClass/"))
        job.masks([(raw, made) for …], turn)        # turn(path) -> array of uint8 or uint16: one stored value a pixel

A run that was stopped goes on where it was: what is there is left as it is, unless ``again``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nerveseg import registry
from nerveseg.datasets import open as open_data
from nerveseg.datasets._archives import Archive, Said, check, download
from nerveseg.datasets._unpack import Where, below, unpack, whole
from nerveseg.datasets.base import DataSet
from nerveseg.errors import DataError, OptionError
from nerveseg.reprs import brief

__all__ = ["Archive", "Job", "Said", "Where", "below", "needed", "prepare", "write_mask"]

DOWNLOADS = "_archives"
"""Folder below the root for what is downloaded. It may be deleted when the layout is made."""

_WORKERS = 4


@dataclass(frozen=True)
class Job:
    """What a data set's ``convert`` works with.

    Attributes:
        root: folder that holds the data sets' own folders; the layout is made below it.
        split: the one that is wanted.
        archives: name → file on disk; optional ones that are not there are left out.
        said: progress.
        again: make what is there anew.
        workers: threads that convert masks.
    """

    root: Path
    split: str
    archives: Mapping[str, Path] = field(default_factory=dict)
    said: Said | None = None
    again: bool = False
    workers: int = _WORKERS

    __repr__ = brief

    def unpack(self, archive: str, where: Where) -> int:
        """Take files out of an archive to below the root. One that the job has no file of is taken as unpacked already.

        Args:
            archive: its published name.
            where: file in the archive → its path below the root, or None; see `below`.

        Returns:
            How many files of the archive were asked for, written now or there already.

        Raises:
            DataError: damaged, unsafe, or without a single file that is wanted: then it is not the archive it is called.
        """
        path = self.archives.get(archive)
        if path is None:
            return 0
        asked, _ = unpack(path, self.root, where, said=self.said, again=self.again)
        if not asked:
            raise DataError(f"Got {path} without any of the files that {archive} should hold. Accepted is that archive. Download it again.")
        return asked

    def masks(self, pairs: Sequence[tuple[Path, Path]], turn: Callable[[Path], NDArray[Any]], *, stage: str = "converting masks") -> int:
        """Write one mask for each source, in parallel; masks that are there are left unless ``again``.

        Args:
            pairs: (source, mask to write), full paths.
            turn: source → one stored value a pixel, uint8 or uint16, (height, width).
            stage: what to call it in the progress.

        Returns:
            How many were written.

        Raises:
            DataError: of ``turn``; what is written by then stays.
        """
        wanted = [(source, target) for source, target in pairs if self.again or not target.is_file()]

        def one(pair: tuple[Path, Path]) -> None:
            write_mask(pair[1], turn(pair[0]))

        with ThreadPoolExecutor(self.workers) as pool:
            try:
                for done, _ in enumerate(pool.map(one, wanted), 1):
                    if self.said is not None:
                        self.said(stage, done, len(wanted))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return len(wanted)

    def write(self, path: Path, text: str) -> None:
        """Write a text file, whole or not at all; folders are made."""
        with whole(path) as draft:
            draft.write_text(text, "utf-8")


def write_mask(path: Path, values: NDArray[Any]) -> None:
    """Write a mask as a grey PNG of 8 or 16 bits, whole or not at all; folders are made."""
    if values.ndim != 2 or values.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"Got a mask of shape {values.shape} and type {values.dtype} for {path}. Accepted is (H, W), uint8 or uint16. Convert it."
        )
    with whole(path) as draft:
        Image.fromarray(values).save(draft, format="PNG")


def needed(name: str, split: str | None = None) -> tuple[Archive, ...]:
    """The archives of a split of a data set.

    Raises:
        RegistryError: no such data set. DataError: no such split. OptionError: a data set of which nothing is downloaded.
    """
    module, split = _module(name, split)
    return tuple(archive for archive in module.archives if archive.serves(split))


def prepare(
    name: str,
    root: str | Path,
    *,
    archives_from: str | Path | None = None,
    split: str | None = None,
    said: Said | None = None,
    again: bool = False,
) -> DataSet:
    """Make the layout of a split on disk.

    Args:
        name: registry name of the data set.
        root: folder that holds the data sets' own folders; made where it is missing.
        archives_from: folder with the archives, under their published names; None downloads them to ``root/_archives``, or nothing
            where their files are unpacked below the root already and are only to be converted.
        split: None takes the one that scores are published on.
        said: progress.
        again: make what is there anew.

    Returns:
        The split, opened.

    Raises:
        RegistryError: no such data set. DataError: no such split, archives that are missing or damaged, files that are not what they
        should be.
    """
    module, split = _module(name, split)
    root = Path(root).expanduser()
    wanted = needed(name, split)
    unpacked = module.unpacked
    if archives_from:
        paths = _on_disk(name, wanted, Path(archives_from).expanduser(), said)
    else:
        paths = {} if unpacked is not None and unpacked(root, split) else _downloaded(name, wanted, root, said)
    root.mkdir(parents=True, exist_ok=True)
    module.convert(Job(root, split, paths, said, again))
    return open_data(name, root, split=split)


def _module(name: str, split: str | None) -> tuple[ModuleType, str]:
    module = registry.load("datasets", name)
    if not module.archives:
        raise OptionError(
            f"Got {name}, of which nothing is downloaded. Accepted are data sets that have archives. Use it as it is; "
            "`nerveseg datasets list` says which have."
        )
    chosen = module.splits[0] if split is None else split
    if chosen not in module.splits:
        hint = registry.meant(chosen, module.splits)
        raise DataError(f"Got the split {chosen!r} of {name}. Accepted are {', '.join(module.splits)}. {hint}")
    return module, chosen


def _on_disk(name: str, wanted: Sequence[Archive], folder: Path, said: Said | None) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"Got --from {folder}, which is no folder. Accepted is the folder that holds the archives. Check the path.")
    missing = [archive for archive in wanted if not archive.optional and not (folder / archive.name).is_file()]
    if missing:
        raise DataError(
            f"Got {folder} without {', '.join(archive.name for archive in missing)}. Accepted is a folder with all archives of {name}. "
            f"Get {'; '.join(_described(archive) for archive in missing)}."
        )
    found = {archive.name: folder / archive.name for archive in wanted if (folder / archive.name).is_file()}
    for archive in wanted:
        if archive.name in found:
            check(archive, found[archive.name], said)
    return found


def _downloaded(name: str, wanted: Sequence[Archive], root: Path, said: Said | None) -> dict[str, Path]:
    folder = root / DOWNLOADS
    closed = [a for a in wanted if a.url is None and not a.optional and not (folder / a.name).is_file()]
    if closed:
        raise DataError(
            f"Got {name}, of which {', '.join(archive.name for archive in closed)} cannot be downloaded without an account. "
            f"Accepted is a folder with them. Get {'; '.join(_described(archive) for archive in closed)}, and give the folder as --from."
        )
    taken = [archive for archive in wanted if not archive.optional or (folder / archive.name).is_file()]
    return {archive.name: download(archive, folder, said) for archive in taken}


def _described(archive: Archive) -> str:
    size = f" ({archive.bytes:,} bytes)" if archive.bytes else ""
    return f"{archive.name}{size}{f' from {archive.url}' if archive.url else ''}{f': {archive.note}' if archive.note else ''}"
