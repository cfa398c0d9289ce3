"""The output folder: what is in the way of a new batch, where a batch keeps its state, and what a killed one left lying."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nerveseg.batch.pictures import Found, key, stem
from nerveseg.errors import OptionError
from nerveseg.runs.plan import RECORD as PLAN

__all__ = ["RECORD", "Home", "check_free", "clear_drafts"]

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
        """Plan, journal and results of all pictures."""
        return self.state / "job"

    @property
    def common(self) -> Path:
        """What all pictures of a collection have in common, kept once."""
        return self.state / "shared.json"

    def shard(self, shard: tuple[int, int]) -> Path:
        """Plan, journal and results of a shard; of all pictures for 0/1."""
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


def check_free(found: Found, out: Path, *, collection: bool) -> None:
    """Refuse a folder in which a new batch would write over files, its own pictures included.

    Args:
        found: the pictures.
        out: the output folder.
        collection: whether the format lays out the folder in its own way, which takes one that holds nothing else.

    Raises:
        OptionError: something is in the way; the message names the first.
    """
    if out.exists() and not out.is_dir():
        raise OptionError(f"Got the output {out}, which is a file. Accepted is a folder, new or there. Choose another name.")
    if out.resolve() == found.root.resolve():
        raise OptionError(f"Got {out} for pictures and masks. Accepted is a folder for the masks alone. Choose another one.")
    stems = {key(stem(item)) for item in found.items}
    pictures = {found.path(item).resolve() for item in found.items}
    for path in _files(out):
        if collection:
            raise OptionError(
                f"Got {out}, which holds {path}. Accepted is a new or an empty folder, as this format lays it out in its own way. "
                "Choose another one."
            )
        place = PurePosixPath(path.relative_to(out).as_posix())
        taken = path.name == RECORD or any(key(start) in stems for start in _starts(place))
        if taken and path.resolve() not in pictures:
            raise OptionError(
                f"Got {out}, which holds {path} already. Accepted is a folder without files of the masks' names. Choose another one, or "
                "move them away."
            )


def clear_drafts(out: Path) -> None:
    """Delete the unfinished files that killed processes left; for whoever holds the folder alone."""
    for path in list(out.rglob(".*.part")):
        if _DRAFT.match(path.name):
            path.unlink(missing_ok=True)


def _files(out: Path) -> Iterator[Path]:
    """Files in a folder and below, but for hidden ones."""
    for path in sorted(out.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(out).parts):
            yield path


def _starts(place: PurePosixPath) -> Iterator[str]:
    """``d/a.run.json`` → ``d/a.run``, ``d/a``: the pictures whose masks may be called so."""
    while place.suffix:
        place = place.with_suffix("")
        yield place.as_posix()
