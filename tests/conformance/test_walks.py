"""What every walk has to keep, whatever file it comes from."""

from __future__ import annotations

import pytest
import torch

from nerveseg import registry, walk
from nerveseg.errors import OptionError, ShapeError
from nerveseg.transition import Heads, build

# Walks on heads are not walks on S: they have their own contract.
WALKS = tuple(name for name in registry.names("walks") if registry.load("walks", name).needs == "S")
KERNELS = ("anchor", "elu")


def make(grid=(6, 7), kernel="anchor", *, k=5, seed=0, beta=0.5):
    generator = torch.Generator().manual_seed(seed)
    n = grid[0] * grid[1]
    queries, keys = (torch.randn(3, n, 8, generator=generator) for _ in range(2))
    G = torch.rand(n, k, generator=generator) ** 4
    G = G / G.sum(dim=1, keepdim=True)
    return build(Heads(queries, keys, grid), G, kernel=kernel, beta=beta), G


def go(name, S, G, **given):
    module = registry.load("walks", name)
    if name == "truncated":
        given.setdefault("steps", 400)
    return module.solve(S, G, registry.options(module.Options, given))


def error(one, other):
    return float((one.probabilities.double() - other.probabilities.double()).abs().sum(dim=1).max())


@pytest.fixture(params=WALKS)
def name(request):
    return request.param


def test_a_walk_declares_what_it_is(name):
    module = registry.load("walks", name)
    assert module.linear in (True, False)
    registry.check(module.Options())
    assert callable(getattr(walk, name)), "the friendly function bears the file's name"


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("alpha", [0.3, 0.9, 0.97])
@pytest.mark.parametrize("kernel", KERNELS)
def test_it_agrees_with_the_dense_solve_and_its_bound_is_honest(name, kernel, alpha, beta):
    S, G = make(kernel=kernel, beta=beta)
    oracle = walk.direct(S, G, alpha)
    result = go(name, S, G, alpha=alpha)
    assert error(result, oracle) <= result.bound + oracle.bound
    assert error(result, oracle) < 2e-4
    assert result.history[-1] == result.bound
    assert result.outcome.reached
    assert result.outcome.advice


def test_rows_sum_to_one_and_values_stay_within_those_of_G(name):
    S, G = make()
    P = go(name, S, G, alpha=0.95).probabilities
    assert P.dtype == torch.float32
    torch.testing.assert_close(P.sum(dim=1), torch.ones(42), rtol=0, atol=1e-5)
    lowest, highest = G.min(dim=0).values - 1e-4, G.max(dim=0).values + 1e-4
    torch.testing.assert_close(P, P.clamp(lowest, highest), rtol=0, atol=0)
    assert float(P.min()) >= 0


def test_alpha_zero_gives_G_back_without_a_step(name):
    S, G = make()
    result = go(name, S, G, alpha=0.0)
    assert torch.equal(result.probabilities, G)
    assert result.probabilities is not G
    assert result.steps == 0
    assert result.bound == 0


def test_columns_permute(name):
    S, G = make()
    order = torch.tensor([4, 2, 0, 1, 3])
    here, there = go(name, S, G[:, order].contiguous(), alpha=0.9), go(name, S, G, alpha=0.9)
    torch.testing.assert_close(here.probabilities, there.probabilities[:, order], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in WALKS if registry.load("walks", name).linear])
def test_it_is_linear_where_it_says_so(name):
    S, G = make()
    other = G.flip(1)
    given = {"tolerance": 1e-5} if name == "infinite" else {}
    mixed = go(name, S, 0.25 * G + 0.75 * other, alpha=0.9, **given).probabilities
    parts = [go(name, S, part, alpha=0.9, **given).probabilities for part in (G, other)]
    torch.testing.assert_close(mixed, 0.25 * parts[0] + 0.75 * parts[1], rtol=0, atol=2e-5)


def test_the_same_for_all_tokens_stays_so(name):
    S, _ = make()
    G = torch.tensor([[0.5, 0.2, 0.3]]).expand(42, 3).contiguous()
    torch.testing.assert_close(go(name, S, G, alpha=0.9).probabilities, G, rtol=0, atol=1e-5)


def test_one_token_and_one_column(name):
    S, G = make((1, 1), k=1)
    torch.testing.assert_close(go(name, S, G, alpha=0.9).probabilities, G)


def test_half_precision_labels_are_walked_in_float32(name):
    S, G = make()
    result = go(name, S, G.half(), alpha=0.9)
    assert result.probabilities.dtype == torch.float32
    torch.testing.assert_close(result.probabilities, go(name, S, G.half().float(), alpha=0.9).probabilities)


def test_G_is_left_as_it_was(name):
    S, G = make()
    before = G.clone()
    go(name, S, G, alpha=0.9)
    assert torch.equal(G, before)


@pytest.mark.parametrize("alpha", [-0.1, 1.0, float("nan")])
def test_alpha_out_of_range_is_refused(name, alpha):
    S, G = make()
    with pytest.raises(OptionError, match="alpha"):
        getattr(walk, name)(S, G, alpha=alpha)


def test_another_grids_labels_are_refused(name):
    S, G = make()
    with pytest.raises(ShapeError, match=r"\(42, k\)"):
        go(name, S, G[:-1])


@pytest.mark.parametrize("kernel", KERNELS)
def test_row_sums_do_not_drift_at_65536_tokens(kernel):
    generator = torch.Generator().manual_seed(0)
    n = 65536
    sides = [torch.randn(1, n, 16, generator=generator) for _ in range(2)]
    S = build(Heads(sides[0], sides[1], (256, 256)), torch.full((n, 2), 0.5), kernel=kernel)
    torch.testing.assert_close(S @ torch.ones(n, 2), torch.ones(n, 2), rtol=0, atol=4e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_full_size_image_in_half_precision(kernel):
    generator = torch.Generator().manual_seed(0)
    n = 4096
    heads = Heads(torch.randn(2, n, 64, generator=generator).half(), torch.randn(2, n, 64, generator=generator).half(), (64, 64))
    G = torch.rand(n, 5, generator=generator) ** 4
    S = build(heads, G / G.sum(dim=1, keepdim=True), kernel=kernel)
    result = walk.infinite(S, G / G.sum(dim=1, keepdim=True))
    assert result.bound <= 1e-4
    assert result.steps <= 20
    torch.testing.assert_close(result.probabilities.sum(dim=1), torch.ones(n), rtol=0, atol=1e-5)
    torch.testing.assert_close(S @ torch.ones(n, 3), torch.ones(n, 3), rtol=0, atol=2e-6)
