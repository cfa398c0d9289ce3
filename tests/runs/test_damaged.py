"""Folders of long jobs that something happened to: told in our words, and what is finished stays."""

from __future__ import annotations

import json

import pytest

from nerveseg.bench import scored
from nerveseg.bench.ablate import _report as ablations
from nerveseg.bench.clicks import _report as clicks
from nerveseg.bench.report.folder import load
from nerveseg.bench.wsss import finish as wsss
from nerveseg.errors import RunError
from nerveseg.runs import journal, plan, results

READERS = {"nerveseg-bench-1": load, "nerveseg-bench-1 scored": scored.read, "nerveseg-ablate-1": ablations.outcome,
           "nerveseg-wsss-1": wsss, "nerveseg-clicks-1": clicks.outcome}  # fmt: skip
RECORDS = (b"", b"[]", b"null", b"3", b'{"format":1', b'{"format":1}', b"[" * 100_000, b"\xff\xfe",
           b'{"format":1,"identity":[],"about":{},"items":{}}',
           b'{"format":1,"identity":{},"about":{},"items":{},"shard":[0,1]}',
           b'{"format":1,"identity":{},"about":{},"items":{"digest":"x"},"shard":"01"}',
           b'{"format": ' + b"9" * 5001 + b"}")  # fmt: skip


@pytest.mark.parametrize("content", RECORDS, ids=range(len(RECORDS)))
def test_a_record_of_any_kind_is_refused_and_nothing_else_is_touched(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    (tmp_path / "items.jsonl").write_text('"a"\n')
    for read in (plan.read, load, lambda folder: plan.prepare(plan.Plan(("a",), {}), folder)):
        with pytest.raises(RunError, match=r"run\.json"):
            read(tmp_path)
    assert (tmp_path / "run.json").read_bytes() == content


def test_a_record_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "run.json").mkdir()
    with pytest.raises(RunError, match=r"run\.json, which cannot be read"):
        plan.read(tmp_path)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("identity", [{}, {"data": []}, {"data": {"protocol": "sclip", "classes": 2}, "names": 3}], ids=range(3))
@pytest.mark.parametrize(
    "line", [{"item": "a"}, {"item": "a", "variants": 3, "confusion": [[9, 9, 9]], "first": 1, "things": 2, "calibration": 3}], ids=range(2)
)
def test_a_job_that_says_other_things_is_refused_by_every_reader(tmp_path, reader, identity, line):
    made = plan.Plan(("a",), {**identity, "kind": reader.partition(" ")[0]})
    plan.prepare(made, tmp_path)
    (tmp_path / "results.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(RunError):
        READERS[reader](tmp_path)


@pytest.mark.parametrize("content", [b"[]\n", b"3\n", b'{"a": 1}\n', b"[" * 100_000 + b"\n", b"\xff\n", b'{"item": 3}\n'])
def test_results_that_are_none_are_told_with_their_line(tmp_path, content):
    (tmp_path / "results.jsonl").write_bytes(b'{"item": "a"}\n' + content)
    with pytest.raises(RunError, match="line 2"):
        list(results.read(tmp_path))


@pytest.mark.parametrize(
    "last",
    [b"[]\n", b"[" * 100_000 + b"\n", b'{"item": "b", "result": 3}\n', b'{"item": "b", "error": "x"}\n', b'{"item": "b", "res', b"\xff\n"],
)
def test_a_damaged_last_line_of_a_journal_is_passed_over(tmp_path, last):
    (tmp_path / "journal.jsonl").write_bytes(b'{"item": "a", "result": {}}\n' + last)
    assert [line["item"] for line in journal.read(tmp_path)] == ["a"]
    (tmp_path / "journal.jsonl").write_bytes(last.rstrip(b"\n") + b"\n" + b'{"item": "a", "result": {}}\n')
    with pytest.raises(RunError, match="damaged line 1"):
        list(journal.read(tmp_path))
