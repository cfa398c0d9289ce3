"""What every kernel has to keep, whatever file it comes from."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from nerveseg import registry
from nerveseg.errors import OptionError
from nerveseg.transition import Heads, build
from nerveseg.transition.affinity import Affinity

KERNELS = registry.names("kernels")
PAIRINGS = ("qk", "kk", "qq")
BETAS = (0.0, 0.4, 1.0)
GRIDS = ((5, 7), (1, 9), (9, 1), (1, 1))


def make(grid=(5, 7), *, count=3, width=8, k=4, dtype=torch.float32, seed=0):
    """Heads whose cosines are mostly positive, so that even the raw cosine has row sums, and a G."""
    generator = torch.Generator().manual_seed(seed)
    n = grid[0] * grid[1]
    shared = 2 * torch.randn(1, 1, width, generator=generator)
    queries, keys = (torch.randn(count, n, width, generator=generator) + shared for _ in range(2))
    G = torch.rand(n, k, generator=generator)
    return Heads(queries.to(dtype), keys.to(dtype), grid), G / G.sum(dim=1, keepdim=True)


@pytest.fixture(params=KERNELS)
def kernel(request):
    return request.param


def test_a_kernel_declares_what_it_is(kernel):
    module = registry.load("kernels", kernel)
    assert isinstance(module.low_rank, bool)
    assert isinstance(module.stochastic, bool)
    registry.check(module.Options())
    if module.sharpness is not None:
        (field,) = [field for field in registry.knobs(module.Options) if field.name == module.sharpness]
        assert field.metadata["high"] is not None, "neighbours searches between the knob's ends"
    assert hasattr(module, "features" if module.low_rank else "rows")


def test_rows_of_several_heads_are_those_of_each(kernel):
    """On an accelerator all heads come at once, each with its own sharpness; a low-rank kernel gets one at a time."""
    module = registry.load("kernels", kernel)
    if module.low_rank:
        return
    heads, _ = make()
    options = [module.Options()] * 3
    if module.sharpness:
        options = [dataclasses.replace(module.Options(), **{module.sharpness: number}) for number in (0.7, 2.0, 5.0)]
    A, B = module.prepare(heads.queries, heads.keys, heads.grid, module.Options())
    pairs = [module.prepare(Q, K, heads.grid, module.Options()) for Q, K in zip(heads.queries, heads.keys, strict=True)]
    assert torch.equal(A, torch.stack([pair[0] for pair in pairs]))
    assert torch.equal(B, torch.stack([pair[1] for pair in pairs]))
    alone = [module.rows(left @ right.mT, own) for (left, right), own in zip(pairs, options, strict=True)]
    at_once = Affinity(module, module.Options(), A, B)
    if module.sharpness:
        at_once = at_once.sharp([0.7, 2.0, 5.0])
    rows, stuck = at_once.rows(slice(None))
    torch.testing.assert_close(rows, torch.stack([one for one, _ in alone]), rtol=1e-6, atol=1e-7)
    assert (stuck is None) == all(one is None for _, one in alone)


@pytest.mark.parametrize("keep", [None, 3])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("pairing", PAIRINGS)
def test_rows_are_distributions_and_the_operator_is_its_matrix(kernel, pairing, beta, keep):
    heads, G = make()
    S = build(heads, G, kernel=kernel, pairing=pairing, beta=beta, keep=keep)
    dense = S.to_dense()
    torch.testing.assert_close(dense.double().sum(dim=1), torch.ones(35).double(), rtol=0, atol=2e-6)
    if S.stochastic:
        assert float(dense.min()) >= -1e-7
    X = torch.randn(35, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(S @ X, dense @ X, rtol=1e-5, atol=2e-6)
    assert float(S.weights.sum()) == pytest.approx(1.0, abs=1e-6)
    assert S.stochastic or not registry.load("kernels", kernel).stochastic


@pytest.mark.parametrize("grid", GRIDS)
def test_odd_grids(kernel, grid):
    heads, G = make(grid)
    n = grid[0] * grid[1]
    dense = build(heads, G, kernel=kernel).to_dense()
    assert dense.shape == (n, n)
    torch.testing.assert_close(dense.sum(dim=1), torch.ones(n), rtol=0, atol=2e-6)


def test_the_operator_is_linear(kernel):
    heads, G = make()
    S = build(heads, G, kernel=kernel)
    X, Y = torch.randn(2, 35, 3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(S @ (2 * X - 3 * Y), 2 * (S @ X) - 3 * (S @ Y), rtol=1e-5, atol=1e-5)


def test_columns_are_independent(kernel):
    heads, G = make()
    S = build(heads, G, kernel=kernel)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close((S @ G)[:, order], S @ G[:, order].contiguous())
    torch.testing.assert_close(S @ G[:, 1:2], (S @ G)[:, 1:2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_heads_are_computed_in_float32(kernel, dtype):
    heads, G = make(dtype=dtype)
    S = build(heads, G, kernel=kernel)
    exact = build(Heads(heads.queries.float(), heads.keys.float(), heads.grid), G, kernel=kernel)
    assert (S @ G.to(dtype)).dtype == torch.float32
    torch.testing.assert_close(S.to_dense(), exact.to_dense())


def test_tokens_permute_on_the_global_graph(kernel):
    """Without a grid the order of tokens means nothing, up to the anchor kernel's choice of landmarks: there all tokens are landmarks."""
    heads, G = make((1, 30))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    moved = Heads(heads.queries[:, order], heads.keys[:, order], heads.grid)
    there = build(heads, G, kernel=kernel, beta=1.0, entropy_share=1.0).to_dense()
    here = build(moved, G[order], kernel=kernel, beta=1.0, entropy_share=1.0).to_dense()
    torch.testing.assert_close(here, there[order][:, order], rtol=1e-4, atol=1e-6)


def test_heads_permute(kernel):
    heads, G = make()
    order = torch.tensor([2, 0, 1])
    moved = Heads(heads.queries[order], heads.keys[order], heads.grid)
    here, there = build(moved, G, kernel=kernel), build(heads, G, kernel=kernel)
    torch.testing.assert_close(here.weights, there.weights[order])
    torch.testing.assert_close(here.to_dense(), there.to_dense(), rtol=1e-4, atol=1e-6)


def test_the_same_input_gives_the_same_bytes(kernel):
    heads, G = make()
    assert torch.equal(build(heads, G, kernel=kernel).to_dense(), build(heads, G, kernel=kernel).to_dense())


def test_a_constant_image_is_walked_uniformly(kernel):
    grid = (4, 4)
    heads = Heads(torch.ones(2, 16, 8), torch.ones(2, 16, 8), grid)
    S = build(heads, torch.full((16, 2), 0.5), kernel=kernel, beta=1.0)
    torch.testing.assert_close(S.to_dense(), torch.full((16, 16), 1 / 16), rtol=1e-5, atol=1e-7)


def test_inputs_are_left_as_they_were(kernel):
    heads, G = make()
    before = heads.queries.clone(), heads.keys.clone(), G.clone()
    S = build(heads, G, kernel=kernel, pairing="kk")
    X = G.clone()
    S @ X
    for now, then in zip((heads.queries, heads.keys, G, X), (*before, before[2]), strict=True):
        assert torch.equal(now, then)


def test_neighbours_is_solved_wherever_a_kernel_has_a_sharpness(kernel):
    heads, G = make((6, 6))
    if registry.load("kernels", kernel).sharpness is None:
        with pytest.raises(OptionError, match="no sharpness to solve"):
            build(heads, G, kernel=kernel, neighbours=0.3)
        return
    S = build(heads, G, kernel=kernel, beta=1.0, neighbours=0.3, weights=torch.tensor([0.0, 1.0, 0.0]))
    rows = S.to_dense().double().clamp_min(1e-300)
    assert float((-(rows * rows.log()).sum(dim=1)).exp().mean()) / 36 == pytest.approx(0.3, rel=0.02)
    assert len(S.sharpness) == 3
