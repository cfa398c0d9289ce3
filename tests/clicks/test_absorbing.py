"""The walk that ends at seeds: both forms of the linear system, every solver on S, and the chance of reaching a seed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nerveseg import transition, walk
from nerveseg.errors import ShapeError
from nerveseg.transition.absorbing import absorbing, sown
from nerveseg.transition.resolvent import resolvent


def make(seed, grid=(5, 6), beta=0.4, k=4, **knobs):
    chance = torch.Generator().manual_seed(seed)
    n = grid[0] * grid[1]
    heads = transition.Heads(torch.randn(2, n, 5, generator=chance), torch.randn(2, n, 5, generator=chance), grid)
    G = torch.rand(n, k, generator=chance) + 0.01
    G = G / G.sum(1, keepdim=True)
    return transition.build(heads, G, beta=beta, kernel="exp", **knobs), G


def by_hand(S, G, index, Y, alpha):
    """(I − αDS)P = (1 − α)DG + (I − D)Y, solved densely in float64, written out."""
    n = len(G)
    D = torch.eye(n, dtype=torch.float64)
    wide = torch.zeros(n, G.shape[1], dtype=torch.float64)
    for token, row in zip(index.tolist(), Y.double(), strict=True):
        D[token, token] = 0
        wide[token] = row
    eye = torch.eye(n, dtype=torch.float64)
    return torch.linalg.solve(eye - alpha * D @ S, (1 - alpha) * D @ G.double() + (eye - D) @ wide)


SEEDS = torch.tensor([3, 17, 4])
LABELS = torch.eye(4)[[0, 2, 0]]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_both_forms_agree_with_a_dense_solve(alpha, beta):
    S, G = make(1, beta=beta)
    dense = S.to_dense().double()
    P = by_hand(dense, G, SEEDS, LABELS, alpha)
    # The second form: S' = DS + (I − D), G' = DG + (I − D)Y.
    S2, G2 = dense.clone(), G.double().clone()
    S2[SEEDS], G2[SEEDS] = torch.eye(30, dtype=torch.float64)[SEEDS], LABELS.double()
    eye = torch.eye(30, dtype=torch.float64)
    assert torch.allclose(torch.linalg.solve(eye - alpha * S2, (1 - alpha) * G2), P, atol=1e-12)
    # And the blocks: P_B = Y_B, (I − αS_FF)P_F = (1 − α)G_F + αS_FB Y_B.
    free = torch.tensor([token for token in range(30) if token not in SEEDS.tolist()])
    inner = eye[: len(free), : len(free)] - alpha * dense[free][:, free]
    rest = (1 - alpha) * G.double()[free] + alpha * dense[free][:, SEEDS] @ LABELS.double()
    assert torch.allclose(torch.linalg.solve(inner, rest), P[free], atol=1e-12)
    assert torch.equal(P[SEEDS], LABELS.double())
    assert torch.allclose(P.sum(1), torch.ones(30, dtype=torch.float64), atol=1e-12)
    ours = absorbing(S, SEEDS)
    assert torch.allclose((ours @ torch.eye(30)).double(), S2, atol=1e-6)
    assert torch.equal(sown(G, SEEDS, LABELS), G2.float())


@pytest.mark.parametrize("name", ["infinite", "truncated", "direct"])
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_every_solver_on_s_takes_it(name, beta):
    S, G = make(2, beta=beta)
    more = {"infinite": {"tolerance": 1e-5}, "truncated": {"steps": 300}, "direct": {}}[name]
    result = getattr(walk, name)(absorbing(S, SEEDS), sown(G, SEEDS, LABELS), alpha=0.9, **more)
    assert torch.allclose(result.probabilities.double(), by_hand(S.to_dense().double(), G, SEEDS, LABELS, 0.9), atol=2e-5)
    assert torch.allclose(result.probabilities[SEEDS], LABELS, atol=1e-6)


@given(st.integers(0, 50), st.sampled_from([0.5, 0.9, 0.98]), st.lists(st.integers(0, 29), min_size=1, max_size=5, unique=True))
@settings(max_examples=30, deadline=None)
def test_seeds_move_a_row_by_at_most_twice_the_chance_of_reaching_one(number, alpha, seeds):
    S, G = make(number)
    dense, index = S.to_dense().double(), torch.tensor(seeds)
    Y = torch.eye(4)[[seed % 4 for seed in seeds]]
    P = torch.linalg.solve(torch.eye(30, dtype=torch.float64) - alpha * dense, (1 - alpha) * G.double())
    after = by_hand(dense, G, index, Y, alpha)
    h = by_hand(dense, torch.zeros(30, 1), index, torch.ones(len(seeds), 1), alpha)[:, 0]
    assert bool(((after - P).abs().sum(1) <= 2 * h + 1e-10).all())


def test_on_the_local_graph_the_chance_falls_by_alpha_a_token():
    S = make(4, grid=(6, 9), beta=0.0)[0]
    index = torch.tensor([2 * 9 + 3])
    h = by_hand(S.to_dense().double(), torch.zeros(54, 1), index, torch.ones(1, 1), 0.9)[:, 0]
    for token in range(54):
        far = max(abs(token // 9 - 2), abs(token % 9 - 3))
        assert float(h[token]) <= 0.9**far + 1e-12


def test_the_other_block_of_a_block_diagonal_s_does_not_change():
    S, G = make(5)
    blocks = S.to_dense().double()
    blocks[:15, 15:] = 0
    blocks[15:, :15] = 0
    blocks /= blocks.sum(1, keepdim=True)
    P = torch.linalg.solve(torch.eye(30, dtype=torch.float64) - 0.9 * blocks, 0.1 * G.double())
    after = by_hand(blocks, G, torch.tensor([2, 7]), torch.eye(4)[[1, 1]], 0.9)
    assert torch.allclose(after[15:], P[15:], atol=1e-14)
    assert float((after[:15] - P[:15]).abs().max()) > 0.1


def test_a_start_near_the_end_takes_one_step_and_is_certified_all_the_same():
    S, G = make(6)
    end = walk.direct(absorbing(S, SEEDS), sown(G, SEEDS, LABELS), alpha=0.9).probabilities
    quick = walk.infinite(absorbing(S, SEEDS, near=end), sown(G, SEEDS, LABELS), alpha=0.9, tolerance=1e-4)
    slow = walk.infinite(absorbing(S, SEEDS), sown(G, SEEDS, LABELS), alpha=0.9, tolerance=1e-4)
    assert quick.steps == 1 < slow.steps
    assert max(quick.bound, slow.bound) <= 1e-4
    wrong = walk.infinite(absorbing(S, SEEDS, near=end.roll(1, 1)), sown(G, SEEDS, LABELS), alpha=0.9, tolerance=1e-4)
    assert torch.allclose(wrong.probabilities, end, atol=1e-4)


def test_no_seeds_are_the_plain_walk():
    S, G = make(7)
    plain, none = walk.infinite(S, G), walk.infinite(absorbing(S, torch.zeros(0, dtype=torch.int64)), G)
    assert torch.equal(plain.probabilities, none.probabilities)


def test_input_is_left_as_it_was_and_any_matrix_serves():
    class Plain:
        n = 30

        def __init__(self, matrix):
            self.matrix = matrix

        def __matmul__(self, X):
            return self.matrix @ X

    S, G = make(8)
    before, near = G.clone(), torch.full((30, 4), 0.25)
    ours = absorbing(Plain(S.to_dense()), SEEDS, near=near)
    found = walk.infinite(ours, sown(G, SEEDS, LABELS), tolerance=1e-5).probabilities
    assert torch.equal(G, before)
    assert torch.equal(near, torch.full((30, 4), 0.25))
    assert torch.allclose(found, walk.infinite(absorbing(S, SEEDS), sown(G, SEEDS, LABELS), tolerance=1e-5).probabilities, atol=2e-5)


@pytest.mark.parametrize("wrong", [torch.tensor([1, 1]), torch.tensor([30]), torch.tensor([-1]), torch.tensor([[1]])])
def test_seeds_that_are_no_tokens_are_refused(wrong):
    with pytest.raises(ShapeError, match="Accepted"):
        absorbing(make(9)[0], wrong)


@pytest.mark.parametrize("beta", [0.4, 1.0])
def test_the_resolvent_solves(beta):
    S, G = make(10, beta=beta)
    N = resolvent(S, 0.95)
    exact = torch.linalg.solve(torch.eye(30, dtype=torch.float64) - 0.95 * S.to_dense().double(), G.double())
    assert torch.allclose((N @ G).double(), exact, atol=1e-4)
    assert N.bytes >= 30 * 30 * 4


def test_there_is_no_resolvent_where_s_is_not_held_whole_or_too_large():
    assert resolvent(make(11, beta=0.0)[0], 0.9) is None
    assert resolvent(make(11, keep=4)[0], 0.9) is None
    assert resolvent(make(11)[0], 0.9, most=29) is None
    assert resolvent(object(), 0.9) is None
