"""Each kernel against its equation, written out in float64."""

from __future__ import annotations

import pytest
import torch

from nerveseg.errors import StochasticError
from nerveseg.transition import Heads, LowRank, SparseRows, build

GRID, N = (4, 6), 24


def make(seed=0):
    generator = torch.Generator().manual_seed(seed)
    queries, keys = (torch.randn(2, N, 8, generator=generator) + 0.4 for _ in range(2))
    G = torch.rand(N, 3, generator=generator)
    return Heads(queries, keys, GRID), G / G.sum(dim=1, keepdim=True)


def cosines(a, b):
    return (a @ b.mT) / a.norm(dim=-1)[..., None] / b.norm(dim=-1)[..., None, :]


def softmax(x):
    e = x.exp()
    return e / e.sum(dim=-1, keepdim=True)


def anchor(q, k, tau, places):
    zq, zk = (softmax(tau * cosines(x, k[:, places])) for x in (q, k))
    return zq / zk.sum(dim=1, keepdim=True) @ zk.mT


def elu_plus_one(x):
    return torch.where(x > 0, x + 1, x.exp())


ORACLES = {
    "cosine": ({}, lambda q, k: cosines(q, k).clamp_min(0)),
    "cosine_raw": ({}, cosines),
    "shifted": ({}, lambda q, k: (1 + cosines(q, k)) / 2),
    "elu": ({}, lambda q, k: elu_plus_one(q) @ elu_plus_one(k).mT),
    "softmax": ({"temperature": 0.7}, lambda q, k: (q @ k.mT / 8**0.5 / 0.7).exp()),
    "power": ({"power": 5.0}, lambda q, k: cosines(q, k).clamp_min(0) ** 5),
    "exp": ({"tau": 6.0}, lambda q, k: (6 * cosines(q, k)).exp()),
    # Four landmarks on 4 × 6: rows 1 and 3, columns 1 and 4, the middles of the quarters.
    "anchor": ({"tau": 6.0, "landmarks": 4}, lambda q, k: anchor(q, k, 6.0, [7, 10, 19, 22])),
}


@pytest.mark.parametrize("pairing", ["qk", "kk", "qq"])
@pytest.mark.parametrize("kernel", ORACLES)
def test_kernel_equals_its_equation(kernel, pairing):
    heads, G = make()
    options, affinity = ORACLES[kernel]
    sides = {"q": heads.queries.double(), "k": heads.keys.double()}
    A = affinity(sides[pairing[0]], sides[pairing[1]])
    expected = (A / A.sum(dim=2, keepdim=True)).mean(dim=0)
    S = build(heads, G, kernel=kernel, pairing=pairing, beta=1.0, weights="mean", kernel_options=options)
    torch.testing.assert_close(S.to_dense().double(), expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("kernel", ["softmax", "anchor", "cosine"])
def test_keep_takes_the_largest_entries_of_the_folded_rows(kernel):
    heads, G = make()
    dense = build(heads, G, kernel=kernel, beta=1.0).to_dense()
    kept = build(heads, G, kernel=kernel, beta=1.0, keep=5)
    expected = torch.zeros(N, N)
    for i in range(N):
        top = dense[i].topk(5)
        expected[i, top.indices] = top.values / top.values.sum()
    assert isinstance(kept.spread, SparseRows)
    torch.testing.assert_close(kept.to_dense(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(build(heads, G, kernel=kernel, beta=1.0, keep=10 * N).to_dense(), dense, rtol=1e-5, atol=1e-6)


def test_a_thin_pair_is_as_thin_as_its_features():
    heads, G = make()
    for kernel, width in (("elu", 8), ("shifted", 9), ("cosine_raw", 8)):
        spread = build(heads, G, kernel=kernel, beta=1.0).spread
        assert isinstance(spread, LowRank)
        assert spread.left.shape == spread.right.shape == (N, 2 * width)


def test_rows_without_a_positive_cosine_stay_in_place_and_are_counted():
    """Token 0 of head 0 looks away from every key; head 1 sees nothing odd."""
    queries, keys = torch.ones(2, 9, 4), torch.ones(2, 9, 4)
    queries[0, 0] = -1.0
    G = torch.full((9, 2), 0.5)
    for kernel in ("cosine", "power", "shifted"):
        S = build(Heads(queries, keys, (3, 3)), G, kernel=kernel, beta=1.0, weights="mean")
        row = S.to_dense()[0]
        assert S.stuck == 1
        torch.testing.assert_close(row, torch.tensor([0.5 + 0.5 / 9] + [0.5 / 9] * 8), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(S.to_dense().sum(dim=1), torch.ones(9))


def test_raw_cosines_that_cancel_out_are_refused():
    queries = torch.tensor([[[1.0, 0.0]] * 4])
    keys = torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]])
    with pytest.raises(StochasticError, match=r"'shifted'"):
        build(Heads(queries, keys, (2, 2)), torch.full((4, 2), 0.5), kernel="cosine_raw")


@pytest.mark.parametrize(("kernel", "options"), [("exp", {"tau": 1e4}), ("softmax", {"temperature": 1e-3}), ("power", {"power": 1e4})])
def test_extreme_sharpness_neither_overflows_nor_underflows(kernel, options):
    heads, G = make()
    dense = build(heads, G, kernel=kernel, beta=1.0, weights="mean", kernel_options=options).to_dense()
    assert bool(torch.isfinite(dense).all())
    torch.testing.assert_close(dense.sum(dim=1), torch.ones(N))
    # Sharp without end: each head looks at the nearest key alone.
    assert bool((dense.max(dim=1).values >= 0.49).all())


def test_anchor_with_every_key_a_landmark_and_high_gain_stays_in_place():
    heads, G = make()
    options = {"tau": 1e4, "landmarks": 1000}
    dense = build(heads, G, kernel="anchor", pairing="kk", beta=1.0, kernel_options=options).to_dense()
    torch.testing.assert_close(dense, torch.eye(N))


def test_kmeans_landmarks_find_clusters_that_the_grid_misses():
    """Two clusters, one of which no grid landmark falls into."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.eye(4)[torch.tensor([0] * 23 + [1])]
    keys = (directions + 0.05 * torch.randn(N, 4, generator=generator))[None]
    heads, G = Heads(keys, keys, GRID), torch.full((N, 2), 0.5)
    options = {"tau": 30.0, "landmarks": 4, "choice": "kmeans", "rounds": 5}
    for choice in ("grid", "kmeans"):
        dense = build(heads, G, kernel="anchor", beta=1.0, kernel_options={**options, "choice": choice}).to_dense()
        torch.testing.assert_close(dense.sum(dim=1), torch.ones(N))
        assert float(dense.min()) >= 0
