"""What every walk on heads has to keep, whatever file it comes from."""

from __future__ import annotations

import json

import pytest
import torch

from nerveseg import registry, walk
from nerveseg.errors import ShapeError
from nerveseg.transition import Heads

WALKS = tuple(name for name in registry.names("walks") if registry.load("walks", name).needs == "heads")


def make(grid=(6, 7), *, k=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n = grid[0] * grid[1]
    queries, keys = (torch.randn(3, n, 8, generator=generator) for _ in range(2))
    G = torch.rand(n, k, generator=generator) ** 4
    return Heads(queries, keys, grid), G / G.sum(dim=1, keepdim=True)


@pytest.fixture(params=WALKS)
def name(request):
    return request.param


@pytest.fixture
def go(name):
    module = registry.load("walks", name)
    return lambda heads, G: module.solve(heads, G, module.Options())


def test_the_rivals_are_there():
    assert {"cliper", "iseg"} <= set(WALKS)


def test_a_walk_declares_what_it_is(name, go):
    module = registry.load("walks", name)
    assert module.linear in (True, False)
    registry.check(module.Options())
    assert callable(getattr(walk, name)), "the friendly function bears the file's name"
    for field in registry.knobs(module.Options):
        assert field.metadata["doc"]
        assert field.metadata["source"]


def test_no_bound_is_claimed(go):
    result = go(*make())
    assert result.bound == float("inf")
    assert result.outcome is walk.Outcome.REFINED
    assert result.outcome.reached
    assert result.outcome.advice


def test_columns_are_finite_between_zero_and_one(go):
    heads, G = make()
    P = go(heads, G).probabilities
    assert P.shape == G.shape
    assert P.dtype == torch.float32
    assert bool(torch.isfinite(P).all())
    assert float(P.min()) >= 0
    assert float(P.max()) <= 1


def test_columns_permute(go):
    heads, G = make()
    order = torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(go(heads, G[:, order].contiguous()).probabilities, go(heads, G).probabilities[:, order], rtol=0, atol=1e-5)


def test_columns_do_not_know_of_each_other(go):
    heads, G = make()
    P = go(heads, G).probabilities
    for column in range(5):
        alone = go(heads, torch.stack([G[:, column], 1 - G[:, column]], dim=1)).probabilities
        torch.testing.assert_close(alone[:, 0], P[:, column], rtol=0, atol=1e-5)


def test_it_is_linear_where_it_says_so(name, go):
    heads, G = make()
    other = G.flip(1)
    mixed = go(heads, 0.25 * G + 0.75 * other).probabilities
    parts = 0.25 * go(heads, G).probabilities + 0.75 * go(heads, other).probabilities
    assert torch.allclose(mixed, parts, rtol=0, atol=1e-5) is registry.load("walks", name).linear


def test_half_precision_is_computed_in_float32(go):
    heads, G = make()
    half = Heads(heads.queries.half(), heads.keys.half(), heads.grid)
    whole = Heads(half.queries.float(), half.keys.float(), heads.grid)
    assert torch.equal(go(half, G.half()).probabilities, go(whole, G.half().float()).probabilities)


def test_what_comes_in_is_left_as_it_was(go):
    heads, G = make()
    before = G.clone(), heads.queries.clone(), heads.keys.clone()
    first, second = (go(heads, G).probabilities for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(G, before[0])
    assert torch.equal(heads.queries, before[1])
    assert torch.equal(heads.keys, before[2])


def test_one_token(go):
    heads, _ = make((1, 1))
    assert go(heads, torch.tensor([[0.25, 0.75]])).probabilities.shape == (1, 2)


def test_another_grids_labels_are_refused(go):
    heads, G = make()
    with pytest.raises(ShapeError, match=r"\(42, k\)"):
        go(heads, G[:-1])


@pytest.mark.parametrize("background", [None, "auto"])
def test_a_recipe_walks_on_heads_from_image_to_file(name, background, mini, image, tmp_path):
    encoding = mini.encode(image)
    result = mini.decode(encoding, ["cat", "grass", "sky"], background=background, settings={"walk.name": name})
    assert result.walk.outcome == "refined"
    assert result.walk.bound == float("inf")
    assert result.walk.head_weights == ()
    assert int(result.segmentation.max()) < len(result.labels)
    torch.testing.assert_close(result.segmentation_scores.sum(0), torch.ones(image.size))
    for path in result.save(tmp_path / "a.png"):
        if path.suffix == ".json":
            json.loads(path.read_text("utf-8"), parse_constant=pytest.fail)
