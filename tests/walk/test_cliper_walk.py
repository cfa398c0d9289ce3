"""CLIPer's product of head matrices against its equations in plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from nerveseg import walk
from nerveseg.errors import OptionError, ShapeError
from nerveseg.transition import Heads
from nerveseg.walk import _attention


def make(count=3, grid=(4, 5), k=3, seed=0, sharp=2.0):
    generator = torch.Generator().manual_seed(seed)
    n = grid[0] * grid[1]
    queries, keys = (sharp * torch.randn(count, n, 6, generator=generator) for _ in range(2))
    G = torch.rand(n, k, generator=generator) ** 4
    return Heads(queries, keys, grid), G / G.sum(dim=1, keepdim=True)


def by_hand(queries, keys, thr):
    """R of one head, entry by entry."""
    n, d = len(queries), len(queries[0])
    A = []
    for i in range(n):
        row = [math.exp(sum(queries[i][a] * keys[j][a] for a in range(d)) / math.sqrt(d)) for j in range(n)]
        A.append([entry / sum(row) for entry in row])
    peak = [max(A[i][j] for i in range(n)) + 1e-5 for j in range(n)]
    R = []
    for i in range(n):
        row = [A[i][j] / peak[j] for j in range(n)]
        row = [entry if entry >= thr else 0.0 for entry in row]
        R.append([entry / (sum(row) + 1e-5) for entry in row])
    return R


def times(one, other):
    return [[sum(row[m] * other[m][c] for m in range(len(other))) for c in range(len(other[0]))] for row in one]


@pytest.mark.parametrize("thr", [0.0, 0.1, 0.35])
def test_it_is_the_ordered_product_of_the_equations(thr):
    heads, G = make()
    product = [[float(i == j) for j in range(20)] for i in range(20)]
    for h in range(3):
        product = times(product, by_hand(heads.queries[h].tolist(), heads.keys[h].tolist(), thr))
    result = walk.cliper(heads, G, attention_thr=thr)
    torch.testing.assert_close(result.probabilities, torch.tensor(times(product, G.tolist())), rtol=0, atol=1e-5)
    assert result.steps == 3


def test_the_order_of_heads_counts():
    heads, G = make()
    turned = Heads(heads.queries.flip(0), heads.keys.flip(0), heads.grid)
    assert float((walk.cliper(heads, G).probabilities - walk.cliper(turned, G).probabilities).abs().max()) > 1e-3


def test_values_stay_in_range_and_row_sums_near_one():
    heads, G = make(count=10)
    P = walk.cliper(heads, G).probabilities
    assert float(P.min()) >= 0
    assert bool((G.amax(0) >= P).all())
    torch.testing.assert_close(P.sum(1), torch.ones(20), rtol=0, atol=2e-3)
    assert bool((P.sum(1) <= 1).all())


def test_a_token_without_attention_left_keeps_nothing():
    """One query that outdoes another at every key: the other's row is empty past the threshold."""
    A = torch.tensor([[0.98, 0.01, 0.01], [0.34, 0.33, 0.33], [0.01, 0.01, 0.98]])
    heads = Heads(math.sqrt(3) * A.log()[None], torch.eye(3)[None], (1, 3))
    P = walk.cliper(heads, torch.full((3, 2), 0.5), attention_thr=1.0 / 3 + 0.02)
    assert P.probabilities[1].sum() > 0.99  # it has the largest attention to the middle key
    A[1] = torch.tensor([0.4, 0.2, 0.4])
    A[0] = torch.tensor([0.7, 0.25, 0.05])
    A[2] = torch.tensor([0.05, 0.25, 0.7])
    heads = Heads(math.sqrt(3) * A.log()[None], torch.eye(3)[None], (1, 3))
    P = walk.cliper(heads, torch.full((3, 2), 0.5), attention_thr=0.9).probabilities
    assert P[1].tolist() == [0.0, 0.0]
    assert bool(torch.isfinite(P).all())


def test_large_images_go_in_blocks_that_are_made_anew(monkeypatch):
    heads, G = make(grid=(7, 9))
    whole = walk.cliper(heads, G).probabilities
    monkeypatch.setattr(_attention, "_BLOCK_CPU", 4 * 63)
    held = _attention.held
    monkeypatch.setattr(_attention, "held", lambda rows, n: held(rows, n, limit=0))
    torch.testing.assert_close(walk.cliper(heads, G).probabilities, whole, rtol=0, atol=1e-6)


def test_bad_input_is_refused():
    heads, G = make()
    with pytest.raises(OptionError, match=r"walk\.attention_thr"):
        walk.cliper(heads, G, attention_thr=1.5)
    with pytest.raises(ShapeError, match=r"\(20, k\)"):
        walk.cliper(heads, G[1:])
