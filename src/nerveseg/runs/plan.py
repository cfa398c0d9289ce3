"""The plan of a long job, fixed before it starts: its items, and what its results depend on.

A plan is written into the job's folder before the first item. Whoever comes back later has to bring the same one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nerveseg import parse
from nerveseg.errors import OptionError, RunError
from nerveseg.reprs import brief
from nerveseg.runs.atomic_write import writing
from nerveseg.runs.lock import NAME as LOCK

__all__ = ["ITEMS", "RECORD", "Plan", "canonical", "differs", "prepare", "read"]

RECORD = "run.json"
ITEMS = "items.jsonl"
_FORMAT = 1
_OWN = {ITEMS, LOCK}  # what a start that was killed before it wrote the record leaves
_TABLES = ("identity", "about", "items")  # of the record


@dataclass(frozen=True)
class Plan:
    """Items, and what decides their results.

    Attributes:
        items: names of all items, each once, in the order of the results.
        identity: JSON of everything that the results depend on. A folder is resumed only where it is equal.
        about: JSON for people, such as versions, hardware and the command. It is kept from the first start and never compared.
        shard: (i, n): this job does the items whose number leaves i when divided by n.

    Raises:
        RunError: an item twice, or something that is no JSON. OptionError: no such shard.

    >>> Plan(("a", "b", "c"), {"recipe": "mini"}, shard=(0, 2)).mine
    ('a', 'c')
    """

    items: tuple[str, ...]
    identity: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)
    shard: tuple[int, int] = (0, 1)

    __repr__ = brief

    def __post_init__(self) -> None:
        if len(set(self.items)) < len(self.items):
            seen: set[str] = set()
            twice = next(item for item in self.items if item in seen or seen.add(item))
            raise RunError(f"Got the item {twice!r} twice. Accepted is each item once. Take one of the two out.")
        index, count = self.shard
        if not 0 <= index < count:
            raise OptionError(f"Got the shard {index}/{count}. Accepted is i/n with 0 ≤ i < n. Count shards from 0.")
        for name, value in (("identity", self.identity), ("about", self.about)):
            canonical(value, what=f"a plan's {name}")

    @property
    def mine(self) -> tuple[str, ...]:
        """The items of this shard, in order."""
        return self.items[self.shard[0] :: self.shard[1]]

    @property
    def digest(self) -> str:
        """SHA-256 of identity and items: equal for every shard of one job."""
        return _sha256(canonical([self.identity, list(self.items)]))


def canonical(value: Any, *, what: str = "a value") -> str:
    """Write JSON in one way only: keys sorted, no spaces; raises `RunError` for what JSON cannot hold, NaN and infinities included."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RunError(f"Got {what} that is no JSON ({error}). Accepted are texts, finite numbers, lists and maps. Convert it.") from error


def differs(left: Any, right: Any, path: str = "") -> str | None:
    """Name the first key, with dots, in which two pieces of JSON differ; None where they are equal.

    >>> differs({"seed": 0, "recipe": {"alpha": 0.9}}, {"seed": 0, "recipe": {"alpha": 0.8}})
    'recipe.alpha'
    """
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for key in dict.fromkeys((*left, *right)):
            inner = f"{path}.{key}" if path else str(key)
            if key not in left or key not in right:
                return inner
            found = differs(left[key], right[key], inner)
            if found is not None:
                return found
        return None
    return None if left == right else path


def prepare(plan: Plan, folder: Path) -> None:
    """Write the plan into an empty folder, or check that the folder holds the same one.

    Raises:
        RunError: the folder holds another plan, or the results of something else.
    """
    if not (folder / RECORD).exists():
        _refuse_strangers(folder)
        with writing(folder / ITEMS) as file:
            file.writelines(f"{json.dumps(item, ensure_ascii=False)}\n" for item in plan.items)
        with writing(folder / RECORD) as file:
            file.write(json.dumps(_record(plan), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return
    _compare(_read_record(folder), json.loads(canonical(_record(plan))), folder)


def read(folder: str | Path) -> Plan:
    """Read the plan that a folder was made from.

    Raises:
        RunError: no folder of a job, or a damaged one.
    """
    place = Path(folder)
    record = _read_record(place)
    try:
        plan = Plan(tuple(_items(place)), record["identity"], record["about"], tuple(record["shard"]))
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise RunError(
            f"Got {place}, whose {RECORD} or {ITEMS} is damaged ({error}). Accepted is a whole folder. Copy it again."
        ) from error
    if _items_digest(plan) != record["items"]["digest"]:
        raise RunError(f"Got {place}, whose {ITEMS} is not the list of its {RECORD}. Accepted are both of one job. Copy the folder again.")
    return plan


def _record(plan: Plan) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "identity": plan.identity,
        "about": plan.about,
        "items": {"count": len(plan.items), "digest": _items_digest(plan)},
        "shard": list(plan.shard),
    }


def _items_digest(plan: Plan) -> str:
    return _sha256(canonical(list(plan.items)))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _items(folder: Path) -> Iterator[str]:
    with (folder / ITEMS).open(encoding="utf-8") as file:
        yield from (parse.from_json(line) for line in file)


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    try:
        record = parse.from_json(parse.text_of(path))
    except (OSError, ValueError) as error:
        raise RunError(f"Got {path}, which cannot be read ({error}). Accepted is the folder of a job. Check the place.") from error
    whole = isinstance(record, dict) and record.get("format") == _FORMAT and all(isinstance(record.get(key), dict) for key in _TABLES)
    if not whole or not _is_shard(record.get("shard")) or not isinstance(record["items"].get("digest"), str):
        raise RunError(
            f"Got {path}, which is no record of a job in format {_FORMAT}. Accepted is the folder of one. Choose another folder."
        )
    return record


def _is_shard(given: Any) -> bool:
    return isinstance(given, list) and len(given) == 2 and all(isinstance(number, int) for number in given)


def _refuse_strangers(folder: Path) -> None:
    """A job lays out its folder, so there is nothing else in it: no file that was there before is written over."""
    for path in sorted(folder.iterdir()):
        if path.name not in _OWN:
            raise RunError(
                f"Got {folder} with {path.name} but no {RECORD}. Accepted is an empty folder or a job's own. Choose another folder."
            )


def _compare(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    for part, name in (("identity", ""), ("shard", "shard"), ("items", "items")):
        key = differs(old.get(part), new[part], name)
        if key is not None:
            raise RunError(
                f"Got a plan that differs from the one in {folder} in {key!r}: {_brief(new[part], key)} now, {_brief(old.get(part), key)} "
                "there. Accepted is the same plan. Choose another folder, or repeat the settings of the first start."
            )


def _brief(value: Any, key: str) -> str:
    for part in key.split("."):
        if isinstance(value, Mapping):
            value = value.get(part, "nothing")
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
