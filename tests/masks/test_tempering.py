"""A temperature on ln p, by hand: one pixel, one class at a time."""

from __future__ import annotations

import math

import pytest
import torch

from nerveseg.errors import OptionError
from nerveseg.masks import temperature as tempering

SIZE = (4, 5)
TEMPERATURES = (0.05, 0.3, 1.0, 2.5, 20.0)


def shares(k=7, seed=0, sharp=4.0):
    return (torch.randn(k, *SIZE, generator=torch.Generator().manual_seed(seed)) * sharp).softmax(0)


def parted(p, step):
    return lambda: ((at, p[at : at + step]) for at in range(0, len(p), step))


def by_hand(p, temperature):
    out = torch.zeros_like(p)
    for y in range(p.shape[1]):
        for x in range(p.shape[2]):
            powers = [math.exp(math.log(float(value)) / temperature) if value > 0 else 0.0 for value in p[:, y, x]]
            for c, power in enumerate(powers):
                out[c, y, x] = power / sum(powers)
    return out


def whole(blocks):
    return torch.cat([block for _, block in blocks])


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("step", "budget"), [(1, 1 << 24), (3, 1 << 24), (7, 1 << 24), (7, 1), (7, 4 * 20 * 2)])
def test_powers_divided_by_their_sum_in_blocks_of_any_size(temperature, step, budget):
    p = shares()
    found = list(tempering.tempered(parted(p, step), SIZE, temperature, budget=budget))
    assert [first for first, _ in found] == [sum(len(block) for _, block in found[:at]) for at in range(len(found))]
    assert all(len(block) * 4 * 20 <= max(budget, 4 * 20) for _, block in found)
    torch.testing.assert_close(whole(found), by_hand(p, temperature), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(whole(found).sum(0), torch.ones(SIZE))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_one_class_by_the_sums(temperature):
    p = shares()
    ids = torch.randint(0, 7, SIZE, generator=torch.Generator().manual_seed(1))
    top, total = tempering.sums(parted(p, 2)(), SIZE, temperature)
    assert torch.equal(top, p.amax(0))
    own = tempering.of(p.gather(0, ids[None])[0], top, total, temperature)
    torch.testing.assert_close(own, by_hand(p, temperature).gather(0, ids[None])[0], atol=1e-5, rtol=1e-4)


def test_the_order_stays_and_a_larger_temperature_is_less_sure():
    p = shares()
    order, before = p.argsort(0), torch.full(SIZE, math.inf)
    for temperature in (0.3, 0.7, 1.0, 2.0, 6.0):
        found = whole(tempering.tempered(parted(p, 3), SIZE, temperature))
        assert torch.equal(found.argsort(0), order)
        assert bool((found.amax(0) < before).all())
        before = found.amax(0)


def test_small_shares_of_many_classes_do_not_vanish():
    p = torch.full((3000, 1, 1), 1 / 3000)
    p[7] *= 1.01
    p /= p.sum(0)
    found = whole(tempering.tempered(parted(p, 500), (1, 1), 0.05))
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.sum(0), torch.ones(1, 1))
    assert float(found[7, 0, 0] / found[8, 0, 0]) == pytest.approx(1.01**20, rel=1e-3)


def test_no_share_stays_none_and_values_below_0_are_none():
    p = torch.tensor([0.0, 0.25, 0.75, -1e-9]).view(4, 1, 1)
    found = whole(tempering.tempered(parted(p, 2), (1, 1), 0.5)).flatten()
    torch.testing.assert_close(found, torch.tensor([0.0, 0.1, 0.9, 0.0]))
    assert float(p[3]) < 0  # what is given is not written into
    nothing = whole(tempering.tempered(parted(torch.zeros(2, 1, 1), 2), (1, 1), 2.0))
    assert torch.isfinite(nothing).all()
    none = tempering.of(torch.zeros(1, 1), *tempering.sums([], (1, 1), 2.0), 2.0)  # a result without labels
    assert float(none) == 0.0


@pytest.mark.parametrize("wrong", [0, -1.0, 0.01, 100.0, math.nan, math.inf, "1", None, True])
def test_what_is_no_temperature_is_refused(wrong):
    with pytest.raises(OptionError, match=r"from 0\.05 to 20"):
        tempering.check(wrong)


def test_a_whole_number_is_one():
    assert tempering.check(2) == 2.0
    assert isinstance(tempering.check(2), float)
