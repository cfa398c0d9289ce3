from __future__ import annotations

import dataclasses

import pytest
import torch

from nerveseg import registry
from nerveseg.masks import decide
from nerveseg.masks.rules.base import class_stats

RULES = registry.names("rules")
SIZE = (11, 13)


def rows(k, h=5, w=4, seed=0):
    return (torch.randn(k, h, w, generator=torch.Generator().manual_seed(seed)) * 2).softmax(0)


@pytest.fixture(params=RULES)
def rule(request):
    return request.param


def test_the_registry_lists_the_rules():
    assert {"argmax", "class_max", "floor", "z_score"} <= set(RULES)


def test_every_knob_is_declared(rule):
    options = registry.load("rules", rule).Options
    assert options.__dataclass_params__.frozen
    registry.check(options())
    for field in dataclasses.fields(options):
        assert field.metadata["doc"]
        assert field.metadata["source"]


def test_permuting_the_labels_permutes_the_ids(rule):
    P, G = rows(6), rows(6, seed=1)
    order = torch.tensor([3, 1, 4, 0, 2])
    both = torch.cat([order, torch.tensor([5])])
    for background in (False, True):
        ids = decide(P, G, SIZE, rule=rule, background=background)
        moved = decide(P[both], G[both], SIZE, rule=rule, background=background)
        assert torch.equal(both[moved], ids)


def test_in_parts_equals_whole(rule):
    P, G = rows(7), rows(7, seed=1)
    for background in (False, True):
        whole = decide(P, G, SIZE, rule=rule, background=background)
        parts = decide(P, G, SIZE, rule=rule, background=background, budget=3 * 4 * SIZE[0] * SIZE[1])
        assert torch.equal(whole, parts)
        assert whole.dtype == torch.int64
        assert whole.shape == SIZE


def test_ids_stay_in_range(rule):
    P, G = rows(4), rows(4, seed=1)
    assert int(decide(P, G, SIZE, rule=rule).max()) <= 2
    assert int(decide(P, G, SIZE, rule=rule, background=True).max()) <= 3
    sure = torch.cat([torch.zeros(3, 5, 4), torch.ones(1, 5, 4)])
    assert bool((decide(sure, sure, SIZE, rule=rule) < 3).all())


def test_one_label_beside_the_background(rule):
    P = rows(2)
    assert int(decide(P, P, SIZE, rule=rule).max()) == 0
    assert set(decide(P, P, SIZE, rule=rule, background=True).unique().tolist()) <= {0, 1}


@pytest.mark.parametrize("value", [0.0, 1e-30, 0.2, 1.0])
def test_even_and_empty_maps_are_safe(rule, value):
    P = rows(4)
    P[1] = value
    stage = registry.load("rules", rule)
    maps = torch.nn.functional.interpolate(P[None], size=SIZE, mode="bilinear")[0]
    assert bool(torch.isfinite(stage.transform(maps, class_stats(P, P), stage.Options())).all())
    all_even = torch.full((4, 5, 4), value)
    for background in (False, True):
        decide(P, P, SIZE, rule=rule, background=background)
        decide(all_even, all_even, SIZE, rule=rule, background=background)


def test_a_label_without_probability_is_never_shown(rule):
    P = rows(4)
    P[1] = 0.0
    G = P.clone()
    assert 1 not in decide(P, G, SIZE, rule=rule).unique().tolist()


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (2, 2)])
def test_extreme_sizes(rule, size):
    P = rows(4)
    assert decide(P, P, size, rule=rule, background=True).shape == size


def test_half_precision_is_taken(rule):
    P = rows(4).half()
    assert decide(P, P, SIZE, rule=rule).shape == SIZE


def test_each_class_is_treated_by_itself(rule):
    stage = registry.load("rules", rule)
    maps = rows(5, 6, 6)
    stats = class_stats(maps, maps)
    whole = stage.transform(maps, stats, stage.Options())
    for index in range(5):
        alone = stage.transform(maps[index : index + 1], stats.part(index, 1), stage.Options())
        torch.testing.assert_close(alone[0], whole[index])


def test_input_is_not_changed(rule):
    P = rows(4)
    before = P.clone()
    decide(P, P, (5, 4), rule=rule, background=True)
    assert torch.equal(P, before)
