from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nerveseg import registry
from nerveseg.masks import decide
from nerveseg.masks.patches import Patches
from nerveseg.masks.rules import class_max, floor
from nerveseg.masks.rules.base import Line, MapExtremes, class_stats, line_of
from nerveseg.masks.upsample import shares

MODULE = sys.modules["nerveseg.masks.decide"]
PATCHES = sys.modules["nerveseg.masks.patches"]
LINES = [name for name in registry.names("rules") if registry.load("rules", name).line is not None]
CHOICES = [
    ("argmax", None),
    ("class_max", None),
    ("class_max", class_max.Options(stretch=True, score_power=0.0)),
    ("class_max", class_max.Options(divide=False, rest=False, floor=0.3)),
    ("class_max", class_max.Options(score_floor=0.4)),
    ("floor", floor.Options(floor=0.3, area=0.05)),
]


def rows(k, h=9, w=11, seed=0, sharp=3.0):
    return (torch.randn(k, h, w, generator=torch.Generator().manual_seed(seed)) * sharp).softmax(0)


def both(monkeypatch, *args, **knobs):
    monkeypatch.setattr(MODULE, "_MANY", 1 << 60)
    whole = decide(*args, **knobs)
    monkeypatch.setattr(MODULE, "_MANY", 0)
    monkeypatch.setattr(PATCHES, "_FEW", 1.0)
    monkeypatch.setattr(MODULE, "_blocks", lambda *_, **__: pytest.fail("whole maps were upsampled"))
    parts = decide(*args, **knobs)
    monkeypatch.undo()
    return whole, parts


def test_the_rules_that_are_lines():
    assert set(LINES) == {"argmax", "class_max", "floor"}


@pytest.mark.parametrize("name", LINES)
def test_a_line_says_what_the_rule_makes_of_maps(name):
    stage, maps = registry.load("rules", name), rows(6)
    stats = class_stats(maps, rows(6, seed=1), background=True)
    line = line_of(stage, stats, MapExtremes(maps), stage.Options())
    torch.testing.assert_close(line(maps), stage.transform(maps, stats, stage.Options()))
    assert float(line.gain.min()) >= 0


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("size", [(40, 57), (9, 11), (5, 4), (1, 1), (3, 90)])
@pytest.mark.parametrize(("rule", "options"), CHOICES)
def test_patches_decide_as_whole_maps_do(monkeypatch, rule, options, size, background):
    for sharp in (0.2, 3.0):
        P, G = rows(13, seed=3, sharp=sharp), rows(13, seed=4, sharp=sharp)
        whole, parts = both(monkeypatch, P, G, size, rule=rule, options=options, background=background)
        assert torch.equal(whole, parts)


def test_budget_changes_nothing(monkeypatch):
    monkeypatch.setattr(MODULE, "_MANY", 0)
    monkeypatch.setattr(PATCHES, "_FEW", 1.0)
    P = rows(30, sharp=0.3)
    assert torch.equal(decide(P, P, (40, 57), budget=1), decide(P, P, (40, 57)))


def test_ties_go_to_the_lowest_id(monkeypatch):
    whole, parts = both(monkeypatch, torch.full((5, 6, 6), 0.2), torch.full((5, 6, 6), 0.2), (31, 17))
    assert int(parts.max()) == int(whole.max()) == 0


def test_maps_of_noise_are_decided_whole(monkeypatch):
    noise = rows(20, 16, 16, sharp=1.0)
    monkeypatch.setattr(MODULE, "_MANY", 0)
    monkeypatch.setattr(Patches, "winners", lambda *_, **__: pytest.fail("patch by patch"))
    assert decide(noise, noise, (64, 64)).shape == (64, 64)


def test_a_token_without_probability_has_no_bounds(monkeypatch):
    P = rows(4)
    P[:3, 2, 3] = 0.0
    monkeypatch.setattr(MODULE, "_MANY", 0)
    assert not Patches.fit(P[:3], divide=True)
    assert Patches.fit(P[:3], divide=False)
    assert decide(P, P, (30, 30)).shape == (30, 30)


@settings(max_examples=40, deadline=None)
@given(
    k=st.integers(1, 9),
    grid=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    sharp=st.floats(0.0, 8.0),
    divide=st.booleans(),
    seed=st.integers(0, 999),
)
def test_extremes_are_those_of_the_pixels(k, grid, size, sharp, divide, seed):
    maps = rows(k, *grid, seed=seed, sharp=sharp) * torch.rand(k, 1, 1, generator=torch.Generator().manual_seed(seed)).add(0.1)
    seen = torch.cat([block for _, block in shares(maps, size, divide=divide)])
    patches = Patches(maps, size, divide=divide)
    torch.testing.assert_close(patches.top(), seen.amax((1, 2)))
    torch.testing.assert_close(patches.low(), seen.amin((1, 2)))
    plain = Line(torch.zeros(k), torch.ones(k), torch.zeros(k))
    ids, best = patches.winners(plain, budget=1 << 20)
    torch.testing.assert_close(best, seen.amax(0))
    torch.testing.assert_close(seen.gather(0, ids[None])[0], best)


def test_few_labels_are_looked_at_on_a_patch(monkeypatch):
    looked = []
    real = Patches._seen

    def counted(self, classes, *rest):
        looked.append(len(classes))
        return real(self, classes, *rest)

    monkeypatch.setattr(MODULE, "_MANY", 0)
    monkeypatch.setattr(Patches, "_seen", counted)
    smooth = torch.nn.functional.interpolate(
        torch.randn(1, 200, 4, 4, generator=torch.Generator().manual_seed(0)), size=(32, 32), mode="bilinear"
    )
    P = (4 * smooth[0]).softmax(0)
    decide(P, P, (128, 128))
    assert sum(looked) < 0.2 * 200 * 64  # 64 patches
