"""Finish a batch: merge shards, write the joined files and the record, and remove the journal."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nerveseg import outputs, runs
from nerveseg.batch import earlier
from nerveseg.batch.job import KIND, Job
from nerveseg.batch.output_folder import Home, clear_drafts
from nerveseg.outputs import Inputs
from nerveseg.runs import journal
from nerveseg.writers import base

__all__ = ["bad_of", "finish", "tidy"]

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # where something lay in memory: another place every time


def finish(job: Job, home: Home, bad: tuple[runs.Bad, ...], read: Inputs, *, overwrite: bool) -> None:
    """Write the joined files and the record, then clean up; for whoever holds the folder alone. Safe to be killed and called again.

    Args:
        job: what was asked for.
        home: the folder; ``home.whole`` holds the results of all images.
        bad: images without a result, in the order of the plan.
        read: files that are never written.
        overwrite: replace others that are there and that this batch did not make.
    """
    plan = runs.read(home.whole)
    good = len(plan.items) - len(bad)
    before = earlier.joined_files(earlier.read_record(home.before)) if home.before.is_file() else {}
    ours = [home.out / name for name in before]
    joint: tuple[Path, ...] = ()
    with outputs.keeping(read, overwrite=overwrite, ours=ours), outputs.told(home.out):
        if good and base.is_collection(job.writes):
            joint = job.writes.finish(_parts(home), home.out, job.writer_options)
    names = sorted(path.relative_to(home.out).as_posix() for path in joint)
    record = {
        **plan.identity,
        "kind": KIND,
        "pictures": {"count": len(plan.items), "labelled": good},
        "joined": dict(zip(names, earlier.sized(home.out, names), strict=True)),
        "digest": plan.digest,
        "bad": [{"item": one.item, "type": one.type, "message": _ADDRESS.sub("", one.message)} for one in bad],
    }
    with outputs.keeping(read, overwrite=overwrite), base.replacing(home.record) as (draft,):
        draft.write_text(base.to_json(record), encoding="utf-8")
    tidy(home)


def tidy(home: Home) -> None:
    """Take away what a finished batch does not need: the journal (its results stay), shards that are in the whole, drafts."""
    for place in home.shards().values():
        shutil.rmtree(place, ignore_errors=True)
    with outputs.told(home.state):
        for path in (home.whole / journal.NAME, home.whole / earlier.CLAIMS, home.before):
            path.unlink(missing_ok=True)
    clear_drafts(home.out)


def bad_of(home: Home) -> tuple[runs.Bad, ...]:
    """The images that a finished batch could not use.

    Raises:
        RunError: its record cannot be read.
    """
    record = earlier.read_record(home.record)
    return tuple(runs.Bad(one["item"], one["type"], one["message"]) for one in record["bad"])


def _parts(home: Home) -> Iterator[Mapping[str, Any]]:
    shared = earlier.read_common(home.common)
    common = {} if shared is None else {"shared": shared}
    for line in runs.results.read(home.whole):
        yield {**common, **line["part"]}
