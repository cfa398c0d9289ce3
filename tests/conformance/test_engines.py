"""What every engine has to keep, whatever file it comes from."""

from __future__ import annotations

import importlib.util
import os
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest

from nerveseg import registry
from nerveseg.errors import DataError, RunError, WeightsNotFound
from nerveseg.runs import Plan, WorkerDied, run

_PLAIN = tuple(f"item {number}" for number in range(9))


@pytest.fixture(scope="module", params=registry.names("engines"))
def engine(request, errands, tmp_path_factory):
    """Each engine; Ray is started once for all tests, as that takes seconds."""
    module = registry.load("engines", request.param)
    if request.param != "ray":
        yield module
        return
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray and what it imports
        patch.setenv("PYTHONPATH", str(Path(errands.__file__).parent))  # the cluster's machines need what makes the workers
        for name, value in {**module._SETTINGS, **module._ALONE, "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}.items():
            patch.setenv(name, value)
        with module._cluster(module._library(module.Options()), 2, module.Options()):
            yield module


def go(module, make, items, *, workers=2, prefetch=2, stop=lambda: False):
    return module.execute(make, tuple(items), workers=workers, prefetch=prefetch, options=module.Options(), stop=stop)


def notes(folder, what):
    return sorted(path.name for path in folder.glob(f"{what}-*"))


@contextmanager
def told():
    """Deaths are told."""
    with pytest.warns(WorkerDied, match="Its items go to another one"):
        yield


def test_an_engine_declares_its_knobs(engine):
    registry.check(engine.Options())


@pytest.mark.parametrize(("workers", "prefetch"), [(1, 0), (1, 4), (2, 0), (2, 3)])
def test_each_item_is_done_exactly_once(engine, errands, tmp_path, workers, prefetch):
    found = list(go(engine, errands.Errand(tmp_path), _PLAIN, workers=workers, prefetch=prefetch))
    assert sorted(outcome.item for outcome in found) == sorted(_PLAIN)
    for outcome in found:
        assert outcome.error is None
        assert outcome.record.result == errands.expected(outcome.item)
        assert {"read", "waited", "work", "errand"} <= set(outcome.record.seconds)
    assert 1 <= len(notes(tmp_path, "started")) <= workers


@pytest.mark.parametrize(("workers", "prefetch"), [(1, 0), (1, 4), (2, 3)])
def test_an_item_counts_when_what_is_behind_it_is_done(engine, errands, tmp_path, workers, prefetch):
    items = ("late 1", *_PLAIN, "bad", "late 2")
    found = list(go(engine, errands.Errand(tmp_path, behind=0.02), items, workers=workers, prefetch=prefetch))
    assert sorted(outcome.item for outcome in found) == sorted(items)
    assert sorted(outcome.item for outcome in found if outcome.error) == ["bad", "late 1", "late 2"]


@pytest.mark.parametrize("workers", [1, 2])
def test_once_told_to_stop_it_waits_for_what_is_behind(engine, errands, tmp_path, workers):
    found = []
    outcomes = go(engine, errands.Errand(tmp_path, behind=0.1), _PLAIN, workers=workers, prefetch=4, stop=lambda: bool(found))
    for outcome in outcomes:
        found.append(outcome.item)  # noqa: PERF401 (stop looks at it)
    assert sorted(f"begun-{item}" for item in found) == notes(tmp_path, "begun")
    assert len(found) < len(_PLAIN)


def test_workers_share_the_items_and_end_well(engine, errands, tmp_path):
    list(go(engine, errands.Errand(tmp_path, together=2), _PLAIN))
    assert len(notes(tmp_path, "did")) == 2
    assert [name.partition("-")[2] for name in notes(tmp_path, "stopped")] == [
        name.partition("-")[2] for name in notes(tmp_path, "started")
    ]


def test_no_items_are_no_work(engine, errands, tmp_path):
    assert list(go(engine, errands.Errand(tmp_path), ())) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_our_errors_are_outcomes_and_the_others_go_on(engine, errands, tmp_path, workers):
    items = ("a", "unreadable", "b", "bad", "c")
    found = {outcome.item: outcome for outcome in go(engine, errands.Errand(tmp_path), items, workers=workers)}
    assert sorted(found) == sorted(items)
    assert [item for item in items if found[item].error is None] == ["a", "b", "c"]
    for item in ("unreadable", "bad"):
        assert type(found[item].error) is DataError
        assert str(found[item].error).startswith(f"Got {item}.")
        assert found[item].record is None


@pytest.mark.parametrize("workers", [1, 2])
def test_anything_else_is_raised_with_its_own_type(engine, errands, tmp_path, workers):
    with pytest.raises(ZeroDivisionError, match="wrong"):
        list(go(engine, errands.Errand(tmp_path), ("a", "wrong", "b"), workers=workers))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_cannot_start_says_why(engine, errands, tmp_path, workers):
    with pytest.raises(WeightsNotFound, match="Fetch them"):
        list(go(engine, errands.Errand(tmp_path, start="missing"), _PLAIN, workers=workers))


@pytest.mark.parametrize("prefetch", [0, 3])
def test_a_worker_killed_mid_run_loses_and_doubles_nothing(engine, errands, tmp_path, prefetch):
    items = (*_PLAIN[:4], "accident", *_PLAIN[4:])
    with told():
        found = list(go(engine, errands.Errand(tmp_path), items, prefetch=prefetch))
    assert sorted(outcome.item for outcome in found) == sorted(items)
    assert all(outcome.record.result == errands.expected(outcome.item) for outcome in found)


def test_an_item_that_kills_twice_is_to_blame_and_no_other(engine, errands, tmp_path):
    items = ("a", "b", "deadly", "c", "d", "e")
    with told():
        found = {outcome.item: outcome for outcome in go(engine, errands.Errand(tmp_path), items, prefetch=3)}
    assert sorted(found) == sorted(items)
    assert [item for item in items if found[item].error is not None] == ["deadly"]
    assert isinstance(found["deadly"].error, RunError)


def test_workers_that_die_before_their_first_item_end_the_run(engine, errands, tmp_path):
    with pytest.raises(RunError, match="before their first item"):
        list(go(engine, errands.Errand(tmp_path, start="dies"), _PLAIN))


@pytest.mark.parametrize("workers", [1, 2])
def test_once_told_to_stop_it_begins_nothing_more(engine, errands, tmp_path, workers):
    found = []
    for outcome in go(engine, errands.Errand(tmp_path, pause=0.05), _PLAIN, workers=workers, stop=lambda: bool(found)):
        found.append(outcome)  # noqa: PERF402 - `stop` looks at it meanwhile
    assert 1 <= len(found) <= workers
    assert len({outcome.item for outcome in found}) == len(found)


def test_closing_it_ends_the_workers(engine, errands, tmp_path):
    outcomes = go(engine, errands.Errand(tmp_path, pause=0.05), _PLAIN)
    next(outcomes)
    outcomes.close()
    pids = [int(name.partition("-")[2]) for name in notes(tmp_path, "started")]
    deadline = time.monotonic() + 120
    while any(_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(_alive(pid) for pid in pids)


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # a zombie is dead, and waits for its parent to see it
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_what_cannot_travel_is_refused():
    local = registry.load("engines", "local")  # Ray brings lambdas along
    with pytest.raises(RunError, match="cannot be sent"):
        list(go(local, lambda: None, _PLAIN))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_leaves_the_same_bytes_whatever_the_engine(engine, errands, tmp_path, workers):
    plan = Plan((*_PLAIN, "bad", "accident" if workers == 2 else "another"), {"seed": 0})
    name = engine.__name__.rpartition(".")[2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WorkerDied)
        summary = run(plan, errands.Errand(tmp_path), tmp_path / "one", engine=name, workers=workers, skip_bad=True)
    (tmp_path / "first-accident").touch()
    run(plan, errands.Errand(tmp_path), tmp_path / "other", skip_bad=True)
    assert (summary.done, [bad.item for bad in summary.bad], summary.left) == (10, ["bad"], 0)
    for file in ("results.jsonl", "run.json", "items.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
