"""Woodbury and the dense solve."""

from __future__ import annotations

import pytest
import torch

from nerveseg import registry, walk
from nerveseg.errors import OptionError
from nerveseg.transition import Heads, build


def make(kernel, **knobs):
    generator = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(2, 42, 8, generator=generator), torch.randn(2, 42, 8, generator=generator)
    G = torch.rand(42, 3, generator=generator)
    return build(Heads(queries, keys, (6, 7)), G / G.sum(dim=1, keepdim=True), kernel=kernel, **knobs), G / G.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kernel", ["elu", "shifted", "anchor"])
def test_woodbury_is_exact(kernel, beta):
    S, G = make(kernel, beta=beta)
    torch.testing.assert_close(walk.woodbury(S, G).probabilities, walk.direct(S, G).probabilities, rtol=0, atol=2e-6)


def test_woodbury_knows_rows_that_stay_in_place():
    queries, keys = torch.ones(1, 9, 4), torch.ones(1, 9, 4)
    queries[0, 0] = -1.0
    G = torch.eye(9)
    for beta in (0.5, 1.0):
        S = build(Heads(queries, keys, (3, 3)), G, kernel="shifted", beta=beta)
        assert S.stuck == 1
        torch.testing.assert_close(walk.woodbury(S, G).probabilities, walk.direct(S, G).probabilities, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("kernel", "knobs"), [("softmax", {}), ("elu", {"keep": 4}), ("exp", {"memory": 0.0})])
def test_woodbury_refuses_what_has_no_thin_pair(kernel, knobs):
    S, G = make(kernel, **knobs)
    with pytest.raises(OptionError, match=r"walk\.infinite"):
        walk.woodbury(S, G)


def test_direct_refuses_more_tokens_than_memory_allows():
    S, G = make("elu")
    module = registry.load("walks", "direct")
    with pytest.raises(OptionError, match=r"walk\.infinite"):
        module.solve(S, G, module.Options(limit=41))


def test_direct_solves_the_equation_of_the_walk():
    S, G = make("softmax")
    P = walk.direct(S, G, 0.9).probabilities.double()
    torch.testing.assert_close(P - 0.9 * S.to_dense().double() @ P, 0.1 * G.double(), rtol=0, atol=1e-6)


def test_a_raw_cosine_is_walked_without_a_bound():
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(2, 42, 8, generator=generator) + 1.0
    G = torch.rand(42, 3, generator=generator)
    G = G / G.sum(dim=1, keepdim=True)
    S = build(Heads(keys, keys, (6, 7)), G, kernel="cosine_raw")
    assert not S.stochastic
    results = [getattr(walk, name)(S, G, 0.5) for name in ("direct", "woodbury", "infinite")]
    assert all(result.bound == float("inf") for result in results)
    for result in results[1:]:
        torch.testing.assert_close(result.probabilities, results[0].probabilities, rtol=0, atol=1e-3)
