from __future__ import annotations

import numpy as np
import pytest

from nerveseg.synthetic import scenes, score
from nerveseg.synthetic.names import NAMES


def _counts(both, guessed, true):
    width = len(NAMES) - 2
    pad = lambda rows: np.pad(np.array(rows, np.int64), ((0, 0), (0, width)))  # noqa: E731
    return score.Counts(pad(both), pad(guessed), pad(true))


def test_miou_is_the_data_sets_and_skips_names_that_are_nowhere():
    counts = _counts([[2, 0], [2, 1]], [[4, 0], [2, 2]], [[2, 2], [3, 1]])
    assert score.miou(counts) == pytest.approx(100 * (4 / 7 + 1 / 4) / 2, abs=1e-12)


def test_a_name_that_is_guessed_but_never_true_scores_nothing():
    counts = _counts([[4, 0]], [[4, 3]], [[7, 0]])
    assert score.miou(counts) == pytest.approx(100 * (4 / 7) / 2, abs=1e-12)


def test_the_interval_of_a_system_against_itself_is_nothing():
    counts = _counts([[2, 0], [2, 1]], [[4, 0], [2, 2]], [[2, 2], [3, 1]])
    assert score.interval(counts, counts, draws=20) == (0.0, 0.0)


def test_labels_are_the_names_present_and_three_absent_ones():
    scene = scenes.render("test", 5)
    labels = score.labels_of(scene, "test", 5)
    assert len(labels) == len(scene.names) + score.ABSENT == len(set(labels))
    assert set(scene.names) < set(labels)
    assert labels == score.labels_of(scene, "test", 5)


def test_every_system_meets_every_rule():
    pairs = score.second_round(score.first_round()[0][0])
    met = {(walking.system, rule.row) for walking, rule in pairs}
    assert met == {(system, rule) for system in score.SYSTEMS for rule in score.RULES}
    assert {row.rule for row in score.choose({pair: _counts([[1, 0]], [[1, 0]], [[1, 0]]) for pair in pairs})} == set(score.RULES)
