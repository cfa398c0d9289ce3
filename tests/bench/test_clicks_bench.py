"""The robot that clicks: where it clicks, what it counts, and a run of one image."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from nerveseg.bench.clicks import TABLE, Clicking, _report, _robot, _run, run
from nerveseg.bench.job import Job
from nerveseg.errors import OptionError, RunError


def test_the_click_is_deepest_inside_the_largest_error_by_brute_force():
    truth = np.random.default_rng(0).integers(0, 3, (14, 17))
    truth[3:9, 4:12] = 2
    guess = np.zeros_like(truth)
    click = _robot.next_click(guess, truth, ids=range(3))
    part, todo = set(), {(5, 6)}
    while todo:
        y, x = todo.pop()
        part.add((y, x))
        near = ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1))
        todo |= {(b, a) for b, a in near if 0 <= b < 14 and 0 <= a < 17 and truth[b, a] == 2 and (b, a) not in part}

    def depth(y, x):
        return min(math.hypot(y - b, x - a) for b in range(-1, 15) for a in range(-1, 18) if (b, a) not in part)

    assert (click.label, click.instead, click.pixels) == (2, 0, len(part))
    assert depth(click.y, click.x) == pytest.approx(max(depth(*place) for place in part))


def test_of_a_label_both_kinds_of_error_count_and_of_none_there_is_no_click():
    truth, guess = np.zeros((6, 9), int), np.zeros((6, 9), int)
    truth[:, 5:] = 1
    guess[:, 3:] = 1
    guess[0, 0] = 2
    wrong = _robot.next_click(guess, truth, ids=range(3), of=1)
    assert (wrong.label, wrong.instead, wrong.pixels) == (0, 1, 12)
    assert _robot.next_click(truth, truth, ids=range(3)) is None
    assert _robot.next_click(np.where(truth == 1, 1, 2), truth, ids=range(3), of=1) is None


def test_iou_by_hand():
    truth, guess = np.array([[1, 1, 0, 0]]), np.array([[0, 1, 1, 0]])
    assert _robot.iou(guess, truth, 1) == pytest.approx(100 / 3)
    assert _robot.iou(guess, truth, 7) == 0


def test_clicks_to_a_goal_count_from_the_first_that_reaches_it():
    marks = np.array([[85.0, 70, 90], [10, 81, 79], [1, 2, 3]])
    assert _report.clicks_to(marks, 80).tolist() == [0, 1, 2]


def test_two_images_are_clicked_resumed_and_reported(tmp_path):
    given = Clicking(Job("mini", "embedded", limit=2, threads=1, settings={"clicks.radius": 1.0}), cap=1, cache=str(tmp_path / "cache"))
    summary = run(given, tmp_path / "out")
    assert (summary.done, summary.left) == (2, 0)
    line = json.loads((tmp_path / "out" / "results.jsonl").read_text().splitlines()[1])
    assert set(line) == {"item", "first", "things", "new"}
    for variants in line["things"].values():
        assert set(variants) == set(_run.VARIANTS)
        assert len({marks[0] for marks in variants.values()}) == 1
        assert all(1 <= len(marks) <= 2 for marks in variants.values())
    assert all(len(marks) <= 4 for marks in line["new"].values())
    text = (tmp_path / "out" / TABLE).read_text()
    assert "| both |" in text
    assert (tmp_path / "out" / "figure.png").stat().st_size > 1000
    assert run(given, tmp_path / "out").done == 0
    with pytest.raises(RunError):
        run(Clicking(given.job, cap=3), tmp_path / "out")


def test_wrong_knobs_are_refused_before_a_network_is_loaded():
    with pytest.raises(OptionError, match=r"clicks\.alpha"):
        _run.plan(Clicking(Job("mini", "embedded", limit=1, settings={"clicks.alpha": 7})))


def test_another_folder_is_no_run_of_clicks(tmp_path):
    with pytest.raises(RunError):
        _report.outcome(tmp_path)
