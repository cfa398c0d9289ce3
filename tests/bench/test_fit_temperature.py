"""A temperature from labelled images: found where it is known, checked by hand, and not kept where it is noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nerveseg import recipe as recipes
from nerveseg.bench import temperature as fitting
from nerveseg.bench.job import Job
from nerveseg.bench.report.bootstrap import Interval, ratio
from nerveseg.bench.report.plots import reliability
from nerveseg.bench.temperature import Labelled, Sample, calibrate, fit, labelled, loss, measured, sample
from nerveseg.bench.words import Asked
from nerveseg.datasets import IGNORE
from nerveseg.errors import DataError, OptionError
from nerveseg.image import load_image
from nerveseg.masks.temperature import LEAST, MOST
from nerveseg.segmentation import Segmentation
from nerveseg.words import Vocabulary

SIZE = (9, 11)
K = 4


def drawn(seed, factor=1.0, size=SIZE, sharp=2.0):
    """A result at image size whose labels are drawn from softmax(z), and whose scores say softmax(z · factor)."""
    rng = np.random.default_rng(seed)
    z = torch.from_numpy(rng.normal(size=(K, *size)) * sharp).float()
    p = z.softmax(0).flatten(1).T.double().numpy()
    truth = torch.from_numpy(np.array([rng.choice(K, p=row / row.sum()) for row in p])).view(size)
    P = torch.cat([(z * factor).softmax(0), torch.zeros(1, *size)])
    image = load_image(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    result = Segmentation.build(P, P, Vocabulary.parse([f"thing {number}" for number in range(K)]), image)
    return Labelled(result, truth, torch.ones(size, dtype=torch.bool))


def nll_by_hand(one, temperature):
    total = 0.0
    p = one.result.segmentation_scores.double()
    for y, x in one.counted.nonzero().tolist():
        powers = [float(value) ** (1 / temperature) for value in p[:, y, x]]
        total -= math.log(powers[int(one.truth[y, x])] / sum(powers))
    return total


@pytest.mark.parametrize("T0", [0.4, 1.0, 2.5])
def test_the_temperature_that_the_labels_were_drawn_by_is_found(T0):
    """Labels from softmax(z), scores softmax(z / T0): the temperature that mends them is 1 / T0."""
    rng = np.random.default_rng(0)
    samples = []
    for _ in range(5):
        z = torch.from_numpy(rng.normal(size=(4000, 6)) * 2)
        truth = torch.from_numpy(np.array([rng.choice(6, p=row) for row in z.softmax(1).numpy()]))
        samples.append(Sample((z / T0).log_softmax(1).float(), truth, 1.0))
    assert fit(samples) == pytest.approx(1 / T0, rel=0.04)


def test_it_is_the_least_of_a_scan_in_plain_loops_and_weights_count():
    one, other = drawn(0, 2.0), drawn(1, 0.7)
    found = fit([sample(one), sample(other)])
    grid = [found * factor for factor in (0.9, 0.97, 0.995, 1.0, 1.005, 1.03, 1.1)]
    scanned = [nll_by_hand(one, T) + nll_by_hand(other, T) for T in grid]
    assert scanned[3] <= min(scanned) + 1e-6 * scanned[3]
    alone, heavy = sample(other), sample(one)
    apart = [fit([alone]), fit([heavy])]
    heavier = Sample(heavy.logs, heavy.truth, 50.0)
    assert abs(fit([alone, heavier]) - apart[1]) < abs(found - apart[1])
    assert min(apart) < found < max(apart)


def test_where_nothing_is_wrong_it_is_the_end_of_the_range():
    sure = Sample(torch.tensor([[0.8, 0.2]]).log(), torch.tensor([0]), 1.0)
    wrong = Sample(torch.tensor([[0.8, 0.2]]).log(), torch.tensor([1]), 1.0)
    assert fit([sure]) == pytest.approx(LEAST, rel=1e-3)
    assert fit([wrong]) == pytest.approx(MOST, rel=1e-3)
    assert LEAST <= fit([sure]) <= fit([wrong]) <= MOST


def test_a_true_label_of_no_share_leaves_it_finite():
    none = Sample(torch.tensor([[0.0, 1.0]]).log(), torch.tensor([0]), 1.0)
    some = sample(drawn(0))
    assert math.isfinite(fit([none, some]))


def test_pixels_are_drawn_from_those_that_count_and_stand_for_all_of_them():
    one = drawn(0)
    counted = torch.zeros(SIZE, dtype=torch.bool)
    counted[2:7, 1:9] = True
    part = Labelled(one.result, one.truth.masked_fill(~counted, -1), counted)
    every, few = sample(part), sample(part, seed=3, pixels=10)
    assert (len(every.truth), every.weight) == (40, 1.0)
    assert (len(few.truth), few.weight) == (10, 4.0)
    p = part.result.segmentation_scores
    torch.testing.assert_close(every.logs.exp(), p[:, counted].T)
    assert torch.equal(every.truth, part.truth[counted])
    rows = {tuple(row) for row in every.logs.tolist()}
    assert {tuple(row) for row in few.logs.tolist()} <= rows
    assert torch.equal(sample(part, seed=3, pixels=10).logs, few.logs)
    assert not torch.equal(sample(part, seed=4, pixels=10).logs, few.logs)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_losses_by_hand(temperature):
    one = drawn(0, 1.5)
    counted = torch.rand(SIZE, generator=torch.Generator().manual_seed(0)) < 0.6
    part = Labelled(one.result, one.truth.masked_fill(~counted, -1), counted)
    found = loss(part, temperature)
    assert float(found[~counted].abs().max()) == 0.0
    assert float(found.sum()) == pytest.approx(nll_by_hand(part, temperature), rel=1e-4)


def test_truth_is_that_of_the_classes_that_were_asked_for():
    result = drawn(0).result
    asked = Asked(Vocabulary.parse(["a", "b", "c", "d"]), None, np.array([7, 3, 0, 12], np.uint16))
    mask = np.resize(np.array([7, 3, 0, 12, 5, IGNORE], np.uint16), SIZE)
    one = labelled(result, asked, mask)
    wanted = torch.from_numpy(np.resize(np.array([0, 1, 2, 3, -1, -1]), SIZE))
    assert torch.equal(one.truth, wanted)
    assert torch.equal(one.counted, wanted >= 0)


def test_measures_by_hand():
    many = [drawn(seed, 2.0) for seed in range(3)]
    before, after = measured(iter(many), (1.0, 2.0))
    pixels = 3 * SIZE[0] * SIZE[1]
    assert (before.gain.value, before.gain.low, before.gain.high) == (0.0, 0.0, 0.0)
    assert before.nll == pytest.approx(sum(nll_by_hand(one, 1.0) for one in many) / pixels, rel=1e-4)
    assert after.nll == pytest.approx(sum(nll_by_hand(one, 2.0) for one in many) / pixels, rel=1e-4)
    assert after.gain.value == pytest.approx(before.nll - after.nll)
    assert after.gain.low < after.gain.value < after.gain.high
    right = sum(int((one.result.segmentation == one.truth).sum()) for one in many)
    for found in (before, after):
        assert int(found.calibration.pixels.sum()) == pixels
        assert int(found.calibration.right.sum()) == right  # no label changes
    assert after.calibration.ece < before.calibration.ece


def test_a_ratio_over_images_by_plain_loops():
    top, bottom = np.array([1.0, 4.0, -2.0, 0.0]), np.array([2.0, 5.0, 3.0, 0.0])
    found = ratio(top, bottom, draws=200, seed=5)
    values = []
    for weights in np.random.default_rng(5).multinomial(4, np.full(4, 0.25), size=200):
        below = sum(weight * part for weight, part in zip(weights, bottom, strict=True))
        if below > 0:
            values.append(sum(weight * part for weight, part in zip(weights, top, strict=True)) / below)
    low, high = np.percentile(values, (2.5, 97.5))
    assert (found.value, found.low, found.high) == pytest.approx((0.3, low, high))
    assert math.isnan(ratio(np.zeros(2), np.zeros(2)).value)
    with pytest.raises(OptionError, match="0 images"):
        ratio(np.zeros(0), np.zeros(0))


def test_images_without_a_labelled_pixel_are_refused():
    one = drawn(0)
    empty = Labelled(one.result, torch.full(SIZE, -1), torch.zeros(SIZE, dtype=torch.bool))
    for given in ([], [sample(empty)]):
        with pytest.raises(DataError, match="without a labelled pixel"):
            fit(given)
    with pytest.raises(DataError, match="without a labelled pixel"):
        measured([empty], (1.0, 2.0))
    assert fit([sample(empty), sample(one)]) == fit([sample(one)])
    assert measured([empty, one], (1.0,))[0].nll == pytest.approx(measured([one], (1.0,))[0].nll)


@pytest.fixture
def on(monkeypatch, mini):
    """``on(images)``: `calibrate` of the embedded pair on made results in place of images, half of them each."""

    def start(images, out, recipe="mini", settings=None):
        half = len(images) // 2
        parts = {"fit": images[:half], "check": images[half:]}
        monkeypatch.setattr(Job, "load", lambda _: mini)
        monkeypatch.setattr(fitting, "halves", lambda *_: ([f"a{at}" for at in range(half)], [f"b{at}" for at in range(half)]))
        monkeypatch.setattr(fitting._Images, "each", lambda _, part, names: zip(names, parts[part], strict=True))
        return calibrate(Job(recipe, "embedded", split="val", settings=settings or {}), out)

    return start


def test_scores_that_say_too_much_are_mended_and_nothing_else_changes(on, tmp_path):
    found = on([drawn(seed, 2.5) for seed in range(12)], tmp_path / "mine.toml")
    assert found.real
    assert found.images == (6, 6)
    assert found.after.temperature == pytest.approx(2.5, rel=0.2)
    assert found.after.nll < found.before.nll
    assert found.after.calibration.ece < found.before.calibration.ece / 2
    text = (tmp_path / "mine.toml").read_text("utf-8")
    assert text.startswith("# masks.temperature of mini from 6 images of embedded; on 6 others NLL ")
    plain, mine = recipes.load("mini"), recipes.load(tmp_path / "mine.toml")
    assert mine.temperature == found.after.temperature
    assert mine.changed({"masks.temperature": 1.0}).digest == plain.digest


def test_what_the_recipe_has_already_is_what_it_is_measured_against(on, tmp_path):
    found = on([drawn(seed, 2.5) for seed in range(12)], tmp_path / "mine.toml", settings={"masks.temperature": 0.5})
    assert found.before.temperature == 0.5
    assert found.after.temperature == pytest.approx(2.5, rel=0.2)  # of the scores without one, not on top of the old
    again = on([drawn(seed, 2.5) for seed in range(12)], tmp_path / "again.toml", recipe=str(tmp_path / "mine.toml"))
    assert (again.before.temperature, again.after.gain) == (found.after.temperature, Interval(0.0, 0.0, 0.0))
    assert not again.real
    assert not (tmp_path / "again.toml").exists()


def test_noise_is_refused(on, tmp_path):
    """Scores that mean what they say: what a few images would choose instead is no gain on others, but for 1 in 40."""
    kept = [on([drawn(100 * trial + at) for at in range(12)], tmp_path / f"{trial}.toml").real for trial in range(20)]
    assert sum(kept) <= 2
    assert len(list(tmp_path.iterdir())) == sum(kept)


def test_the_plot_is_an_image_and_the_same_each_time():
    before, after = measured([drawn(seed, 2.0) for seed in range(2)], (1.0, 2.0))
    made = [reliability({"before": before.calibration, "after": after.calibration}, "made", "2 images") for _ in range(2)]
    assert made[0] == made[1]
    assert load_image(made[0]).size[1] > 1000
