"""Every label source, calibration and graph in the registry keeps its contract."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from nerveseg import registry
from nerveseg.labels import base

LABELS, CALIBRATIONS, GRAPHS = (registry.names(kind) for kind in ("labels", "calibrations", "graphs"))

ALL = [("labels", n) for n in LABELS] + [("calibrations", n) for n in CALIBRATIONS] + [("graphs", n) for n in GRAPHS]


@pytest.fixture(scope="module")
def networks(clip, diffusion, groupvit, dino, dinov2, taesd):
    return {"clip": clip, "diffusion": diffusion, "groupvit": groupvit, "dino": dino, "dinov2": dinov2, "taesd": taesd}


@pytest.fixture(autouse=True)
def _beside_saved_files(saved_folder, monkeypatch):
    """The file of the shared image is where sources that read one look."""
    monkeypatch.chdir(saved_folder)


def small(module, **more):
    names = {field.name for field in registry.knobs(module.Options)}
    return registry.options(module.Options, {name: value for name, value in more.items() if name in names})


def encoded(module, image, networks, **more):
    options = small(module, short_side=64, size=64, **more)
    return module.encode(module.look(image, networks, options), networks, options), options


def words(module, networks, strings, groups, others=()):
    """As the segmenter tells them: with vectors of the backbone that the source embeds by."""
    vectors = networks[module.embeds].text([*strings, *others]) if module.embeds else torch.zeros(len(strings) + len(others), 0)
    return base.Words(tuple(strings), tuple(groups), tuple(others), vectors[: len(strings)], vectors[len(strings) :])


FOUR = ("cat", "dog", "grass", "sky")


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_options_are_frozen_and_their_defaults_pass_their_own_checks(kind, name):
    module = registry.load(kind, name)
    options = module.Options()
    registry.check(options, name)
    assert all(field.metadata["doc"] for field in registry.knobs(module.Options))
    for field in registry.knobs(module.Options)[:1]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(options, field.name, field.default)


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("window", [0, 48])
def test_scores_are_non_negative_finite_and_on_their_grid(name, window, image, networks):
    module = registry.load("labels", name)
    features, options = encoded(module, image, networks, window=window, stride=32)
    assert isinstance(features.bytes, int)
    scores = module.score(features, words(module, networks, FOUR[:3], (0, 1, 1), FOUR[3:]), networks, options)
    assert scores.values.shape == (scores.grid[0] * scores.grid[1], 2)
    assert scores.values.dtype == torch.float32
    assert torch.isfinite(scores.values).all()
    assert scores.values.min() >= 0
    G = scores.to_G((16, 16))
    torch.testing.assert_close(G.sum(1), torch.ones(256))
    if scores.logits is not None:
        assert scores.logits.maps.shape[0] == 4
        assert scores.logits.groups == (0, 1, 1)


@pytest.mark.parametrize("name", LABELS)
def test_permuting_classes_permutes_scores(name, image, networks):
    module = registry.load("labels", name)
    features, options = encoded(module, image, networks)
    straight = module.score(features, words(module, networks, FOUR, range(4)), networks, options).values
    order = [2, 0, 3, 1]
    permuted = module.score(features, words(module, networks, [FOUR[i] for i in order], range(4)), networks, options).values
    torch.testing.assert_close(permuted, straight[:, order], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", LABELS)
def test_scoring_is_the_same_twice_whatever_is_asked_between(name, image, networks):
    module = registry.load("labels", name)
    features, options = encoded(module, image, networks)
    state = torch.get_rng_state()
    first = module.score(features, words(module, networks, FOUR, range(4)), networks, options).values
    module.score(features, words(module, networks, FOUR[:1], (0,), FOUR[1:]), networks, options)
    assert torch.equal(module.score(features, words(module, networks, FOUR, range(4)), networks, options).values, first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", LABELS)
def test_joining_by_sum_is_never_below_joining_by_the_best_string(name, image, networks):
    module = registry.load("labels", name)
    found = {}
    for join in ("max", "sum"):
        features, options = encoded(module, image, networks, join=join, attention_thr=0.0)
        found[join] = module.score(features, words(module, networks, FOUR, (0, 0, 1, 1)), networks, options).values
    assert (found["sum"] >= found["max"] - 1e-6).all()


@pytest.mark.parametrize("name", LABELS)
def test_a_stream_of_views_and_a_list_of_them_are_the_same(name, image, networks):
    module = registry.load("labels", name)
    options = small(module, short_side=64, size=64, window=48, stride=32)
    told = words(module, networks, FOUR, range(4))
    lazy = module.encode(module.look(image, networks, options), networks, options)
    listed = module.encode(list(module.look(image, networks, options)), networks, options)
    assert torch.equal(module.score(lazy, told, networks, options).values, module.score(listed, told, networks, options).values)


@pytest.mark.parametrize("name", CALIBRATIONS)
@pytest.mark.parametrize("rest", [True, False])
def test_calibrated_rows_sum_to_1_and_follow_permuted_classes(name, rest):
    module = registry.load("calibrations", name)
    G = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)).softmax(1)
    before = G.clone()
    found = module.calibrate(G, module.Options(), rest=rest)
    assert found.min() >= 0
    torch.testing.assert_close(found.sum(1), torch.ones(30))
    order = [3, 1, 0, 2, 4]
    torch.testing.assert_close(module.calibrate(G[:, order], module.Options(), rest=rest), found[:, order])
    assert torch.equal(G, before)


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_give_finite_heads_the_same_twice_and_leave_the_random_state(name, image, networks):
    module = registry.load("graphs", name)
    options = small(module, size=64)
    state = torch.get_rng_state()
    one, two = (module.heads(image, networks, options) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.queries, two.queries)
    assert one.queries.shape == one.keys.shape
    assert one.grid[0] * one.grid[1] == one.queries.shape[1]
    assert torch.isfinite(one.queries).all()
