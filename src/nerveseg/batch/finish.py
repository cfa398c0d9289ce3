"""The end of a batch: shards put together, joined files, the record, and nothing left that tells of times."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from nerveseg import runs
from nerveseg.batch.job import KIND, Job
from nerveseg.batch.places import Home, clear_drafts
from nerveseg.runs import journal
from nerveseg.writers import base

__all__ = ["bad_of", "finish", "tidy"]

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # where something lay in memory: another place every time


def finish(job: Job, home: Home, bad: tuple[runs.Bad, ...]) -> None:
    """Write the joined files and the record, then clean up; for whoever holds the folder alone. Safe to be killed and called again.

    Args:
        job: what was asked for.
        home: the folder; ``home.whole`` holds the results of all pictures.
        bad: pictures without a result, in the order of the plan.
    """
    plan = runs.read(home.whole)
    good = len(plan.items) - len(bad)
    if good and base.is_collection(job.writes):
        job.writes.finish(_parts(home), home.out, job.writer_options)
    record = {
        **plan.identity,
        "kind": KIND,
        "pictures": {"count": len(plan.items), "labelled": good},
        "digest": plan.digest,
        "bad": [{"item": one.item, "type": one.type, "message": _ADDRESS.sub("", one.message)} for one in bad],
    }
    with base.replacing(home.record) as (draft,):
        draft.write_text(base.to_json(record), encoding="utf-8")
    tidy(home)


def tidy(home: Home) -> None:
    """Take away what a finished batch does not need: the journal (its results stay), shards that are in the whole, drafts."""
    for place in home.shards().values():
        shutil.rmtree(place, ignore_errors=True)
    (home.whole / journal.NAME).unlink(missing_ok=True)
    clear_drafts(home.out)


def bad_of(home: Home) -> tuple[runs.Bad, ...]:
    """The pictures that a finished batch could not use."""
    record = json.loads(home.record.read_text("utf-8"))
    return tuple(runs.Bad(one["item"], one["type"], one["message"]) for one in record["bad"])


def _parts(home: Home) -> Iterator[Mapping[str, Any]]:
    common = {"shared": json.loads(home.common.read_text("utf-8"))} if home.common.is_file() else {}
    for line in runs.results.read(home.whole):
        yield {**common, **line["part"]}
