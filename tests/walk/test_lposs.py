"""LPOSS's propagation against its equations written as loops."""

from __future__ import annotations

import math
import sys

import pytest
import torch

from nerveseg import walk
from nerveseg.errors import OptionError, ShapeError
from nerveseg.transition import Heads
from nerveseg.walk import lposs as friendly
from nerveseg.walk.lposs import Options, affinity, centres, conjugate, propagate, solve


def features(n=30, d=5, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def by_hand(f, places, k, power, sigma):
    """Ŵ, one pair at a time, in float64."""
    f = [row / row.norm() for row in f.double()]
    n = len(f)
    S = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n):
        cosines = [float(f[i] @ f[j]) for j in range(n)]
        nearest = sorted(range(n), key=lambda j: -cosines[j])[:k]
        for j in nearest:
            distance = math.hypot(*(float(a - b) for a, b in zip(places[i], places[j], strict=True)))
            S[i, j] = max(cosines[j], 0.0) ** power * math.exp(-sigma * distance)
    W = torch.zeros_like(S)
    for i in range(n):
        for j in range(n):
            if i != j:
                W[i, j] = S[i, j] + S[j, i]
    D = [float(row.sum()) or 1.0 for row in W]
    return torch.tensor([[float(W[i, j]) / math.sqrt(D[i] * D[j]) for j in range(n)] for i in range(n)])


@pytest.mark.parametrize(("k", "power", "sigma"), [(8, 3.0, 0.01), (400, 3.0, 0.01), (1, 3.0, 0.01), (5, 1.0, 0.0), (12, 2.0, 0.3)])
def test_the_graph_is_that_of_the_equations(k, power, sigma):
    f, places = features(), centres((5, 6), 16.0)
    found = affinity(f, places, neighbours=k, power=power, sigma=sigma)
    dense = found.matrix()
    torch.testing.assert_close(dense, by_hand(f, places, k, power, sigma).float(), atol=1e-6, rtol=1e-4)
    assert torch.equal(dense, dense.T)
    assert float(torch.linalg.eigvalsh(dense.double()).abs().max()) <= 1 + 1e-6


def test_sparse_and_dense_multiply_alike(monkeypatch):
    graph = affinity(features(), centres((5, 6), 16.0), neighbours=7)
    Y = features(30, 4, seed=1)
    dense = propagate(graph, Y)[0]
    monkeypatch.setattr(sys.modules["nerveseg.walk.lposs"], "_DENSE", 0)
    assert graph.matrix().is_sparse
    torch.testing.assert_close(propagate(graph, Y)[0], dense)


def test_neighbours_are_found_block_by_block(monkeypatch):
    whole = affinity(features(), centres((5, 6), 16.0), neighbours=7)
    monkeypatch.setattr(sys.modules["nerveseg.walk.lposs"], "_BLOCK", 70)
    parts = affinity(features(), centres((5, 6), 16.0), neighbours=7)
    assert torch.equal(whole.indices, parts.indices)
    torch.testing.assert_close(whole.values, parts.values)


def scipys_way(A, b, steps, tolerance):
    """Textbook conjugate gradients of one column, float64."""
    x, r = torch.zeros_like(b), b.clone()
    p, rho = r.clone(), float(r @ r)
    taken = 0
    while taken < steps and math.sqrt(rho) > tolerance * float(b.norm()):
        q = A @ p
        a = rho / float(p @ q)
        x, r = x + a * p, r - a * q
        rho, before = float(r @ r), rho
        p = r + rho / before * p
        taken += 1
    return x, taken


@pytest.mark.parametrize("steps", [1, 3, 10, 200])
def test_every_column_takes_its_own_conjugate_gradients(steps):
    graph = affinity(features(), centres((5, 6), 16.0), neighbours=7)
    A = torch.eye(30, dtype=torch.float64) - 0.95 * graph.matrix().double()
    Y = torch.cat([features(30, 3, seed=1), torch.zeros(30, 1), 1e-4 * torch.ones(30, 1)], dim=1)
    X, taken = propagate(graph, Y, steps=steps)
    columns = [scipys_way(A, Y[:, c].double(), steps, 1e-6) for c in range(5)]
    torch.testing.assert_close(X.double(), torch.stack([x for x, _ in columns], dim=1), atol=1e-4, rtol=1e-3)
    assert taken <= steps
    assert steps == 200 or taken == max(t for _, t in columns)
    if steps == 200:
        torch.testing.assert_close(X, torch.linalg.solve(A, Y.double()).float(), atol=1e-4, rtol=1e-4)


def test_a_column_that_has_ended_waits_unchanged():
    A = torch.diag(torch.tensor([1.0, 2.0, 5.0, 9.0]))
    easy, hard = torch.tensor([1.0, 0, 0, 0]), torch.ones(4)
    alone, _ = conjugate(lambda X: A @ X, easy[:, None], steps=10, tolerance=1e-6)
    both, _ = conjugate(lambda X: A @ X, torch.stack([easy, hard], dim=1), steps=10, tolerance=1e-6)
    assert torch.equal(both[:, 0], alone[:, 0])
    torch.testing.assert_close(both[:, 1], 1 / A.diagonal())


def make(grid=(5, 6), k=4):
    generator = torch.Generator().manual_seed(3)
    queries, keys = (torch.randn(2, grid[0] * grid[1], 5, generator=generator) for _ in range(2))
    G = torch.rand(grid[0] * grid[1], k, generator=generator) ** 4
    return Heads(queries, keys, grid), G / G.sum(1, keepdim=True)


def test_the_walk_is_the_solve_divided_by_what_ones_become():
    heads, G = make()
    result = solve(heads, G, Options(neighbours=9, steps=500, patch=8.0))
    f = torch.stack([torch.cat([heads.keys[h, i] for h in range(2)]) for i in range(30)])
    A = torch.eye(30) - 0.95 * by_hand(f, centres((5, 6), 8.0), 9, 3.0, 0.01).float()
    X, u = torch.linalg.solve(A, G), torch.linalg.solve(A, torch.ones(30, 1))
    torch.testing.assert_close(result.probabilities, X / u, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(result.probabilities.sum(1), torch.ones(30), atol=1e-5, rtol=0)
    assert torch.equal(result.probabilities.argmax(1), X.argmax(1))
    assert result.bound == math.inf
    assert result.outcome is walk.Outcome.REFINED


def test_what_is_the_same_everywhere_stays_so_and_nothing_leaves_its_range():
    heads, G = make()
    same = torch.tensor([[0.5, 0.2, 0.3]]).expand(30, 3).contiguous()
    torch.testing.assert_close(solve(heads, same, Options(steps=2)).probabilities, same, atol=1e-6, rtol=0)
    P = solve(heads, G, Options(steps=1)).probabilities
    assert bool((G.amin(0) <= P).all() and (G.amax(0) >= P).all())


def test_tokens_without_neighbours_keep_their_rows():
    alone = Heads(torch.eye(4)[None], torch.eye(4)[None], (2, 2))
    G = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    G = G / G.sum(1, keepdim=True)
    torch.testing.assert_close(friendly(alone, G).probabilities, G)


def test_centres_are_in_the_middle_of_patches():
    assert centres((2, 3), 10.0).tolist() == [[5, 5], [5, 15], [5, 25], [15, 5], [15, 15], [15, 25]]


def test_bad_input_is_refused():
    heads, G = make()
    for given in ({"alpha": 1.0}, {"neighbours": 0}, {"power": 0.0}, {"sigma": -1.0}):
        with pytest.raises(OptionError, match=next(iter(given))):
            friendly(heads, G, **given)
    with pytest.raises(ShapeError, match=r"\(30, k\)"):
        friendly(heads, G[:-1])
    with pytest.raises(ShapeError, match="places"):
        affinity(features(), centres((5, 5), 16.0))
    with pytest.raises(OptionError, match="neighbours"):
        affinity(features(), centres((5, 6), 16.0), neighbours=0)
