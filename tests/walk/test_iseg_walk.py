"""iSeg's iteration against its equations in plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from nerveseg import registry, walk
from nerveseg.errors import OptionError, ShapeError
from nerveseg.transition import Heads
from nerveseg.walk import _attention

MODULE = registry.load("walks", "iseg")  # `walk.iseg` is its function


def make(count=3, grid=(4, 5), k=3, seed=0, sharp=1.0):
    generator = torch.Generator().manual_seed(seed)
    n = grid[0] * grid[1]
    queries, keys = (sharp * torch.randn(count, n, 6, generator=generator) for _ in range(2))
    G = torch.rand(n, k, generator=generator) ** 4
    return Heads(queries, keys, grid), G / G.sum(dim=1, keepdim=True)


def attention(queries, keys):
    n, d = len(queries), len(queries[0])
    A = []
    for i in range(n):
        row = [math.exp(sum(queries[i][a] * keys[j][a] for a in range(d)) / math.sqrt(d)) for j in range(n)]
        A.append([entry / sum(row) for entry in row])
    return A


def normed(column):
    column = [value - min(column) for value in column]
    return [value / sum(column) for value in column]


def by_hand(heads, G, chosen, steps, lam):
    maps = [attention(heads.queries[h].tolist(), heads.keys[h].tolist()) for h in chosen]
    n = heads.n
    A = [[sum(head[i][j] for head in maps) / len(maps) for j in range(n)] for i in range(n)]
    peak = [max(A[i][j] for i in range(n)) for j in range(n)]
    T = []
    for i in range(n):
        row = [A[i][j] / peak[j] for j in range(n)]
        row = [max(entry + lam * math.log10(math.e * entry), 0.0) for entry in row]
        T.append([entry / sum(row) for entry in row])
    columns = []
    for column in G.T.tolist():
        column = normed(column)
        for _ in range(steps):
            column = normed([sum(T[i][j] * column[j] for j in range(n)) for i in range(n)])
        columns.append([value / max(column) for value in column])
    return torch.tensor(columns).T


@pytest.mark.parametrize(("steps", "lam"), [(0, 0.1), (1, 0.0), (1, 0.1), (4, 0.015), (3, 0.2)])
@pytest.mark.parametrize("chosen", [(1, 2), (0,)])
def test_it_is_the_iteration_of_the_equations(chosen, steps, lam):
    heads, G = make()
    result = walk.iseg(heads, G, steps=steps, lam=lam, chosen=chosen)
    torch.testing.assert_close(result.probabilities, by_hand(heads, G, chosen, steps, lam), rtol=0, atol=1e-5)
    assert result.steps == steps


def test_no_heads_named_are_all_heads():
    heads, G = make()
    assert torch.equal(walk.iseg(heads, G).probabilities, walk.iseg(heads, G, chosen=(0, 1, 2)).probabilities)


@pytest.mark.parametrize(("lam", "floor"), [(0.002, 0.0039), (0.015, 0.0192), (0.1, 0.0713), (0.2, 0.1071)])
def test_entries_below_the_published_floor_vanish(lam, floor):
    """Query 0 attends to key 0 the most; query 1 has a share of that: below the root of T + λ·log₁₀(e·T) nothing is left of it."""
    reduced = [entry + lam * math.log10(math.e * entry) for entry in (0.98 * floor, 1.02 * floor)]
    assert reduced[0] < 0 < reduced[1]
    for share, left in ((0.98 * floor, False), (1.02 * floor, True)):
        A = torch.tensor([[0.5, 0.5], [0.5 * share, 1 - 0.5 * share]])
        heads = Heads(math.sqrt(2) * A.log()[None], torch.eye(2)[None], (1, 2))
        T = MODULE._reduced(heads, MODULE.Options(lam=lam, heads=(0,)))(slice(0, 2))
        assert (float(T[1, 0]) > 0) is left


def test_each_class_runs_from_zero_to_one_whatever_its_height():
    heads, G = make(k=4)
    P = walk.iseg(heads, G).probabilities
    torch.testing.assert_close(P.amin(0), torch.zeros(4))
    torch.testing.assert_close(P.amax(0), torch.ones(4))
    scaled = walk.iseg(heads, G * torch.tensor([0.1, 1.0, 0.5, 0.01])).probabilities
    torch.testing.assert_close(scaled, P, rtol=0, atol=1e-5)


def test_a_class_that_is_the_same_everywhere_becomes_nothing():
    heads, G = make()
    G = torch.cat([G, torch.zeros(20, 1), torch.full((20, 1), 0.25)], dim=1)
    P = walk.iseg(heads, G).probabilities
    assert bool((P[:, 3:] == 0).all())
    assert bool(torch.isfinite(P).all())


def test_a_row_that_the_reduction_empties_stays_in_place():
    heads, G = make(sharp=4.0)
    P = walk.iseg(heads, G, lam=10.0, chosen=(0,)).probabilities
    assert bool(torch.isfinite(P).all())


def test_large_images_go_in_blocks_that_are_made_anew(monkeypatch):
    heads, G = make(grid=(7, 9))
    whole = walk.iseg(heads, G).probabilities
    monkeypatch.setattr(_attention, "_BLOCK_CPU", 4 * 63)
    held = _attention.held
    monkeypatch.setattr(_attention, "held", lambda rows, n: held(rows, n, limit=0))
    torch.testing.assert_close(walk.iseg(heads, G).probabilities, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("chosen", [(3,), (-1,), (1, 1), (1.0,), (True,)])
def test_heads_that_are_not_there_are_refused(chosen):
    heads, G = make()
    with pytest.raises(OptionError, match=r"walk\.heads"):
        MODULE.solve(heads, G, MODULE.Options(heads=chosen))


def test_bad_input_is_refused():
    heads, G = make()
    with pytest.raises(OptionError, match=r"walk\.lam"):
        walk.iseg(heads, G, lam=-1.0)
    with pytest.raises(OptionError, match=r"walk\.steps"):
        walk.iseg(heads, G, steps=-1)
    with pytest.raises(ShapeError, match=r"\(20, k\)"):
        walk.iseg(heads, G[1:])
