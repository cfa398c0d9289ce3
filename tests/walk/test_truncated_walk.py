"""The truncated walk against (16) and its bound."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nerveseg import walk
from nerveseg.errors import OptionError


class Dense:
    """A matrix as S: all that a walk asks for."""

    def __init__(self, matrix):
        self.matrix = matrix

    @property
    def n(self):
        return self.matrix.shape[0]

    def __matmul__(self, X):
        return self.matrix @ X


def make(n=12, k=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    S, G = torch.rand(n, n, generator=generator) ** 6, torch.rand(n, k, generator=generator) ** 4
    return Dense(S / S.sum(dim=1, keepdim=True)), G / G.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("alpha", [0.2, 0.9, 0.99])
@pytest.mark.parametrize("steps", [0, 1, 2, 7])
def test_it_is_the_explicit_sum(alpha, steps):
    S, G = make()
    term, total = G.double(), torch.zeros(12, 3).double()
    for t in range(steps + 1):
        total += alpha**t * term
        term = S.matrix.double() @ term
    expected = (1 - alpha) / (1 - alpha ** (steps + 1)) * total
    result = walk.truncated(S, G, alpha=alpha, steps=steps)
    torch.testing.assert_close(result.probabilities.double(), expected, rtol=1e-5, atol=1e-6)
    assert result.steps == steps
    assert len(result.history) == steps + 1
    assert result.outcome is walk.Outcome.TRUNCATED


def test_no_steps_give_G_back():
    S, G = make()
    assert torch.equal(walk.truncated(S, G, steps=0).probabilities, G)


@settings(max_examples=30, deadline=None)
@given(alpha=st.floats(0.05, 0.98), steps=st.integers(0, 30), seed=st.integers(0, 1000))
def test_the_bound_holds(alpha, steps, seed):
    S, G = make(seed=seed)
    result, oracle = walk.truncated(S, G, alpha, steps), walk.direct(S, G, alpha)
    assert float((result.probabilities - oracle.probabilities).abs().sum(dim=1).max()) <= result.bound + oracle.bound


def test_the_bound_is_reached():
    """One step leads away from where L steps have been, for good: no two rows can be farther apart than 2α^{L+1} says."""
    steps, alpha = 3, 0.9
    n = steps + 2
    chain = torch.zeros(n, n)
    chain[torch.arange(n - 1), torch.arange(1, n)] = 1.0
    chain[-1, -1] = 1.0
    G = torch.zeros(n, 2)
    G[:-1, 0], G[-1, 1] = 1.0, 1.0
    result, oracle = walk.truncated(Dense(chain), G, alpha, steps), walk.direct(Dense(chain), G, alpha)
    reached = float((result.probabilities - oracle.probabilities).abs().sum(dim=1).max())
    assert reached == pytest.approx(2 * alpha ** (steps + 1), rel=1e-5)
    assert result.bound == pytest.approx(reached, rel=1e-5)


def test_bounds_fall_with_steps_and_never_say_more_than_two():
    S, G = make()
    history = walk.truncated(S, G, alpha=0.99, steps=200).history
    assert max(history) <= 2.0
    assert list(history) == sorted(history, reverse=True)


def test_steps_out_of_range_are_refused():
    S, G = make()
    with pytest.raises(OptionError, match=r"walk\.steps"):
        walk.truncated(S, G, steps=-1)


def test_a_transition_that_is_not_stochastic_has_no_bound():
    S, G = make()
    S.stochastic = False
    assert walk.truncated(S, G).bound == float("inf")
    assert walk.infinite(S, G).outcome is walk.Outcome.UNCERTIFIED
    assert not walk.infinite(S, G).outcome.reached
