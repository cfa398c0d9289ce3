"""Shards of a job, put together."""

from __future__ import annotations

import shutil

import pytest

from nerveseg import runs
from nerveseg.errors import RunError
from nerveseg.runs import Plan

_ITEMS = ("a", "b", "bad", "c", "d", "e", "f")


@pytest.fixture
def shards(errands, tmp_path):
    """Make shards of a job: ``shards(3)``, with a folder each."""

    def make(count, *, identity=None, limit=None, name="shard"):
        folders = []
        for index in range(count):
            plan = Plan(_ITEMS, identity or {"seed": 0}, shard=(index, count))
            folders.append(tmp_path / f"{name}-{index}")
            runs.run(plan, errands.Errand(tmp_path), folders[-1], skip_bad=True, limit=limit)
        return folders

    return make


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_shards_make_the_folder_of_the_whole(shards, errands, tmp_path, count):
    folders = shards(count)
    runs.run(Plan(_ITEMS, {"seed": 0}), errands.Errand(tmp_path), tmp_path / "whole", skip_bad=True)
    for _ in range(2):  # a second time over the first
        summary = runs.merge(folders[::-1], tmp_path / "merged")
        assert (summary.done, [bad.item for bad in summary.bad], summary.left) == (6, ["bad"], 0)
        for name in ("run.json", "items.jsonl", "results.jsonl"):
            assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(entry["item"] for entry in runs.journal.read(tmp_path / "merged")) == sorted(_ITEMS)


def test_a_merged_folder_is_one_that_a_run_goes_on_with(shards, errands, tmp_path):
    runs.merge(shards(2), tmp_path / "merged")
    assert runs.run(Plan(_ITEMS, {"seed": 0}), errands.Errand(tmp_path), tmp_path / "merged", skip_bad=True).skipped == 6


def test_a_shard_that_is_missing_is_told_by_its_first_item(shards, tmp_path):
    with pytest.raises(RunError, match="Got 3 of 7 items in no shard, 'b' first"):
        runs.merge(shards(2)[:1], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_shard_twice_is_told(shards, tmp_path):
    one, two = shards(2)
    with pytest.raises(RunError, match="'a' in"):
        runs.merge([one, two, _copy(one)], tmp_path / "merged")


def _copy(folder):
    return shutil.copytree(folder, folder.with_name("copy"))


def test_a_shard_that_is_not_finished_is_told(shards, tmp_path):
    with pytest.raises(RunError, match="are not done"):
        runs.merge(shards(2, limit=1), tmp_path / "merged")


def test_shards_of_two_jobs_are_told_by_the_key(shards, tmp_path):
    one, _ = shards(2)
    _, two = shards(2, identity={"seed": 1}, name="other")
    with pytest.raises(RunError, match="differ in 'seed'"):
        runs.merge([one, two], tmp_path / "merged")


def test_no_shards_and_a_shards_own_folder_are_refused(shards, tmp_path):
    with pytest.raises(RunError, match="no shard"):
        runs.merge([], tmp_path / "merged")
    folders = shards(2)
    with pytest.raises(RunError, match="'shard'"):
        runs.merge(folders, folders[0])
