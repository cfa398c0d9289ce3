"""The output folder: files that would be overwritten, where a batch keeps its state, and leftovers of a killed one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from nerveseg import outputs
from nerveseg.batch.images import Found, stem
from nerveseg.batch.job import Job
from nerveseg.errors import OptionError
from nerveseg.outputs import Inputs
from nerveseg.runs.plan import RECORD as PLAN
from nerveseg.writers import base

__all__ = ["RECORD", "Home", "check_start", "clear_drafts", "place"]

RECORD = "batch.json"
"""The record of a batch, in its folder; written last."""

_HIDDEN = ".nerveseg"
_DRAFT = re.compile(r"^\..+\.([0-9a-f]{12}|\d+)\.part$")  # as `writers.base.replacing` and `runs.whole.writing` name them
_SHARD = re.compile(r"^(\d+)of(\d+)$")


@dataclass(frozen=True)
class Home:
    """Where a batch keeps what it needs to go on.

    Attributes:
        out: the output folder.
    """

    out: Path

    @property
    def record(self) -> Path:
        """``batch.json``: where it is, the batch is finished."""
        return self.out / RECORD

    @property
    def state(self) -> Path:
        """The hidden folder of everything below."""
        return self.out / _HIDDEN

    @property
    def whole(self) -> Path:
        """Plan, journal and results of all images."""
        return self.state / "job"

    @property
    def common(self) -> Path:
        """What all images of a collection have in common, kept once."""
        return self.state / "shared.json"

    @property
    def before(self) -> Path:
        """The record of a finished batch while it is mended: what it lists is the batch's own."""
        return self.state / "before.json"

    def shard(self, shard: tuple[int, int]) -> Path:
        """Plan, journal and results of a shard; of all images for 0/1."""
        return self.whole if shard[1] == 1 else self.state / f"{shard[0]}of{shard[1]}"

    def shards(self) -> dict[tuple[int, int], Path]:
        """The shards that were begun here, until they are put together."""
        found = {path: _SHARD.match(path.name) for path in self.state.glob("*of*") if (path / PLAN).is_file()}
        return {(int(match[1]), int(match[2])): path for path, match in found.items() if match}

    @property
    def together(self) -> bool:
        """Whether the batch is one: begun without shards, or its shards are in the whole."""
        return self.record.is_file() or ((self.whole / PLAN).is_file() and not self.shards())

    @property
    def begun(self) -> bool:
        """Whether a batch was ever begun here."""
        return (self.whole / PLAN).is_file() or bool(self.shards())


def check_start(found: Found, out: Path, mine: Iterable[str], job: Job, read: Inputs, *, overwrite: bool, begun: bool) -> None:
    """Refuse a folder in which a batch would write over its inputs or, unless it is told to, over files that are there.

    Args:
        found: the images.
        out: the output folder.
        mine: the items that this start is for.
        job: says the format.
        read: every file that is read, images included.
        overwrite: files that are there may be replaced; inputs are refused even so.
        begun: the folder's files are those of this batch.

    Raises:
        OptionError: something is in the way; the message names the first.
    """
    if out.exists() and not out.is_dir():
        raise OptionError(f"Got the output {out}, which is a file. Accepted is a folder, new or there. Choose another name.")
    if out.resolve() == found.root.resolve():
        raise OptionError(f"Got {out} for images and masks. Accepted is a folder for the masks alone. Choose another one.")
    advice = "Choose another output folder"
    record = () if begun else (Home(out).record,)
    if not base.is_collection(job.writes):
        targets = (file for item in mine for file in base.files_of(job.writes, place(out, item, job.writes.suffix), job.writer_options))
        outputs.check(chain(record, targets), read, overwrite=overwrite or begun, advice=advice)
        return
    for path in _files(out):
        given = read.named(path)
        if given is not None:
            raise OptionError(
                f"Got {out}, which holds the input {given}. Accepted is a folder that nothing is read from, as this format lays it out in "
                f"its own way. {advice}."
            )
        if not (overwrite or begun):
            raise OptionError(
                f"Got {out}, which holds {path}. Accepted is a new or an empty folder, as this format lays it out in its own way. "
                "Choose another one, or add --overwrite to replace files of its names."
            )


def place(out: Path, item: str, suffix: str) -> Path:
    """Where the file of an image goes, in a format of single files."""
    return out / f"{stem(item)}{suffix}"


def clear_drafts(out: Path) -> None:
    """Delete the unfinished files that killed processes left; for whoever holds the folder alone.

    Raises:
        OutputError: they cannot be deleted.
    """
    with outputs.told(out):
        for path in list(out.rglob(".*.part")):
            if _DRAFT.match(path.name):
                path.unlink(missing_ok=True)


def _files(out: Path) -> Iterator[Path]:
    """Files in a folder and below, hidden ones and those behind links included, but for the batch's own state."""
    seen: set[tuple[int, int]] = set()
    for here, folders, files in os.walk(out, followlinks=True):
        folder = Path(here)
        known = folder.stat()
        if (known.st_dev, known.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((known.st_dev, known.st_ino))
        if folder == out:
            folders[:] = [name for name in folders if name != _HIDDEN]
        folders.sort()
        yield from (folder / name for name in sorted(files))
