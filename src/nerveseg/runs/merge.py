"""Shards of one job into one folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nerveseg.errors import RunError
from nerveseg.runs import journal, results
from nerveseg.runs.atomic_write import writing
from nerveseg.runs.lock import locked
from nerveseg.runs.plan import Plan, differs, prepare, read
from nerveseg.runs.run import Bad, Summary, make_folder

__all__ = ["merge"]


def merge(folders: Sequence[str | Path], out: str | Path) -> Summary:
    """Write the folder that one job over all items leaves: ``run.json`` with shard 0/1, the journals one after the other, and results.

    What is for people (``about``) is the first shard's.

    Args:
        folders: the shards' folders, in any order; together they hold every item once.
        out: where the whole goes. A folder that holds the same whole already is written anew.

    Returns:
        Summary: all items as done but for the bad ones, and nothing left.

    Raises:
        RunError: shards of two jobs, an item in two shards or in none, a shard that is not finished, another job in ``out``.
    """
    if not folders:
        raise RunError("Got no shard. Accepted is at least one folder. Name the shards' folders.")
    shards = {Path(folder): read(folder) for folder in folders}
    first, plan = next(iter(shards.items()))
    for place, other in shards.items():
        _check_same(plan, other, first, place)
    _check_cover(plan, shards)
    for place, shard in shards.items():
        _check_finished(place, shard)
    target = Path(out)
    make_folder(target)
    with locked(target):
        prepare(replace(plan, shard=(0, 1)), target)
        with writing(target / journal.NAME) as file:
            for place in shards:
                file.writelines(journal.lines(place))
        places = journal.index(target)
        results.write(target, plan.items, places)
    bad = tuple(_bad(target, item, places[item]) for item in plan.items if places[item].bad)
    return Summary(len(plan.items) - len(bad), 0, bad, 0)


def _check_same(plan: Plan, other: Plan, first: Path, place: Path) -> None:
    key = differs(plan.identity, other.identity) or (None if plan.items == other.items else "items")
    if key is not None:
        raise RunError(f"Got {first} and {place}, which differ in {key!r}. Accepted are shards of one job. Leave one of them out.")


def _check_cover(plan: Plan, shards: dict[Path, Plan]) -> None:
    owner: dict[str, Path] = {}
    for place, shard in shards.items():
        for item in shard.mine:
            if item in owner:
                raise RunError(
                    f"Got the item {item!r} in {owner[item]} and in {place}. Accepted is each in one shard. Leave one folder out."
                )
            owner[item] = place
    missing = next((item for item in plan.items if item not in owner), None)
    if missing is not None:
        lacking = len(plan.items) - len(owner)
        raise RunError(
            f"Got {lacking} of {len(plan.items)} items in no shard, {missing!r} first. Accepted are all shards. Name the others, too."
        )


def _check_finished(place: Path, shard: Plan) -> None:
    ended = journal.index(place)
    open_items = [item for item in shard.mine if item not in ended]
    if open_items:
        raise RunError(
            f"Got {place}, in which {len(open_items)} of {len(shard.mine)} items are not done, {open_items[0]!r} first. Accepted are "
            "finished shards. Start that shard again."
        )


def _bad(folder: Path, item: str, place: journal.Place) -> Bad:
    error = journal.entry(folder, place)["error"]
    return Bad(item, error["type"], error["message"])
