"""Kernels × pairings × walks on tokens that are masked, tiny, huge, or all alike."""

from __future__ import annotations

import pytest
import torch

from nerveseg import registry
from nerveseg.errors import OptionError, ShapeError, StochasticError
from nerveseg.transition import Heads, build

KERNELS = registry.names("kernels")
PAIRINGS = ("qk", "kk", "qq")
BETAS = (0.0, 0.5, 1.0)


def heads(seed=0, d=4):
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(2, 16, d, generator=generator)
    return queries, queries.clone()


def zeros(q, k):
    q[0, 5], k[0, 6] = 0, 0


def zero_together(q, k):
    q[0, 5:7], k[0, 5:7] = 0, 0


def all_zero(q, k):
    q.zero_(), k.zero_()


def tiny(q, k):
    q[0, 5:8] *= 1e-30
    k[0, 5:8] *= 1e-30


def denormal(q, k):
    q[0, 5:8] *= 1e-42
    k[0, 6:9] *= 1e-42


def large(q, k):
    q[0, 5:8] *= 1e14
    k[0, 6:9] *= 1e14


def alike(q, k):
    q[:] = q[:, :1].clone()
    k[:] = k[:, :1].clone()


def opposite(q, k):
    k.copy_(-q)
    k[0, 3] = -q[0, 2]


def far_below_zero(q, k):
    q[0] -= 300
    k[0, 4:9] -= 40


HARD = (zeros, zero_together, all_zero, tiny, denormal, large, alike, opposite, far_below_zero)


@pytest.mark.parametrize("spoil", HARD)
@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_are_distributions_and_every_walk_is_finite(kernel, pairing, spoil):
    queries, keys = heads()
    spoil(queries, keys)
    G = torch.full((16, 2), 0.5)
    G[3] = torch.tensor([0.9, 0.1])
    for beta in BETAS:
        try:
            S = build(Heads(queries, keys, (4, 4)), G, kernel=kernel, pairing=pairing, beta=beta)
        except StochasticError:
            assert kernel == "cosine_raw"  # whose row sums vanish, and it says so
            continue
        rows = S.exact(torch.eye(16, dtype=torch.float64))
        assert bool(torch.isfinite(rows).all())
        torch.testing.assert_close(rows.sum(1), torch.ones(16).double(), rtol=0, atol=2e-6 if S.stochastic else 1e-3)
        if S.stochastic:
            assert float(rows.min()) >= 0
        for name in registry.names("walks"):
            module = registry.load("walks", name)
            thin = registry.load("kernels", kernel).low_rank
            if module.needs != "S" or (name == "woodbury" and not thin and beta > 0):
                continue
            result = module.solve(S, G, module.Options())
            assert bool(torch.isfinite(result.probabilities).all()) or not S.stochastic
            assert result.outcome.reached is bool(torch.isfinite(result.probabilities).all()) or not S.stochastic


@pytest.mark.parametrize("spoil", HARD)
@pytest.mark.parametrize("name", [name for name in registry.names("walks") if registry.load("walks", name).needs == "heads"])
def test_walks_on_heads_are_finite(name, spoil):
    queries, keys = heads()
    spoil(queries, keys)
    module = registry.load("walks", name)
    options = module.Options(heads=(0, 1)) if name == "iseg" else module.Options()
    result = module.solve(Heads(queries, keys, (4, 4)), torch.full((16, 2), 0.5), options)
    assert bool(torch.isfinite(result.probabilities).all())
    assert result.outcome.reached


@pytest.mark.parametrize("size", [1e18, float("inf"), float("nan")])
@pytest.mark.parametrize("side", ["queries", "keys"])
def test_what_float32_cannot_multiply_is_refused_by_token(side, size):
    given = dict(zip(("queries", "keys"), heads(), strict=True))
    given[side][1, 7, 2] = size
    with pytest.raises(ShapeError, match=f"{side} with .* at head 1, token 7, column 2"):
        Heads(**given, grid=(4, 4))


@pytest.mark.parametrize("kernel", KERNELS)
def test_lengths_do_not_count_where_cosines_are_compared(kernel):
    """1e-30 and 1e14 times a vector have its cosines."""
    queries, keys = heads()
    module = registry.load("kernels", kernel)
    if kernel in ("softmax", "elu", "cosine_raw"):  # which compare products, or cancel out here
        return
    G = torch.full((16, 2), 0.5)
    plain = build(Heads(queries, keys, (4, 4)), G, kernel=kernel).to_dense()
    for factor in (1e-30, 1e-20, 1e14):
        scaled = build(Heads(queries * factor, keys * factor, (4, 4)), G, kernel=kernel).to_dense()
        torch.testing.assert_close(scaled, plain, rtol=1e-4, atol=1e-6)
    assert module.stochastic


@pytest.mark.parametrize("shift", [-2.0, -6.0, -12.0, -16.0, -30.0, -80.0, -200.0])
def test_elu_keeps_its_digits_far_below_zero(shift):
    queries, keys = (side + shift for side in heads())
    S = build(Heads(queries, keys, (4, 4)), torch.full((16, 2), 0.5), kernel="elu", beta=1.0, weights="mean")
    phi = lambda x: torch.where(x > 0, x + 1, x.double().exp())  # noqa: E731
    rows = phi(queries.double()) @ phi(keys.double()).mT
    wanted = (rows / rows.sum(-1, keepdim=True)).mean(0)
    torch.testing.assert_close(S.to_dense().double(), wanted, rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("knobs", "kernel_options"),
    [
        ({"stay": 1e-300}, {}),
        ({"stay": 1e300}, {}),
        ({"local_power": 1e-300}, {}),
        ({"kernel": "softmax"}, {"temperature": 1e-300}),
        ({"kernel": "power"}, {"power": 1e-300}),
        ({"peakedness": 1e308}, {}),
        ({"local_power": 1e6}, {}),
        ({"stay": 1e-6}, {}),
        ({"kernel": "softmax"}, {"temperature": 1e-6}),
        ({"weights": torch.tensor([1e300, 1e300], dtype=torch.float64)}, {}),
    ],
)
def test_knobs_that_float32_cannot_hold_are_refused_and_others_give_finite_rows(knobs, kernel_options):
    queries, keys = heads()
    made = Heads(queries, keys, (4, 4))
    try:
        S = build(made, torch.full((16, 2), 0.5), kernel_options=kernel_options, **knobs)
    except OptionError:
        return
    rows = S.to_dense()
    assert bool(torch.isfinite(rows).all())
    torch.testing.assert_close(rows.sum(1), torch.ones(16), rtol=0, atol=1e-6)


STRANGE = {
    "sparse": lambda tensor: tensor.to_sparse(),
    "meta": lambda tensor: tensor.to("meta"),
    "complex": lambda tensor: tensor.to(torch.complex64),
    "quantised": lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.quint8),
    "nested": lambda tensor: torch.nested.nested_tensor(list(tensor)),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch, of its prototypes
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", STRANGE)
def test_tensors_that_hold_no_plain_numbers_are_refused(kind):
    queries, keys = heads()
    G = torch.full((16, 2), 0.5)
    strange = STRANGE[kind]
    with pytest.raises(ShapeError, match="Got queries in"):
        Heads(strange(queries), keys, (4, 4))
    with pytest.raises(ShapeError, match="Got keys in"):
        Heads(queries, strange(keys), (4, 4))
    with pytest.raises(ShapeError, match="Got G in"):
        build(Heads(queries, keys, (4, 4)), strange(G))
    S = build(Heads(queries, keys, (4, 4)), G)
    for name in registry.names("walks"):
        walk = registry.load("walks", name)
        with pytest.raises(ShapeError, match="Got G in"):
            walk.solve(S, strange(G), walk.Options())
