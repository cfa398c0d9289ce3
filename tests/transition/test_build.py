"""The blend, the forms S is held in, and what build refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nerveseg import registry
from nerveseg.errors import OptionError, RegistryError, ShapeError
from nerveseg.transition import DenseMatrix, Heads, LowRank, Options, SparseRows, build
from nerveseg.transition.affinity import groups
from nerveseg.transition.global_graph import StreamedRows
from nerveseg.transition.kernels import exp, softmax

META = torch.device("meta")


def make(grid=(5, 6), count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n = grid[0] * grid[1]
    heads = Heads(torch.randn(count, n, 8, generator=generator), torch.randn(count, n, 8, generator=generator), grid)
    G = torch.rand(n, 3, generator=generator)
    return heads, G / G.sum(dim=1, keepdim=True)


def perplexity(S):
    rows = S.to_dense().double().clamp_min(1e-300)
    return float((-(rows * rows.log()).sum(dim=1)).exp().mean()) / S.n


@pytest.mark.parametrize("kernel", ["softmax", "elu"])
def test_beta_blends_the_two_graphs(kernel):
    heads, G = make()
    local, both, spread = (build(heads, G, kernel=kernel, beta=beta).to_dense() for beta in (0.0, 0.3, 1.0))
    torch.testing.assert_close(both, 0.7 * local + 0.3 * spread, rtol=1e-5, atol=1e-6)


def test_beta_zero_holds_no_global_graph_and_beta_one_no_stencil():
    heads, G = make()
    local, spread = build(heads, G, beta=0.0), build(heads, G, beta=1.0)
    assert local.spread is None
    assert local.bytes == 30 * 9 * 8
    assert spread.stencil is None
    assert isinstance(spread.spread, DenseMatrix)


def test_beta_zero_with_given_weights_never_looks_at_a_pair_of_far_tokens(monkeypatch):
    heads, G = make()

    def refuse(*_):
        pytest.fail("a global affinity was computed")

    monkeypatch.setattr(softmax, "rows", refuse)
    build(heads, G, beta=0.0, weights="mean")


def test_beyond_the_memory_budget_rows_are_made_anew_with_the_same_result(monkeypatch):
    heads, G = make()
    folded, streamed = build(heads, G, kernel="exp"), build(heads, G, kernel="exp", memory=0.0)
    assert isinstance(streamed.spread, StreamedRows)
    assert streamed.bytes <= 2 * 2 * 30 * 8 * 4 + 30 * 9 * 8
    torch.testing.assert_close(streamed @ G, folded @ G, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr("nerveseg.transition.global_graph._BLOCK_CPU", 7 * 30)
    torch.testing.assert_close(streamed @ G, folded @ G, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(build(heads, G, kernel="exp").to_dense(), folded.to_dense())


@pytest.fixture
def at_once(monkeypatch):
    """All heads in one group, as on an accelerator."""

    def set_groups():
        for name in ("assemble", "stencil"):
            monkeypatch.setattr(
                f"nerveseg.transition.{name}.groups", lambda heads, *_, low_rank=False: groups(heads, META, low_rank=low_rank)
            )

    return set_groups


@pytest.mark.parametrize("form", [{}, {"memory": 0.0}, {"keep": 5}, {"weights": torch.tensor([1.0, 0.0, 2.0])}, {"weights": "best"}])
@pytest.mark.parametrize("pairing", ["qk", "kk"])
@pytest.mark.parametrize("kernel", registry.names("kernels"))
def test_all_heads_at_once_are_head_by_head(kernel, pairing, form, at_once):
    """With the stuck rows that clamped kernels have; the reference is one group a head."""
    heads, G = make(count=3)
    heads.queries[:2, 4] = heads.keys[:2, 4] = -3.0 * heads.keys[:2].sum(dim=1)
    if kernel == "cosine_raw":
        heads = Heads(heads.queries.abs(), heads.keys.abs(), heads.grid)
    alone = build(heads, G, kernel=kernel, pairing=pairing, **form)
    at_once()
    together = build(heads, G, kernel=kernel, pairing=pairing, **form)
    assert together.stuck == alone.stuck
    torch.testing.assert_close(together.weights, alone.weights, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(together.to_dense(), alone.to_dense(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(together @ G, alone @ G, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("weights", ["mean", "best", "entropy"])
@pytest.mark.parametrize("kernel", ["softmax", "exp", "power", "anchor"])
def test_all_heads_at_once_are_as_sharp_as_head_by_head(kernel, weights, at_once):
    heads, G = make((8, 9), count=4)
    heads = Heads(heads.queries * torch.tensor([1.0, 0.2, 2.0, 1.0]).view(4, 1, 1), heads.keys, heads.grid)
    alone = build(heads, G, kernel=kernel, neighbours=0.2, weights=weights)
    at_once()
    together = build(heads, G, kernel=kernel, neighbours=0.2, weights=weights)
    # Each search may end anywhere within its half a percent; what the others do does not lead it elsewhere.
    assert together.sharpness == pytest.approx(alone.sharpness, rel=0.02)
    assert perplexity(together) == pytest.approx(perplexity(alone), rel=0.02)


def test_a_search_for_many_heads_waits_once_a_step(at_once, monkeypatch):
    heads, G = make((8, 9), count=6)
    at_once()
    waits, real = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: waits.append(self.numel()) or real(self))
    build(heads, G, kernel="exp", neighbours=0.2)
    assert waits[0] == 4  # whether G is what it should be
    assert set(waits[1:]) == {6}
    assert len(waits) <= 13  # a dozen steps at most, and one look at the weights


@pytest.mark.parametrize("kernel", ["cosine", "power"])
def test_streamed_rows_that_stay_in_place_are_counted_too(kernel):
    queries = torch.ones(1, 9, 4)
    queries[0, 4] = -1.0
    heads, G = Heads(queries, torch.ones(1, 9, 4), (3, 3)), torch.full((9, 2), 0.5)
    S = build(heads, G, kernel=kernel, beta=1.0, memory=0.0)
    assert S.stuck == 1
    torch.testing.assert_close((S @ torch.eye(9))[4], torch.eye(9)[4])


def test_a_head_without_weight_takes_no_room():
    heads, G = make(count=3)
    spread = build(heads, G, kernel="elu", weights="best").spread
    assert isinstance(spread, LowRank)
    assert spread.left.shape[1] == 8


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    count=st.integers(1, 3),
    beta=st.sampled_from([0.0, 0.2, 1.0]),
    kernel=st.sampled_from(["anchor", "cosine", "elu", "exp", "power", "shifted", "softmax"]),
    keep=st.sampled_from([None, 1, 4]),
    gain=st.sampled_from([1e-3, 1.0, 50.0]),
    seed=st.integers(0, 1000),
)
def test_rows_are_distributions_whatever_comes(height, width, count, beta, kernel, keep, gain, seed):
    heads, G = make((height, width), count, seed)
    S = build(Heads(gain * heads.queries, gain * heads.keys, heads.grid), G, beta=beta, kernel=kernel, keep=keep)
    dense = S.to_dense().double()
    assert float(dense.min()) >= -1e-6
    torch.testing.assert_close(dense.sum(dim=1), torch.ones(heads.n).double(), rtol=0, atol=3e-6)


# Half of random cosines are negative, and no exponent of `power` brings those tokens back: 0.8 is out of its reach.
SPREADS = [(kernel, nu) for kernel in ("softmax", "exp", "power", "anchor") for nu in (0.1, 0.4, 0.8) if (kernel, nu) != ("power", 0.8)]


@pytest.mark.parametrize(("kernel", "neighbours"), SPREADS)
def test_neighbours_is_the_mean_row_perplexity_of_every_head(kernel, neighbours):
    heads, G = make((8, 9))
    for weights in torch.eye(2):
        S = build(heads, G, kernel=kernel, beta=1.0, neighbours=neighbours, weights=weights)
        assert perplexity(S) == pytest.approx(neighbours, rel=0.02)


def test_fewer_neighbours_is_sharper_in_every_kernels_own_units():
    heads, G = make((8, 9))
    for kernel, falling in (("softmax", False), ("exp", True), ("power", True), ("anchor", True)):
        sharp, soft = (build(heads, G, kernel=kernel, neighbours=v).sharpness[0] for v in (0.1, 0.3))
        assert (sharp > soft) == falling


def test_neighbours_scales_away_what_a_model_multiplies_its_keys_by():
    heads, G = make((8, 9))
    louder = Heads(7 * heads.queries, 3 * heads.keys, heads.grid)
    here, there = (build(h, G, neighbours=0.2, beta=1.0).to_dense() for h in (heads, louder))
    torch.testing.assert_close(here, there, rtol=0.1, atol=1e-3)


def test_an_image_without_contrast_takes_the_nearest_sharpness_there_is():
    heads = Heads(torch.ones(2, 16, 4), torch.ones(2, 16, 4), (4, 4))
    for kernel in ("softmax", "exp", "power", "anchor"):
        S = build(heads, torch.full((16, 2), 0.5), kernel=kernel, neighbours=0.2)
        torch.testing.assert_close(S.to_dense().sum(dim=1), torch.ones(16))


def test_neighbours_without_a_sharpness_is_refused_with_the_kernels_that_have_one():
    heads, G = make()
    with pytest.raises(OptionError, match=r"anchor, exp, power, softmax"):
        build(heads, G, kernel="elu", neighbours=0.1)


def test_options_come_whole_or_by_name():
    heads, G = make()
    whole = build(heads, G, options=Options(kernel="exp", beta=0.2), beta=0.7)
    by_name = build(heads, G, kernel="exp", beta=0.7, kernel_options=exp.Options())
    assert whole.beta == 0.7
    torch.testing.assert_close(whole.to_dense(), by_name.to_dense())
    registry.check(Options())


def test_unknown_or_wild_knobs_are_refused():
    heads, G = make()
    with pytest.raises(OptionError, match="Did you mean 'beta'"):
        build(heads, G, betta=0.5)
    with pytest.raises(OptionError, match="beta"):
        build(heads, G, beta=1.5)
    with pytest.raises(OptionError, match="stay"):
        build(heads, G, stay=0.0)
    with pytest.raises(RegistryError, match="softmax"):
        build(heads, G, kernel="softmaxx")
    with pytest.raises(OptionError, match="tau"):
        build(heads, G, kernel="exp", kernel_options={"tau": -1.0})
    with pytest.raises(OptionError, match=r"softmax\.Options"):
        build(heads, G, kernel="softmax", kernel_options=exp.Options())


def test_a_G_of_another_grid_is_refused():
    heads, G = make()
    with pytest.raises(ShapeError, match=r"\(30, k\)"):
        build(heads, G[:-1])
    S = build(heads, G)
    with pytest.raises(ShapeError, match=r"\(30, k\)"):
        S @ G[:-1]


def test_the_callers_torch_state_is_left_alone():
    heads, G = make()
    state = torch.get_rng_state()
    S = build(Heads(heads.queries.requires_grad_(), heads.keys, heads.grid), G)
    assert not (S @ G).requires_grad
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)


def test_gathered_columns_that_stand_twice_add_up():
    kept = SparseRows(torch.tensor([[0, 0], [1, 0]], dtype=torch.int32), torch.tensor([[0.25, 0.75], [0.5, 0.5]]))
    assert (kept @ torch.eye(2)).tolist() == [[1.0, 0.0], [0.5, 0.5]]
