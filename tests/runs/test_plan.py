"""Plans: what a job is, and how two of them are told apart."""

from __future__ import annotations

import json
import math

import pytest

from nerveseg import runs
from nerveseg.errors import OptionError, RunError
from nerveseg.runs import Plan, plan

_ITEMS = tuple("abcdefg")


def test_shards_take_each_item_once():
    for count in (1, 2, 3, 10):
        shards = [Plan(_ITEMS, {}, shard=(index, count)).mine for index in range(count)]
        assert sorted(item for shard in shards for item in shard) == sorted(_ITEMS)


def test_the_digest_is_of_identity_and_items_alone():
    base = Plan(_ITEMS, {"a": 1, "b": [1, 2]})
    assert Plan(_ITEMS, {"b": (1, 2), "a": 1}, {"who": "me"}, (1, 2)).digest == base.digest
    assert Plan(_ITEMS, {"a": 2, "b": [1, 2]}).digest != base.digest
    assert Plan(_ITEMS[::-1], {"a": 1, "b": [1, 2]}).digest != base.digest


@pytest.mark.parametrize("identity", [{"a": math.nan}, {"a": object()}, {"a": {1, 2}}])
def test_an_identity_that_is_no_json_is_refused(identity):
    with pytest.raises(RunError, match="identity that is no JSON"):
        Plan(_ITEMS, identity)


def test_an_item_twice_is_named():
    with pytest.raises(RunError, match="'b' twice"):
        Plan(("a", "b", "c", "b"), {})


@pytest.mark.parametrize("shard", [(1, 1), (-1, 2), (0, 0)])
def test_a_shard_that_is_none_is_refused(shard):
    with pytest.raises(OptionError, match="shard"):
        Plan(_ITEMS, {}, shard=shard)


def test_a_plan_is_read_back(tmp_path):
    made = Plan(("a\nb", "ü", '"'), {"recipe": {"alpha": 0.9}}, {"host": "here"}, (1, 2))
    plan.prepare(made, tmp_path)
    assert runs.read(tmp_path) == made


def test_about_is_not_compared_and_stays_the_first(tmp_path):
    plan.prepare(Plan(_ITEMS, {"a": (1, 2)}, {"torch": "1"}), tmp_path)
    plan.prepare(Plan(_ITEMS, {"a": [1, 2]}, {"torch": "2"}), tmp_path)
    assert runs.read(tmp_path).about == {"torch": "1"}


@pytest.mark.parametrize(
    ("other", "key"),
    [
        (Plan(_ITEMS, {"recipe": {"alpha": 0.8, "beta": 1}, "seed": 0}), "recipe.alpha"),
        (Plan(_ITEMS, {"recipe": {"alpha": 0.9}, "seed": 0}), "recipe.beta"),
        (Plan(_ITEMS, {"recipe": {"alpha": 0.9, "beta": 1}, "seed": 0, "limit": 3}), "limit"),
        (Plan(_ITEMS[:-1], {"recipe": {"alpha": 0.9, "beta": 1}, "seed": 0}), "items.count"),
        (Plan(_ITEMS[::-1], {"recipe": {"alpha": 0.9, "beta": 1}, "seed": 0}), "items.digest"),
        (Plan(_ITEMS, {"recipe": {"alpha": 0.9, "beta": 1}, "seed": 0}, shard=(0, 2)), "shard"),
    ],
)
def test_another_plan_is_refused_by_the_first_key_that_differs(tmp_path, other, key):
    plan.prepare(Plan(_ITEMS, {"recipe": {"alpha": 0.9, "beta": 1}, "seed": 0}), tmp_path)
    with pytest.raises(RunError, match=f"in '{key}'"):
        plan.prepare(other, tmp_path)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "results.jsonl").touch()
    with pytest.raises(RunError, match=r"but no run\.json"):
        plan.prepare(Plan(_ITEMS, {}), tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"format": 99})])
def test_a_damaged_record_is_told(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"run\.json"):
        plan.prepare(Plan(_ITEMS, {}), tmp_path)


def test_items_of_another_job_are_told(tmp_path):
    plan.prepare(Plan(_ITEMS, {}), tmp_path)
    (tmp_path / "items.jsonl").write_text('"a"\n"b"\n')
    with pytest.raises(RunError, match="not the list"):
        runs.read(tmp_path)
