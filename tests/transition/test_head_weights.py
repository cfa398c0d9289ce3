"""Head weights (12-14) against loops, and the other ways to weigh heads."""

from __future__ import annotations

import math

import pytest
import torch

from nerveseg.errors import OptionError, ShapeError
from nerveseg.transition import Heads, build
from nerveseg.transition.sample import sampled


def make(grid=(5, 6), count=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n = grid[0] * grid[1]
    gains = torch.tensor([0.5, 1.0, 2.0, 4.0])[:count, None, None]
    heads = Heads(gains * torch.randn(count, n, 8, generator=generator), torch.randn(count, n, 8, generator=generator), grid)
    G = torch.rand(n, 3, generator=generator) ** 3
    return heads, G / G.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("c", [0.0, 1.0, 30.0])
def test_entropy_weights_equal_loops(c):
    heads, G = make()
    means = []
    for h in range(4):
        total = 0.0
        for i in range(heads.n):
            logits = [float(heads.queries[h, i] @ heads.keys[h, j]) / math.sqrt(8) for j in range(heads.n)]
            z = sum(math.exp(x) for x in logits)
            y = [sum(math.exp(logits[j]) / z * float(G[j, c_]) for j in range(heads.n)) for c_ in range(3)]
            total -= sum(p * math.log(p) for p in y)
        means.append(total / heads.n)
    e = [math.exp(-c * m) for m in means]
    S = build(heads, G, kernel="softmax", peakedness=c, entropy_share=1.0)
    torch.testing.assert_close(S.entropies, torch.tensor(means), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(S.weights, torch.tensor([x / sum(e) for x in e]), rtol=1e-3, atol=1e-6)


def test_infinite_peakedness_is_the_best_head():
    heads, G = make()
    S, best = build(heads, G, peakedness=float("inf")), build(heads, G, weights="best")
    assert torch.equal(S.weights, best.weights)
    assert int(S.weights.argmax()) == int(S.entropies.argmin())
    assert float(S.weights.sum()) == 1
    torch.testing.assert_close(S.weights, build(heads, G, peakedness=1e6).weights)


def test_mean_and_given_weights():
    heads, G = make()
    assert build(heads, G, weights="mean").weights.tolist() == [0.25] * 4
    given = build(heads, G, weights=torch.tensor([2.0, 0.0, 1.0, 1.0]))
    assert given.weights.tolist() == [0.5, 0.0, 0.25, 0.25]
    assert given.entropies is None
    parts = [build(heads, G, weights=w).to_dense() for w in torch.eye(4)]
    torch.testing.assert_close(given.to_dense(), 0.5 * parts[0] + 0.25 * parts[2] + 0.25 * parts[3], rtol=1e-5, atol=1e-6)


def test_weights_that_cannot_weigh_are_refused():
    heads, G = make()
    with pytest.raises(ShapeError, match=r"\(4,\)"):
        build(heads, G, weights=torch.ones(3))
    for bad in ([0.0] * 4, [-1.0, 1, 1, 1], [float("nan"), 1, 1, 1]):
        with pytest.raises(OptionError, match="head weights"):
            build(heads, G, weights=torch.tensor(bad))
    with pytest.raises(OptionError, match="weights"):
        build(heads, G, weights="loudest")


@pytest.mark.parametrize("kernel", ["softmax", "elu"])
def test_a_sixteenth_of_the_rows_is_enough(kernel):
    heads, G = make((64, 64))
    some, all_rows = build(heads, G, kernel=kernel, beta=0.0), build(heads, G, kernel=kernel, beta=0.0, entropy_share=0.5)
    torch.testing.assert_close(some.weights, all_rows.weights, rtol=0, atol=0.02)


def test_weights_do_not_depend_on_beta():
    heads, G = make()
    assert torch.equal(build(heads, G, beta=0.0).weights, build(heads, G, beta=1.0).weights)


@pytest.mark.parametrize(("grid", "count"), [((64, 64), 256), ((1, 100), 10), ((7, 9), 5), ((3, 3), 100), ((1, 1), 1)])
def test_sampled_rows_are_distinct_and_visit_every_column(grid, count):
    index = sampled(grid, count, torch.device("cpu"))
    n = grid[0] * grid[1]
    assert index.unique().numel() == index.numel()
    assert 0 <= int(index.min()) <= int(index.max()) < n
    if count >= n:
        assert index.numel() == n
    elif index.numel() >= grid[1]:
        assert (index % grid[1]).unique().numel() == grid[1]
