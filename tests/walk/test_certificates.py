"""The bound of every walk against float64, where float32 has it hardest: many tokens, thin graphs, α near 1."""

from __future__ import annotations

import math

import pytest
import torch

from nerveseg import registry, walk
from nerveseg.errors import NerveSegError, ShapeError, StochasticError
from nerveseg.transition import Heads, Places, TiledHeads, Transition, build
from nerveseg.transition.absorbing import absorbing, sown
from nerveseg.walk import _certificate

ON_S = tuple(name for name in registry.names("walks") if registry.load("walks", name).needs == "S")
KERNELS = tuple(name for name in registry.names("kernels") if registry.load("kernels", name).stochastic)
THIN = tuple(name for name in KERNELS if registry.load("kernels", name).low_rank)
ALPHAS = (0.5, 0.9, 0.99, 0.999, 0.9999)


def dirichlet(n, k=21, seed=0, share=0.05):
    torch.manual_seed(seed)
    return torch.distributions.Dirichlet(torch.full((k,), share)).sample((n,))


def far(P, truth):
    return float((P.double() - truth).abs().sum(dim=1).max())


def solved(matrix, G, alpha):
    """(1 − α)(I − αS)⁻¹G in float64."""
    eye = torch.eye(len(matrix), dtype=torch.float64)
    return torch.linalg.solve(eye - alpha * matrix, (1 - alpha) * G.double())


def go(name, S, G, alpha, **given):
    module = registry.load("walks", name)
    return module.solve(S, G, registry.options(module.Options, {"alpha": alpha, **given}))


@pytest.mark.parametrize("name", [name for name in ON_S if name != "direct"])  # which takes no 16384 tokens
@pytest.mark.parametrize("alpha", ALPHAS)
def test_one_landmark_and_many_tokens(name, alpha):
    """All rows of S are 1/n: P∞ = (1 − α)G + α·mean G. Float32 sums over 16384 tokens drift by 1e-5, and 1/(1 − α) blows that up."""
    z, G = torch.ones(1, 128 * 128, 64), dirichlet(128 * 128)
    S = build(Heads(z, z, (128, 128)), G, kernel="anchor", kernel_options={"landmarks": 1}, beta=1.0)
    result = go(name, S, G, alpha, **({"tolerance": 1e-3} if name == "infinite" else {}))
    truth = (1 - alpha) * G.double() + alpha * G.double().mean(dim=0)
    assert far(result.probabilities, truth) <= result.bound
    assert result.outcome.reached
    if name == "infinite":
        assert result.bound <= 1e-3


@pytest.mark.parametrize("beta", [1.0, 0.5])
@pytest.mark.parametrize("kernel", THIN)
def test_a_blank_image(kernel, beta):
    """Tokens that are all alike, n no power of 2; the local graph is known too: equal shares of the neighbours and the token itself."""
    side, alpha = 50, 0.999
    z, G = torch.full((2, side * side, 64), 0.3), dirichlet(side * side)
    result = walk.infinite(build(Heads(z, z, (side, side)), G, kernel=kernel, beta=beta), G, alpha, 1e-3)
    at = torch.arange(side * side)
    y, x = at // side, at % side
    near = (((y[:, None] - y).abs() <= 1) & ((x[:, None] - x).abs() <= 1)).double()
    S = beta / side**2 + (1 - beta) * near / near.sum(1, keepdim=True)
    assert far(result.probabilities, solved(S, G, alpha)) <= result.bound <= 1e-3


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("name", ON_S)
@pytest.mark.parametrize("kernel", THIN)
def test_thin_graphs_with_zero_tokens_in_float16(kernel, name, alpha):
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(2, 600, 16, generator=generator) + 1 for _ in range(2))
    queries[0, 5], keys[0, 6], queries[1, 9], keys[1, 9] = 0, 0, 0, 0
    G = dirichlet(600, 5).half()
    S = build(Heads(queries.half(), keys.half(), (20, 30)), G, kernel=kernel)
    result = go(name, S, G, alpha, **({"tolerance": 1e-3} if name == "infinite" else {}))
    held = S.exact(torch.eye(600, dtype=torch.float64))
    # As it is held, and with rows that sum to 1 to the last digit: the bound is for both.
    for matrix in (held, held / held.sum(dim=1, keepdim=True)):
        assert far(result.probabilities, solved(matrix, G, alpha)) <= result.bound
    assert result.outcome.reached
    torch.testing.assert_close(held.sum(1), torch.ones(600).double(), rtol=0, atol=2e-7)


@pytest.mark.parametrize("alpha", [0.9, 0.998, 0.9999])
def test_a_walk_that_ends_at_seeds(alpha):
    """What clicks solve, at their α."""
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(2, 900, 16, generator=generator)
    G, seeds, Y = dirichlet(900, 4), torch.tensor([3, 400, 17]), torch.eye(4)[[0, 2, 0]]
    for kernel in ("elu", "exp"):
        S = absorbing(build(Heads(queries, queries, (30, 30)), G, kernel=kernel, beta=0.1), seeds)
        result = walk.infinite(S, sown(G, seeds, Y), alpha, 1e-3)
        matrix = S.exact(torch.eye(900, dtype=torch.float64))
        assert far(result.probabilities, solved(matrix, sown(G, seeds, Y), alpha)) <= result.bound
        assert result.outcome.reached is (result.bound <= 1e-3)


def test_where_float32_rows_cannot_carry_the_tolerance_the_outcome_says_so():
    G = dirichlet(100, 3)
    q = torch.randn(1, 100, 8, generator=torch.Generator().manual_seed(0))
    result = walk.infinite(build(Heads(q, q, (10, 10)), G, kernel="exp"), G, alpha=1 - 1e-6, tolerance=1e-4)
    assert result.outcome is walk.Outcome.STALLED
    assert not result.outcome.reached
    assert 1e-4 < result.bound < math.inf
    assert "float32" in result.outcome.advice


@pytest.mark.parametrize("steps", [0, 1, 5, 40, 400])
@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9, 0.999])
def test_the_truncated_walk_counts_its_round_off(alpha, steps):
    G = dirichlet(400, 5)
    q = torch.randn(1, 400, 8, generator=torch.Generator().manual_seed(0))
    S = build(Heads(q, q, (20, 20)), G, kernel="elu")
    result = walk.truncated(S, G, alpha, steps)
    truth = solved(S.exact(torch.eye(400, dtype=torch.float64)), G, alpha)
    assert far(result.probabilities, truth) <= result.bound
    assert result.bound <= 2 * alpha ** (steps + 1) * (1 + 1e-6) + 2e-6 / (1 - alpha)
    assert steps == 0 or result.bound >= 1e-7
    assert result.history[-1] == result.bound
    assert result.steps == steps


class StrippedFile:
    """A matrix of somebody else, which steps in float32 alone."""

    def __init__(self, matrix):
        self.matrix = matrix

    @property
    def n(self):
        return len(self.matrix)

    def __matmul__(self, X):
        return self.matrix @ X


@pytest.mark.parametrize("name", [name for name in ON_S if name != "woodbury"])
def test_a_matrix_without_float64_counts_the_worst_of_float32(name):
    G = dirichlet(80, 4)
    matrix = torch.rand(80, 80, generator=torch.Generator().manual_seed(0)) ** 6
    matrix = matrix / matrix.sum(1, keepdim=True)
    result = go(name, StrippedFile(matrix), G, 0.9)
    truth = solved(matrix.double(), G, 0.9)
    assert far(result.probabilities, truth) <= result.bound
    if name == "infinite":
        assert result.bound <= 1e-4
        assert not walk.infinite(StrippedFile(matrix), G, 0.999, 1e-4).outcome.reached


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", [name for name in ON_S if name != "woodbury"])
def test_what_is_not_finite_never_passes_as_reached(name, bad):
    matrix = torch.full((9, 9), 1 / 9)
    matrix[4, 4] = bad
    try:
        result = go(name, StrippedFile(matrix), dirichlet(9, 3), 0.9)
    except NerveSegError:
        return
    assert result.outcome is walk.Outcome.NOT_FINITE
    assert not result.outcome.reached
    assert result.bound == math.inf


def test_a_walk_of_anybody_with_nan_is_not_reached():
    P = torch.tensor([[0.5, math.nan]])
    made = walk.Walk(P, 3, 1e-9, walk.Outcome.CONVERGED)
    assert made.outcome is walk.Outcome.NOT_FINITE
    assert made.bound == math.inf


def heads_of(n, grid, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Heads(torch.randn(1, n, 4, generator=generator), torch.randn(1, n, 4, generator=generator), grid)


@pytest.mark.parametrize("name", registry.names("walks"))
@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda G: G[3].fill_(math.nan), ShapeError, "G with nan at token 3, column 0"),
        (lambda G: G[3, 1].fill_(math.inf), ShapeError, "G with inf at token 3, column 1"),
        (lambda G: G[5].mul_(2), StochasticError, "row sum 2 at token 5"),
        (lambda G: G.mul_(0.5), StochasticError, r"row sum 0\.5 at token"),
        (lambda G: G[7].copy_(torch.tensor([1.25, -0.25])), StochasticError, r"G with -0\.25 at token 7, column 1"),
    ],
)
def test_G_that_is_no_probability_is_refused_by_token(name, spoil, error, message):
    heads, G = heads_of(16, (4, 4)), torch.full((16, 2), 0.5)
    S = build(heads, G, kernel="elu")
    spoil(G)
    with pytest.raises(error, match=message):
        build(heads, G)
    module = registry.load("walks", name)
    if name == "iseg" and error is StochasticError:  # takes maps of any height
        module.solve(heads, G, module.Options(heads=(0,)))
        return
    with pytest.raises(error, match=message):
        module.solve(S if module.needs == "S" else heads, G, module.Options())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rows_are_taken_as_they_are(dtype):
    G = dirichlet(16, 30, share=1.0).to(dtype)
    S = build(heads_of(16, (4, 4)), G, kernel="elu")
    result = walk.infinite(S, G, 0.9)
    assert far(result.probabilities, solved(S.exact(torch.eye(16).double()), G, 0.9)) <= result.bound <= 1e-4


@pytest.mark.parametrize("keep", [None, 5])
@pytest.mark.parametrize("memory", [0.0, 0.1, 1024.0])
@pytest.mark.parametrize("kernel", ["exp", "elu"])
def test_the_step_in_float64_is_that_of_the_matrix_in_every_form(kernel, memory, keep):
    whole = heads_of(72, (8, 9))
    places = Places((0, 3), (0, 4), (5, 5), (8, 9))
    cut = lambda side, tile: side[0].T.unflatten(1, (8, 9))[:, *places.area(tile)].flatten(1).T[None].contiguous()  # noqa: E731
    tiled = TiledHeads(tuple(Heads(cut(whole.queries, t), cut(whole.keys, t), (5, 5)) for t in range(4)), places)
    for heads in (whole, tiled):
        S = build(heads, dirichlet(72, 3), kernel=kernel, keep=keep, memory=memory)
        X = torch.randn(72, 4, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(S.exact(X.double()).float(), S @ X, rtol=1e-5, atol=2e-6)
        assert S.exact(X.double()).dtype == torch.float64
        torch.testing.assert_close(S.exact(torch.ones(72, 1).double()), torch.ones(72, 1).double(), rtol=0, atol=3e-7)


def test_a_plain_transition_steps_in_float64_too():
    S = Transition(None, None, 0.0, (1, 3), torch.ones(1))
    X = torch.rand(3, 2).double()
    assert torch.equal(S.exact(X), X)


def test_a_certificate_knows_its_residual():
    S = build(heads_of(36, (6, 6)), G := dirichlet(36, 3), kernel="exp")
    proven = _certificate.certified(S, G, G, 0.9)
    matrix = S.exact(torch.eye(36).double())
    matrix = matrix / matrix.sum(1, keepdim=True)
    R = 0.1 * G.double() - G.double() + 0.9 * matrix @ G.double()
    torch.testing.assert_close(proven.residual, R, rtol=0, atol=1e-14)
    assert proven.size == pytest.approx(float(R.abs().sum(1).max()) / 0.1)
    assert 0 < proven.floor < 1e-5
