"""Running a plan: what is written when, resuming, errors, limits, one process a folder."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tracemalloc

import pytest

from nerveseg import runs
from nerveseg.errors import DataError, OptionError, RegistryError, RunError
from nerveseg.runs import Plan, Record, journal, lock

_ITEMS = tuple(f"item {number}" for number in range(6))


@pytest.fixture
def errand(errands, tmp_path):
    (tmp_path / "notes").mkdir()
    return errands.Errand(tmp_path / "notes")


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_run_leaves_its_files_and_nothing_else(errand, errands, tmp_path):
    said = []
    summary = runs.run(
        Plan(_ITEMS, {"seed": 0}, {"host": "here"}), errand, tmp_path / "run", said=lambda done, total: said.append((done, total))
    )
    assert summary == runs.Summary(6, 0, (), 0)
    assert said == [(done, 6) for done in range(7)]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["items.jsonl", "journal.jsonl", "results.jsonl", "run.json"]
    assert lines(tmp_path / "run" / "results.jsonl") == [{"item": item, **errands.expected(item)} for item in _ITEMS]
    assert list(runs.results.read(tmp_path / "run")) == lines(tmp_path / "run" / "results.jsonl")
    for entry in runs.journal.read(tmp_path / "run"):
        assert set(entry) == {"item", "result", "seconds", "at"}
    assert '"at"' not in (tmp_path / "run" / "run.json").read_text()


def test_the_plan_is_on_disk_before_the_first_item(tmp_path):
    class Looks:
        def start(self):
            pass

        def read(self, item):
            return runs.read(tmp_path / "run").items

        def work(self, item, read):
            return Record({"items": len(read)})

        def stop(self):
            pass

    runs.run(Plan(_ITEMS, {}), Looks, tmp_path / "run")
    assert {entry["items"] for entry in runs.results.read(tmp_path / "run")} == {6}


def test_limits_leave_the_rest_and_resuming_skips_what_is_done(errand, tmp_path):
    plan = Plan(_ITEMS, {})
    assert runs.run(plan, errand, tmp_path / "run", limit=2) == runs.Summary(2, 0, (), 4)
    with pytest.raises(RunError, match=r"without results\.jsonl"):
        next(runs.results.read(tmp_path / "run"))
    assert runs.run(plan, errand, tmp_path / "run") == runs.Summary(4, 2, (), 0)
    assert runs.run(plan, errand, tmp_path / "run") == runs.Summary(0, 6, (), 0)
    assert len(list(journal.read(tmp_path / "run"))) == 6


def test_the_first_bad_item_stops_a_run_and_what_was_done_is_kept(errand, tmp_path):
    plan = Plan(("a", "b", "bad", "c"), {})
    with pytest.raises(DataError, match="Got bad"):
        runs.run(plan, errand, tmp_path / "run")
    entries = list(journal.read(tmp_path / "run"))
    assert [entry["item"] for entry in entries] == ["a", "b", "bad"]
    assert entries[-1]["error"] == {"type": "DataError", "message": "Got bad. Accepted is a good one. Mend it."}
    assert not (tmp_path / "run" / "results.jsonl").exists()


def test_bad_items_are_listed_in_the_plans_order_and_tried_again(errand, tmp_path):
    plan = Plan(("unreadable", "a", "bad", "b"), {})
    for _ in range(2):
        summary = runs.run(plan, errand, tmp_path / "run", skip_bad=True, workers=1)
        assert [(bad.item, bad.type) for bad in summary.bad] == [("unreadable", "DataError"), ("bad", "DataError")]
        assert summary.left == 0
    assert (summary.done, summary.skipped) == (0, 2)
    assert [entry["item"] for entry in runs.results.read(tmp_path / "run")] == ["a", "b"]


def test_a_bad_item_that_is_mended_counts(errands, tmp_path):
    class Mends:
        def __init__(self, broken):
            self.broken = broken

        def start(self):
            pass

        def read(self, item):
            if self.broken and item == "b":
                raise DataError("Got b. Accepted is a whole one. Mend it.")

        def work(self, item, read):
            return Record({})

        def stop(self):
            pass

    plan = Plan(("a", "b", "c"), {})
    runs.run(plan, lambda: Mends(True), tmp_path / "run", skip_bad=True)
    assert runs.run(plan, lambda: Mends(False), tmp_path / "run") == runs.Summary(1, 2, (), 0)
    assert [entry["item"] for entry in runs.results.read(tmp_path / "run")] == ["a", "b", "c"]


def test_a_mistake_in_the_program_stops_a_run_whatever_is_asked(errand, tmp_path):
    with pytest.raises(ZeroDivisionError):
        runs.run(Plan(("a", "wrong", "b"), {}), errand, tmp_path / "run", skip_bad=True)
    assert [entry["item"] for entry in journal.read(tmp_path / "run")] == ["a"]
    assert not (tmp_path / "run" / lock.NAME).exists()


@pytest.mark.parametrize("result", [{"a": float("nan")}, {"a": object()}, {"item": "b"}])
def test_a_result_that_cannot_be_kept_is_told(tmp_path, result):
    class Gives:
        def start(self):
            pass

        def read(self, item):
            return None

        def work(self, item, read):
            return Record(result)

        def stop(self):
            pass

    with pytest.raises(RunError, match="result of 'a'"):
        runs.run(Plan(("a",), {}), Gives, tmp_path / "run")


def test_a_second_process_is_refused(errand, tmp_path):
    (tmp_path / "run").mkdir()
    with lock.locked(tmp_path / "run"), pytest.raises(RunError, match="is at work"):
        runs.run(Plan(_ITEMS, {}), errand, tmp_path / "run")


@pytest.mark.parametrize("locks", [True, False])
def test_a_lock_that_a_dead_process_left_is_taken_over(errand, tmp_path, monkeypatch, locks):
    if not locks:
        monkeypatch.setattr(lock, "_fcntl", lambda: None)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / lock.NAME).write_text(json.dumps({"pid": 2**22 + 5, "host": socket.gethostname()}))
    assert runs.run(Plan(_ITEMS, {}), errand, tmp_path / "run").done == 6


@pytest.mark.parametrize("holder", ["alive", "elsewhere"])
def test_without_locks_of_the_system_the_process_decides(errand, tmp_path, monkeypatch, holder):
    monkeypatch.setattr(lock, "_fcntl", lambda: None)
    (tmp_path / "run").mkdir()
    host = socket.gethostname() if holder == "alive" else "another-machine"
    (tmp_path / "run" / lock.NAME).write_text(json.dumps({"pid": os.getpid(), "host": host}))
    with pytest.raises(RunError, match=f"process {os.getpid()} on {host} is at work"):
        runs.run(Plan(_ITEMS, {}), errand, tmp_path / "run")


def test_a_journal_cut_anywhere_is_resumed_to_the_same_bytes(errand, tmp_path):
    plan = Plan(_ITEMS[:3], {})
    whole = tmp_path / "whole"
    runs.run(plan, errand, whole)
    text = (whole / "journal.jsonl").read_bytes()
    for cut in range(0, len(text), 11):
        torn = tmp_path / "torn"
        shutil.copytree(whole, torn)
        (torn / "results.jsonl").unlink()
        (torn / "journal.jsonl").write_bytes(text[:cut])
        summary = runs.run(plan, errand, torn, prefetch=0)
        assert summary.skipped == text[:cut].count(b"\n")
        assert (torn / "results.jsonl").read_bytes() == (whole / "results.jsonl").read_bytes()
        assert len(list(journal.read(torn))) == 3
        shutil.rmtree(torn)


def test_drafts_that_a_killed_process_left_are_cleared(errand, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".results.jsonl.77.part").touch()
    runs.run(Plan(_ITEMS, {}), errand, tmp_path / "run")
    assert list((tmp_path / "run").glob(".*")) == []


def test_damage_inside_a_journal_is_told_by_its_line(errand, tmp_path):
    runs.run(Plan(_ITEMS, {}), errand, tmp_path / "run")
    path = tmp_path / "run" / "journal.jsonl"
    kept = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(kept[0] + b'{"item": 3}\n' + b"".join(kept[2:]))
    with pytest.raises(RunError, match="damaged line 2"):
        runs.run(Plan(_ITEMS, {}), errand, tmp_path / "run")


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"workers": 0}, OptionError, "workers = 0"),
        ({"prefetch": -1}, OptionError, "prefetch = -1"),
        ({"limit": 0}, OptionError, "limit = 0"),
        ({"engine": "lokal"}, RegistryError, "local"),
        ({"engine_options": {"thread": 1}}, OptionError, "threads"),
    ],
)
def test_numbers_and_names_are_checked_before_anything_is_written(errand, tmp_path, given, error, words):
    with pytest.raises(error, match=words):
        runs.run(Plan(_ITEMS, {}), errand, tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_memory_is_bounded_by_what_is_read_ahead(tmp_path):
    class Large:
        def start(self):
            pass

        def read(self, item):
            return bytearray(1_000_000)

        def work(self, item, read):
            return Record({"bytes": len(read)})

        def stop(self):
            pass

    tracemalloc.start()
    try:
        runs.run(Plan(tuple(str(number) for number in range(200)), {}), Large, tmp_path / "run", prefetch=4)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def test_a_fatal_error_stops_a_run_that_skips_bad_items(errand, tmp_path):
    plan = Plan(("a", "bad 1", "b", "bad 2"), {})
    assert len(runs.run(plan, errand, tmp_path / "run", skip_bad=True, fatal=(RunError,)).bad) == 2
    with pytest.raises(DataError, match="bad 1"):
        runs.run(plan, errand, tmp_path / "again", skip_bad=True, fatal=(RunError, DataError))


def test_a_journal_that_was_taken_away_is_made_again_from_the_results(errand, tmp_path):
    plan, folder = Plan(("a", "bad", "b"), {}), tmp_path / "run"
    runs.run(plan, errand, folder, skip_bad=True)
    before = (folder / "results.jsonl").read_bytes()
    (folder / "journal.jsonl").unlink()
    journal.restore(folder)
    assert [(entry["item"], entry["result"]["text"]) for entry in journal.read(folder)] == [("a", "A"), ("b", "B")]
    again = runs.run(plan, errand, folder, skip_bad=True)
    assert (again.done, again.skipped, [bad.item for bad in again.bad]) == (0, 2, ["bad"])
    assert (folder / "results.jsonl").read_bytes() == before
