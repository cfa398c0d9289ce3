"""Confusion, scores and calibration against what is counted by hand, in plain loops, and by another library."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from nerveseg.bench import calibration
from nerveseg.bench.confusion import Confusion, count, metrics, total
from nerveseg.datasets import IGNORE
from nerveseg.errors import DataError, OptionError, ShapeError

NONE = 4  # with four classes


def _maps(*rows):
    return np.array(rows, np.uint16)


def _drawn(seed, size=(13, 17), classes=6, *, none=True):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes + 1, size).astype(np.uint16)
    truth[truth == classes] = IGNORE
    guess = np.where(rng.random(size) < 0.6, np.minimum(truth, classes - 1), rng.integers(0, classes + none, size)).astype(np.uint16)
    return truth, guess


def _by_hand(images, classes):
    """Intersections, unions and truths, pixel by pixel."""
    both, union, true = [0] * classes, [0] * classes, [0] * classes
    for truth, guess in images:
        for t, p in zip(truth.ravel().tolist(), guess.ravel().tolist(), strict=True):
            if t == IGNORE:
                continue
            true[t] += 1
            both[t] += t == p
            for c in range(classes):
                union[c] += c in (t, p)
    return both, union, true


@pytest.mark.parametrize("seed", range(5))
def test_an_image_is_counted_pixel_by_pixel(seed):
    truth, guess = _drawn(seed)
    wanted: dict[tuple[int, int], int] = {}
    for t, p in zip(truth.ravel().tolist(), guess.ravel().tolist(), strict=True):
        if t != IGNORE:
            wanted[t, p] = wanted.get((t, p), 0) + 1
    assert count(truth, guess, 6).tolist() == [[t, p, n] for (t, p), n in sorted(wanted.items())]


def test_a_guess_past_the_classes_is_none_of_them_and_ignored_pixels_are_in_nothing():
    found = count(_maps([0, 1, IGNORE, 3]), _maps([NONE, 9, 2, IGNORE]), 4)
    assert found.tolist() == [[0, NONE, 1], [1, NONE, 1], [3, NONE, 1]]


def test_an_image_that_is_ignored_altogether_counts_nothing():
    assert count(np.full((3, 3), IGNORE, np.uint16), np.zeros((3, 3), np.uint16), 4).shape == (0, 3)


def test_thousands_of_classes_are_counted_without_a_full_table():
    truth, guess = _maps([5000, 1, IGNORE]), _maps([5000, 6000, 3])
    assert count(truth, guess, 6000).tolist() == [[1, 6000, 1], [5000, 5000, 1]]


def test_a_truth_that_is_no_class_is_refused():
    with pytest.raises(DataError, match="id 4"):
        count(_maps([0, 4]), _maps([0, 0]), 4)
    with pytest.raises(DataError, match="65534"):
        count(_maps([0, 65534, IGNORE]), _maps([0, 0, 0]), 4)


def test_two_sizes_are_refused():
    with pytest.raises(ShapeError, match="equal sizes"):
        count(_maps([0, 1]), _maps([0]), 4)
    with pytest.raises(ShapeError, match="C \\+ 1"):
        Confusion(np.zeros((3, 3), np.int64))


# By hand. Truth rows: class 0 has 10 pixels, class 1 has 5, class 2 is nowhere but guessed twice, class 3 is nowhere at all.
_TABLE = np.array([[7, 1, 2, 0, 0], [1, 3, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]], np.int64)
_FIRST, _SECOND = 7 / 11, 3 / 6


def test_a_class_that_is_only_guessed_scores_nothing_and_counts():
    found = metrics(Confusion(_TABLE), "union")
    assert found.miou == pytest.approx(100 * (_FIRST + _SECOND + 0) / 3, abs=1e-12)
    np.testing.assert_allclose(found.iou, [100 * _FIRST, 100 * _SECOND, 0, np.nan], rtol=0, atol=1e-12)


def test_the_other_average_leaves_it_out_and_smooths_the_union():
    found = metrics(Confusion(_TABLE), "truth")
    assert found.miou == pytest.approx(100 * (7 / (11 + 1e-5) + 3 / (6 + 1e-5)) / 2, abs=1e-12)
    np.testing.assert_allclose(found.iou, [100 * 7 / (11 + 1e-5), 100 * 3 / (6 + 1e-5), np.nan, np.nan], rtol=0, atol=1e-12)


@pytest.mark.parametrize("average", ["union", "truth"])
def test_accuracies_and_the_weighted_iou(average):
    found = metrics(Confusion(_TABLE), average)
    assert found.pixel_accuracy == pytest.approx(100 * 10 / 15, abs=1e-12)
    assert found.mean_accuracy == pytest.approx(100 * (7 / 10 + 3 / 5) / 2, abs=1e-12)
    assert found.weighted_iou == pytest.approx(100 * (10 * _FIRST + 5 * _SECOND) / 15, abs=1e-12)
    np.testing.assert_allclose(found.accuracy, [70, 60, np.nan, np.nan], rtol=0, atol=1e-12)


@pytest.mark.parametrize("average", ["union", "truth"])
def test_the_score_is_that_of_the_data_set_not_the_mean_over_images(average):
    images = [_drawn(seed, classes=5) for seed in range(6)]
    images.append((np.full((4, 4), 2, np.uint16), np.full((4, 4), 5, np.uint16)))  # all missed
    both, union, true = _by_hand(images, 5)
    found = metrics(total((count(truth, guess, 5) for truth, guess in images), 5), average)
    if average == "union":
        wanted = [i / u for i, u in zip(both, union, strict=True) if u]
    else:
        wanted = [i / (u + 1e-5) for i, u, t in zip(both, union, true, strict=True) if t]
    assert found.miou == pytest.approx(100 * sum(wanted) / len(wanted), abs=1e-12)


def test_predicting_the_truth_is_perfect():
    truth, _ = _drawn(3)
    confusion = total([count(truth, np.where(truth == IGNORE, 0, truth).astype(np.uint16), 6)], 6)
    found = metrics(confusion, "union")
    assert (found.miou, found.pixel_accuracy, found.mean_accuracy, found.weighted_iou) == (100.0, 100.0, 100.0, 100.0)
    assert metrics(confusion, "truth").miou == pytest.approx(100.0, abs=1e-4)


def test_a_constant_guess_scores_its_class_alone():
    truth, _ = _drawn(4)
    found = metrics(total([count(truth, np.zeros_like(truth), 6)], 6), "union")
    share = np.count_nonzero(truth == 0) / np.count_nonzero(truth != IGNORE)
    assert found.miou == pytest.approx(100 * share / 6, abs=1e-12)


def test_without_a_pixel_there_is_no_score():
    found = metrics(Confusion(np.zeros((2, 3), np.int64)), "union")
    assert all(np.isnan(value) for value in (found.miou, found.pixel_accuracy, found.mean_accuracy, found.weighted_iou))


def test_another_average_is_refused():
    with pytest.raises(OptionError, match="union, truth"):
        metrics(Confusion(_TABLE), "picture")


@pytest.mark.parametrize("seed", range(4))
def test_torchmetrics_says_the_same(seed):
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classification = pytest.importorskip("torchmetrics.classification")
    jaccard = classification.MulticlassJaccardIndex(6, average="none", ignore_index=IGNORE)
    images = [_drawn(10 * seed + number, none=False) for number in range(3)]
    for truth, guess in images:
        jaccard.update(torch.from_numpy(guess.astype(np.int64)), torch.from_numpy(truth.astype(np.int64)))
    found = metrics(total((count(truth, guess, 6) for truth, guess in images), 6), "union")
    assert not np.isnan(found.iou).any()
    np.testing.assert_allclose(found.iou, 100 * jaccard.compute().numpy(), rtol=0, atol=1e-4)  # 1e-6 of a share
    assert found.miou == pytest.approx(100 * float(jaccard.compute().mean()), abs=1e-4)


# Calibration


def _sure(rows):
    return np.array(rows, np.float32)


def test_confidence_goes_into_twenty_bins_and_the_last_holds_one():
    found = calibration.bins(_sure([[0.0, 0.04, 0.05, 1.0]]), np.array([[True, False, True, True]]), np.ones((1, 4), bool))
    assert found == [(0, 2, 1, 0.04), (1, 1, 1, 0.05), (19, 1, 1, 1.0)]


def test_ignored_pixels_are_in_no_bin():
    found = calibration.bins(_sure([[0.5, 0.5]]), np.array([[True, True]]), np.array([[True, False]]))
    assert found == [(10, 1, 1, 0.5)]


@pytest.mark.parametrize("seed", range(3))
def test_calibration_by_hand(seed):
    rng = np.random.default_rng(seed)
    sure = [rng.random((9, 11), np.float32) for _ in range(3)]
    right = [rng.random((9, 11)) < part for part in sure]
    counted = [rng.random((9, 11)) < 0.9 for _ in sure]
    found = calibration.total(calibration.bins(*one) for one in zip(sure, right, counted, strict=True))

    pixels = [
        (float(s), bool(r))
        for part in zip(sure, right, counted, strict=True)
        for s, r, c in zip(*(a.ravel() for a in part), strict=True)
        if c
    ]
    bins = [[pixel for pixel in pixels if min(int(pixel[0] * 20), 19) == at] for at in range(20)]
    ece = sum(abs(sum(r for _, r in held) - sum(s for s, _ in held)) for held in bins) / len(pixels)
    assert found.ece == pytest.approx(ece, abs=1e-6)
    for edge, coverage, risk in found.risk_coverage:
        kept = [r for s, r in pixels if s >= edge - 1e-9]
        assert coverage == pytest.approx(len(kept) / len(pixels), abs=1e-12)
        assert risk == pytest.approx(1 - sum(kept) / len(kept), abs=1e-12)
    assert found.risk_coverage[-1][1] == 1.0


def test_the_area_under_risk_over_coverage_is_that_of_its_trapezoids():
    rows = [[19, 10, 10, 9.9], [10, 10, 0, 5.2]]  # half of the pixels right and sure, half wrong
    found = calibration.total([rows])
    assert found.risk_coverage == ((0.95, 0.5, 0.0), (0.5, 1.0, 0.5))
    assert found.risk_area == pytest.approx(0.5 * 0.25, abs=1e-12)
    assert found.ece == pytest.approx((0.1 + 5.2) / 20, abs=1e-12)


def test_the_order_of_images_changes_no_bit():
    rng = np.random.default_rng(0)
    rows = [[[int(at), 3, 1, round(float(rng.random()), 6)] for at in rng.permutation(20)[:5]] for _ in range(50)]
    one, other = calibration.total(rows), calibration.total(rows[::-1])
    assert one.confidence.tobytes() == other.confidence.tobytes()


def test_nothing_seen_has_no_calibration():
    found = calibration.total([])
    assert np.isnan(found.ece)
    assert np.isnan(found.risk_area)
    assert found.risk_coverage == ()
