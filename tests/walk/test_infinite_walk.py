"""Global GMRES: tolerance, restarts, fallback, round-off."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nerveseg import registry, walk
from nerveseg.transition import Heads, build
from nerveseg.walk import _certificate


class Counting:
    """A matrix as S that counts its applications."""

    stochastic = True

    def __init__(self, matrix):
        self.matrix, self.calls = matrix, 0

    @property
    def n(self):
        return self.matrix.shape[0]

    def __matmul__(self, X):
        self.calls += 1
        return self.matrix @ X

    def exact(self, X):
        self.calls += 1
        return self.matrix.double() @ X


def ring(n):
    """Every token steps to the next: eigenvalues all around the unit circle, the hardest S for a Krylov space."""
    return Counting(torch.eye(n).roll(1, dims=1))


def labels(n, k=3, seed=0):
    G = torch.rand(n, k, generator=torch.Generator().manual_seed(seed)) ** 4
    return G / G.sum(dim=1, keepdim=True)


def image(grid=(10, 11), beta=0.3):
    generator = torch.Generator().manual_seed(0)
    n = grid[0] * grid[1]
    heads = Heads(torch.randn(3, n, 8, generator=generator), torch.randn(3, n, 8, generator=generator), grid)
    return build(heads, labels(n), kernel="exp", beta=beta), labels(n)


def error(one, other):
    return float((one.probabilities - other.probabilities).abs().sum(dim=1).max())


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_the_tolerance_is_certified_and_kept(alpha, tolerance):
    S, G = image()
    result = walk.infinite(S, G, alpha, tolerance)
    assert error(result, walk.direct(S, G, alpha)) <= result.bound <= tolerance
    assert result.outcome is walk.Outcome.CONVERGED


def test_steps_are_counted_and_history_has_one_bound_a_step():
    S, G = ring(30), labels(30)
    result = walk.infinite(S, G, 0.9)
    assert result.steps == S.calls
    assert len(result.history) == result.steps + 1
    assert result.history[0] == pytest.approx(1.8)


def test_far_fewer_steps_than_plain_iteration():
    S, G = image()
    result = walk.infinite(S, G, alpha=0.95)
    # Plain iteration needs log(1e-4/2)/log(0.95) = 193.
    assert result.steps < 40


@pytest.mark.parametrize("restart", [1, 2, 5])
def test_a_short_restart_still_reaches_the_tolerance(restart):
    S, G = image()
    result = walk.infinite(S, G, alpha=0.9, restart=restart)
    assert result.outcome.reached
    assert error(result, walk.direct(S, G, 0.9)) <= result.bound <= 1e-4


def test_a_step_brings_its_coefficients_to_the_host_at_once(monkeypatch):
    S, G = image()
    S = Counting(S.to_dense())  # offers no start that is nearly the end
    calls, real = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: calls.append(self.numel()) or real(self))
    result = walk.infinite(S, G, 0.9)
    # 2(j + 1) coefficients of both passes and one length in step j.
    assert calls == [2 * (j + 1) + 1 for j in range(len(calls))]
    assert 2 < len(calls) <= result.steps


def test_where_krylov_is_lost_plain_iteration_takes_over(monkeypatch):
    """A cycle that leads nowhere must not keep the walk from its tolerance."""

    def nowhere(S, R, options, aim, history):
        history.append(history[-1])
        return torch.zeros_like(R)

    monkeypatch.setattr(registry.load("walks", "infinite"), "_cycle", nowhere)
    S, G = ring(30), labels(30)
    result = walk.infinite(S, G, 0.8)
    assert result.outcome is walk.Outcome.FELL_BACK
    assert error(result, walk.direct(S, G, 0.8)) <= result.bound <= 1e-4


@pytest.mark.parametrize(("alpha", "tolerance"), [(0.5, 1e-5), (0.9, 1e-4), (0.99, 3e-4)])
def test_a_ring_is_no_trap(alpha, tolerance):
    S, G = ring(60), labels(60)
    result = walk.infinite(S, G, alpha, tolerance, max_steps=3000)
    assert result.outcome.reached
    assert error(result, walk.direct(S, G, alpha)) <= result.bound <= tolerance


@pytest.mark.parametrize("max_steps", [1, 2, 3, 5, 20])
def test_when_the_steps_run_out_the_bound_is_still_honest(max_steps):
    S, G = ring(60), labels(60)
    result = walk.infinite(S, G, 0.99, max_steps=max_steps)
    assert S.calls == result.steps == max_steps
    assert result.outcome is walk.Outcome.SPENT
    assert 1e-4 < error(result, walk.direct(S, G, 0.99)) <= result.bound
    torch.testing.assert_close(result.probabilities.sum(dim=1), torch.ones(60), rtol=0, atol=1e-5)


def test_a_tolerance_below_round_off_ends_with_what_float32_can_do():
    S, G = image()
    result = walk.infinite(S, G, alpha=0.9, tolerance=1e-9)
    assert result.outcome is walk.Outcome.STALLED
    assert not result.outcome.reached
    assert result.bound < 1e-4
    assert result.steps < 100


def test_the_identity_and_a_constant_G_need_one_step_and_one_that_proves_it():
    G = labels(20)
    result = walk.infinite(Counting(torch.eye(20)), G, 0.9)
    torch.testing.assert_close(result.probabilities, G)
    assert result.steps == 2
    assert walk.infinite(ring(20), G[:1].expand(20, 3).contiguous(), 0.9).steps == 2


def test_the_step_towards_one_place_breaks_down_happily():
    """S of rank one: the Krylov space is exhausted after a step or two."""
    S = Counting(torch.full((20, 20), 1 / 20))
    result = walk.infinite(S, labels(20), 0.9, tolerance=1e-5)
    assert result.outcome is walk.Outcome.CONVERGED
    assert result.steps <= 5


@settings(max_examples=30, deadline=None)
@given(alpha=st.floats(0.05, 0.97), power=st.integers(1, 30), restart=st.integers(1, 14), seed=st.integers(0, 1000))
def test_bound_and_rows_hold_on_any_stochastic_matrix(alpha, power, restart, seed):
    S = torch.rand(25, 25, generator=torch.Generator().manual_seed(seed)) ** power
    S, G = Counting(S / S.sum(dim=1, keepdim=True)), labels(25, seed=seed)
    result, oracle = walk.infinite(S, G, alpha, restart=restart), walk.direct(S, G, alpha)
    assert error(result, oracle) <= result.bound + oracle.bound
    assert result.outcome.reached
    assert float(result.probabilities.min()) >= 0
    torch.testing.assert_close(result.probabilities.sum(dim=1), torch.ones(25), rtol=0, atol=1e-5)


def test_settling_lifts_negatives_and_keeps_the_bound():
    generator = torch.Generator().manual_seed(0)
    truth = labels(50)
    noise = 0.02 * torch.randn(50, 3, generator=generator)
    P = (truth + noise - noise.mean(dim=1, keepdim=True)).double()
    before = (P - truth).abs().sum(dim=1)
    found, grown = _certificate.returned(P, truth)
    assert float(found.min()) >= 0
    assert bool(((found - truth).abs().sum(dim=1) <= before + grown).all())
    assert grown < 1e-6
    torch.testing.assert_close(found.sum(dim=1), torch.ones(50))


def many(grid=(8, 9), beta=0.3, k=40):
    generator = torch.Generator().manual_seed(0)
    n = grid[0] * grid[1]
    heads = Heads(torch.randn(3, n, 8, generator=generator), torch.randn(3, n, 8, generator=generator), grid)
    G = labels(n, k)
    return build(heads, G, kernel="exp", beta=beta), G


@pytest.mark.parametrize("beta", [0.3, 1.0])
@pytest.mark.parametrize("alpha", [0.3, 0.9, 0.99])
def test_with_many_columns_one_factorisation_stands_for_the_steps(alpha, beta):
    S, G = many(beta=beta)
    result = walk.infinite(S, G, alpha, 1e-4)
    assert error(result, walk.direct(S, G, alpha)) <= result.bound <= 1e-4
    assert result.outcome is walk.Outcome.CONVERGED
    assert result.steps == 1  # the residual that certifies it


def test_few_columns_and_operators_that_are_not_held_whole_are_walked_by_steps():
    S, G = many()
    assert S.head_start(G[:, :8], 0.9) is None
    assert many(beta=0.0)[0].head_start(G, 0.9) is None
    thin = build(Heads(torch.rand(1, 72, 4), torch.rand(1, 72, 4), (8, 9)), G, kernel="elu", beta=0.3)
    assert thin.head_start(G, 0.9) is None
