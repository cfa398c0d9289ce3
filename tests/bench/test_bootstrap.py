from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy.sparse import csr_array, random_array

from nerveseg.bench.confusion import Confusion, count, metrics
from nerveseg.bench.report import bootstrap
from nerveseg.bench.report.bootstrap import difference, interval, scores
from nerveseg.bench.report.tallies import Tallies, Tally
from nerveseg.datasets import IGNORE
from nerveseg.errors import OptionError, ShapeError

CLASSES = 5


def _images(seed, number=12):
    """Dense tables (C, C + 1) of small random label maps; some classes are rare, some pixels ignored, some left to no class."""
    rng, tables, tally = np.random.default_rng(seed), [], Tally(CLASSES)
    truth_rng = np.random.default_rng(99)
    for _ in range(number):
        truth = truth_rng.choice([0, 0, 0, 1, 2, 3, IGNORE], (6, 7)).astype(np.uint16)
        guess = np.where(rng.random((6, 7)) < 0.6, truth, rng.integers(0, CLASSES + 1, (6, 7))).astype(np.uint16)
        found = count(truth, guess, CLASSES)
        table = np.zeros((CLASSES, CLASSES + 1), np.int64)
        for true, guessed, pixels in found.tolist():
            table[true, guessed] += pixels
        tables.append(table)
        assert tally.add(found) is found
    return tables, tally.done()


def _plain(tables, average, draws, seed):
    """The bootstrap as it is defined: whole tables summed and scored, draw by draw."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(draws):
        weights = rng.multinomial(len(tables), np.full(len(tables), 1 / len(tables)))
        found.append(metrics(Confusion(sum(int(weight) * table for weight, table in zip(weights, tables, strict=True))), average).miou)
    return np.array(found)


def test_tallies_are_what_the_tables_say():
    tables, tallies = _images(1)
    assert (tallies.images, tallies.classes) == (len(tables), CLASSES)
    for at, table in enumerate(tables):
        assert tallies.both.toarray()[at].tolist() == [table[c, c] for c in range(CLASSES)]
        assert tallies.true.toarray()[at].tolist() == table.sum(1).tolist()
        assert tallies.guessed.toarray()[at].tolist() == table[:, :-1].sum(0).tolist()
    turned = tallies.ordered(np.arange(len(tables))[::-1])
    assert (turned.true.toarray() == tallies.true.toarray()[::-1]).all()


@pytest.mark.parametrize("average", ["union", "truth"])
def test_scores_and_intervals_equal_the_plain_loop(average):
    (left, one), (right, other) = _images(1), _images(2)
    whole = metrics(Confusion(sum(left)), average).miou
    assert scores(one, np.ones((1, len(left))), average=average)[0] == pytest.approx(whole, abs=1e-12)
    drawn, drawn_other = _plain(left, average, 300, 7), _plain(right, average, 300, 7)
    found = interval(one, average=average, draws=300, seed=7)
    assert found.value == pytest.approx(whole, abs=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, (2.5, 97.5))), abs=1e-9)
    paired = difference(one, other, average=average, draws=300, seed=7)
    assert paired.value == pytest.approx(whole - metrics(Confusion(sum(right)), average).miou, abs=1e-12)
    assert (paired.low, paired.high) == pytest.approx(tuple(np.percentile(drawn - drawn_other, (2.5, 97.5))), abs=1e-9)


def test_draws_do_not_depend_on_how_many_are_held(monkeypatch):
    _, tallies = _images(3)
    before = interval(tallies, draws=101, seed=5)
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 1)
    assert interval(tallies, draws=101, seed=5) == before
    assert interval(tallies, draws=101, seed=6) != before


def test_pairing_takes_out_what_both_find_hard():
    """The same run twice differs by exactly nothing, although each alone is uncertain; one pixel that is always better is clear."""
    _, tallies = _images(4)
    alone = interval(tallies, draws=200)
    assert alone.high - alone.low > 1
    same = difference(tallies, tallies, draws=200)
    assert (same.value, same.low, same.high, same.clear) == (0, 0, 0, False)
    worse = Tallies(csr_array(np.maximum(tallies.both.toarray() - 1, 0)), tallies.true, tallies.guessed)
    assert difference(tallies, worse, draws=200).clear


def test_one_image_and_nothing_to_score():
    tally = Tally(2)
    tally.add(np.array([[0, 0, 3], [0, 1, 1]]))
    found = interval(tally.done(), draws=50)
    assert (found.value, found.low, found.high) == pytest.approx((37.5, 37.5, 37.5))  # 3/4 and 0/1
    empty = Tally(2)
    empty.add(np.zeros((0, 3), np.int64))
    assert all(math.isnan(part) for part in (interval(empty.done(), draws=10).value, interval(empty.done(), draws=10).low))


def test_bad_input_is_refused():
    _, tallies = _images(5)
    with pytest.raises(OptionError, match="average"):
        interval(tallies, average="mean")
    with pytest.raises(OptionError, match="0 draws"):
        interval(tallies, draws=0)
    with pytest.raises(ShapeError, match="12 images of 5"):
        difference(tallies, _images(5, 11)[1])


def test_memory_stays_small_at_5000_images_of_171_classes():
    rng = np.random.default_rng(0)
    true = csr_array(random_array((5000, 171), density=0.1, format="csr", rng=rng) * 1000)
    guessed = csr_array(random_array((5000, 171), density=0.2, format="csr", rng=rng) * 1000)
    tallies = Tallies(true.minimum(guessed), true, guessed)
    tracemalloc.start()
    try:
        difference(tallies, tallies, draws=150)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 48 * 2**20
