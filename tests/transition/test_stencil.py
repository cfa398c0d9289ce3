"""The local graph against loops."""

from __future__ import annotations

import pytest
import torch

from nerveseg.transition import Heads, build


def loops(heads, weights, pairing, stay, power):
    """(9) and (10), a token at a time."""
    height, width = heads.grid
    sides = {"q": heads.queries.double(), "k": heads.keys.double()}
    a, b = sides[pairing[0]], sides[pairing[1]]
    S = torch.zeros(heads.n, heads.n, dtype=torch.float64)
    for h, weight in enumerate(weights):
        for y in range(height):
            for x in range(width):
                row = torch.zeros(heads.n, dtype=torch.float64)
                i = y * width + x
                for v in range(max(0, y - 1), min(height, y + 2)):
                    for u in range(max(0, x - 1), min(width, x + 2)):
                        j = v * width + u
                        cos = torch.dot(a[h, i], b[h, j]) / a[h, i].norm() / b[h, j].norm()
                        row[j] = stay if i == j else max(float(cos), 0.0) ** power
                S[i] += weight * row / row.sum()
    return S


@pytest.mark.parametrize("grid", [(4, 5), (1, 6), (6, 1), (1, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("pairing", ["qk", "kk", "qq"])
def test_the_stencil_equals_loops_edges_included(grid, pairing):
    generator = torch.Generator().manual_seed(0)
    n = grid[0] * grid[1]
    heads = Heads(torch.randn(3, n, 6, generator=generator), torch.randn(3, n, 6, generator=generator), grid)
    weights = torch.tensor([0.5, 0.3, 0.2])
    G = torch.full((n, 2), 0.5)
    for stay, power in ((1.0, 1.0), (0.2, 3.0)):
        S = build(heads, G, beta=0.0, pairing=pairing, stay=stay, local_power=power, weights=weights)
        torch.testing.assert_close(S.to_dense().double(), loops(heads, weights.tolist(), pairing, stay, power), rtol=1e-5, atol=1e-6)


def test_tokens_that_look_away_from_all_neighbours_stay():
    keys = torch.eye(9)[None]
    S = build(Heads(keys, keys, (3, 3)), torch.full((9, 2), 0.5), beta=0.0)
    assert torch.equal(S.to_dense(), torch.eye(9))


def test_a_larger_stay_walks_more_slowly():
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(1, 20, 6, generator=generator)
    diagonals = [build(Heads(keys, keys, (4, 5)), torch.full((20, 2), 0.5), beta=0.0, stay=s).to_dense().diagonal() for s in (0.5, 5.0)]
    assert bool((diagonals[0] < diagonals[1]).any())
    assert bool((diagonals[0] <= diagonals[1]).all())


def test_nothing_reaches_beyond_a_step():
    generator = torch.Generator().manual_seed(0)
    heads = Heads(torch.randn(2, 42, 6, generator=generator), torch.randn(2, 42, 6, generator=generator), (6, 7))
    dense = build(heads, torch.full((42, 2), 0.5), beta=0.0).to_dense()
    y, x = torch.arange(42) // 7, torch.arange(42) % 7
    far = torch.maximum((y[:, None] - y).abs(), (x[:, None] - x).abs()) > 1
    assert bool((dense[far] == 0).all())
