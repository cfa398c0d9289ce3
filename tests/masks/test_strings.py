from __future__ import annotations

import pytest
import torch

from nerveseg.labels.base import Logits, probabilities
from nerveseg.masks.decide import decide
from nerveseg.masks.rules import floor
from nerveseg.masks.upsample import resample
from nerveseg.masks.upsampled_logits import UpsampledLogits, early

SIZE = (13, 17)
GROUPS = (0, 0, 1, 2, 2, 2)


def logits(join="max", seed=0):
    maps = torch.randn(9, 5, 6, generator=torch.Generator().manual_seed(seed))
    return Logits(maps, GROUPS, 3.0, join)


def by_hand(given):
    """Every string upsampled, one softmax at every pixel, then the join."""
    x = resample(given.maps, SIZE).flatten(1).T
    return probabilities(x, given.groups, scale=given.scale, join=given.join).T.reshape(3, *SIZE)


def whole(blocks):
    return torch.cat([block for _, block in blocks])


@pytest.mark.parametrize("join", ["max", "sum"])
@pytest.mark.parametrize("budget", [1, 4 * 13 * 17 * 2, 1 << 26])
def test_upsampling_comes_before_the_softmax_in_blocks_of_any_size(join, budget):
    given = logits(join)
    torch.testing.assert_close(whole(UpsampledLogits(given).blocks(SIZE, budget=budget)), by_hand(given))


def test_shares_sum_to_1_and_keep_the_proportions():
    given = logits()
    p = by_hand(given)
    torch.testing.assert_close(whole(UpsampledLogits(given).shares(SIZE)), p / p.sum(0))


def test_the_rest_is_what_the_classes_leave():
    maps = UpsampledLogits(logits(), "rest")
    found = whole(maps.blocks(SIZE))
    assert maps.count == len(found) == 4
    torch.testing.assert_close(found.sum(0), torch.ones(SIZE))


@pytest.mark.parametrize("budget", [1, 1 << 26])
def test_the_best_background_competes_string_by_string(budget):
    given = logits()
    x = (3.0 * resample(given.maps, SIZE)).softmax(0)
    found = whole(UpsampledLogits(given, "best").blocks(SIZE, budget=budget))
    torch.testing.assert_close(found[3], x[6:].amax(0))


def test_a_background_without_strings_is_the_rest():
    given = Logits(logits().maps[:6], GROUPS, 3.0, "max")
    torch.testing.assert_close(whole(UpsampledLogits(given, "best").blocks(SIZE)), whole(UpsampledLogits(given, "rest").blocks(SIZE)))


def test_large_scales_do_not_overflow():
    given = Logits(logits().maps * 1e3, GROUPS, 100.0, "max")
    assert torch.isfinite(whole(UpsampledLogits(given, "rest").blocks(SIZE, budget=1))).all()


def test_a_floor_sees_probabilities_as_the_softmax_leaves_them():
    given = logits()
    P = torch.full((4, 2, 2), 0.25)
    ids = decide(P, P, SIZE, background=True, rule="floor", options=floor.Options(floor=0.5), strings=UpsampledLogits(given, "best"))
    found = whole(UpsampledLogits(given, "best").blocks(SIZE))
    wanted = torch.where(found.amax(0) < 0.5, torch.tensor(3), found.argmax(0))
    assert torch.equal(ids, wanted)


def test_early_joins_strings_before_anything_is_upsampled():
    maps = torch.tensor([[[0.0, 3.0]], [[2.0, 0.0]], [[1.0, 1.0]], [[0.5, 0.0]], [[0.0, 0.25]]])
    logits = Logits(maps, (0, 0, 1), 1.0, "max", early=True)
    found = early(logits)
    assert torch.equal(found.maps, torch.tensor([[[2.0, 3.0]], [[1.0, 1.0]], [[0.5, 0.25]]]))
    assert found.groups == (0, 1)
    assert early(found) is found
    assert len(early(Logits(maps[:3], (0, 0, 1), 1.0, "max", early=True)).maps) == 2
