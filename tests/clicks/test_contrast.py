"""The graph of clicks: S with the image's edges in its local part, written out in loops, and what it must keep."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nerveseg import transition
from nerveseg.clicks import Click, Options, prepare, solved, wider
from nerveseg.clicks.edges import colours, edged
from nerveseg.clicks.options import BESIDE, EDGED
from nerveseg.image import load_image

GRID = (4, 5)
N = GRID[0] * GRID[1]


def make(number, beta=0.4, grid=GRID):
    chance = torch.Generator().manual_seed(number)
    n = grid[0] * grid[1]
    heads = transition.Heads(torch.randn(2, n, 5, generator=chance), torch.randn(2, n, 5, generator=chance), grid)
    G = torch.rand(n, 4, generator=chance) + 0.01
    G = G / G.sum(1, keepdim=True)
    return transition.build(heads, G, beta=beta, kernel="exp"), G, torch.rand(n, 3, generator=chance)


def apart(S):
    """The global and the local part, densely."""
    local = dataclasses.replace(S, spread=None, beta=0.0).to_dense().double()
    whole = dataclasses.replace(S, stencil=None, beta=1.0).to_dense().double() if S.spread is not None else torch.zeros_like(local)
    return whole, local


def by_loops(S, c, sharpness, beta):
    """β·W + (1 − β)·L̃, entry by entry."""
    whole, local = apart(S)
    near = [
        (i, j)
        for i in range(S.n)
        for j in range(S.n)
        if i != j and max(abs(i // S.grid[1] - j // S.grid[1]), abs(i % S.grid[1] - j % S.grid[1])) == 1
    ]
    far = {(i, j): math.sqrt(sum((float(c[i, k]) - float(c[j, k])) ** 2 for k in range(3))) for i, j in near}
    differ = [value for value in far.values() if value > 0]
    mean = sum(differ) / len(differ) if differ else 1.0
    out = local.clone()
    for i, j in near:
        kept = float(local[i, j]) * math.exp(-sharpness * far[i, j] / mean)
        out[i, i] += local[i, j] - kept
        out[i, j] = kept
    return beta * whole + (1 - beta) * out


@pytest.mark.parametrize("beta", [None, 0.0, 0.1])
@pytest.mark.parametrize("own", [0.0, 0.4])
def test_steps_are_weakened_by_contrast_and_what_they_lose_stays(own, beta):
    S, _, c = make(1, beta=own)
    found = edged(S, c, sharpness=1.5, beta=beta).to_dense().double()
    expected = by_loops(S, c, 1.5, own if beta is None or S.spread is None else beta)
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.allclose(found.sum(1), torch.ones(N, dtype=torch.float64), atol=1e-5)
    possible = S.to_dense() > 0
    possible.fill_diagonal_(fill_value=True)
    assert bool((possible | (found == 0)).all())


def test_contrast_is_counted_in_the_images_own():
    S, _, c = make(2)
    faint = edged(S, 0.1 * c, sharpness=2).to_dense()
    assert torch.allclose(faint, edged(S, c, sharpness=2).to_dense(), atol=1e-6)
    assert torch.allclose(edged(S, torch.full((N, 3), 0.3), sharpness=2).to_dense(), S.to_dense(), atol=1e-6)
    assert torch.equal(edged(S, c, sharpness=0).to_dense(), S.to_dense())


def test_what_has_no_local_graph_stays_as_it_is():
    S, _, c = make(3, beta=1.0)
    assert edged(S, c, sharpness=2) is S
    thing = object()
    assert edged(thing, c, sharpness=2) is thing


def test_a_tokens_colour_is_the_mean_of_its_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 15, 3), dtype=np.uint8)
    found = colours(load_image(pixels), GRID)
    for y in range(4):
        for x in range(5):
            block = pixels[2 * y : 2 * y + 2, 3 * x : 3 * x + 3].reshape(-1, 3).mean(0) / 255
            assert np.allclose(found[5 * y + x].numpy(), block, atol=1 / 255)


def chances(S, index, alpha):
    """(I − αDS)h = 1_B, densely."""
    eye = torch.eye(S.n, dtype=torch.float64)
    D, wide = eye.clone(), torch.zeros(S.n, 1, dtype=torch.float64)
    D[index, index] = 0
    wide[index] = 1
    return torch.linalg.solve(eye - alpha * D @ S.to_dense().double(), wide)[:, 0]


@given(st.integers(0, 40), st.floats(0.1, 5), st.sampled_from([0.5, 0.9, 0.99]), st.integers(0, N - 1))
@settings(max_examples=25, deadline=None)
def test_on_the_local_graph_the_chance_still_falls_by_alpha_a_token(number, sharpness, alpha, seed):
    S, _, c = make(number, beta=0.0)
    h = chances(edged(S, c, sharpness=sharpness), [seed], alpha)
    for token in range(N):
        far = max(abs(token // 5 - seed // 5), abs(token % 5 - seed % 5))
        assert float(h[token]) <= alpha**far + 1e-6


@given(st.integers(0, 40), st.floats(0.1, 5), st.sampled_from([0.0, 0.1, None]))
@settings(max_examples=15, deadline=None)
def test_what_no_walk_on_s_connects_stays_apart(number, sharpness, beta):
    S, _, c = make(number)
    # Two blocks: the left two columns of tokens and the right three.
    left = torch.arange(N) % 5 < 2
    cut = S.stencil.values * (left[:, None] == left[S.stencil.indices.long()])
    cut[:, 4] += S.stencil.values.sum(1) - cut.sum(1)
    whole = S.spread @ torch.eye(N)
    whole = whole * (left[:, None] == left[None])
    apart_ = dataclasses.replace(
        S,
        stencil=dataclasses.replace(S.stencil, values=cut),
        spread=transition.operators.DenseMatrix(whole / whole.sum(1, keepdim=True)),
    )
    h = chances(edged(apart_, c, sharpness=sharpness, beta=beta), [0], 0.99)
    assert float(h[~left].abs().max()) == 0
    if beta != 0.0:  # the global graph connects all tokens of a block; the stencil alone need not
        assert float(h[left].min()) > 0


IMAGE = load_image(np.random.default_rng(1).integers(0, 256, (8, 10, 3), dtype=np.uint8))
SEEN = {"image": IMAGE, "size": IMAGE.size}


@pytest.mark.parametrize("often", [True, False])
@pytest.mark.parametrize("beta", [0.0, 0.4])
def test_clicks_walk_on_it_and_labels_do_not(often, beta, ground):
    S, G, _ = make(4, beta=beta)
    given = prepare(ground(S, G, Options(alpha=0.97, contrast=1.5, beta=0.1, tolerance=1e-4), **SEEN), often=often)
    found = solved(given, [Click("b", points=(1, 1)), Click("new", points=(9, 7))])
    dense = edged(S, colours(IMAGE, GRID), sharpness=1.5, beta=0.1).to_dense().double()
    index, Y = [0, N - 1], torch.eye(5, dtype=torch.float64)[[1, 3]]
    D, wide = torch.eye(N, dtype=torch.float64), torch.zeros(N, 5, dtype=torch.float64)
    D[index, index] = 0
    wide[index] = Y
    H = torch.linalg.solve(torch.eye(N, dtype=torch.float64) - 0.97 * D @ dense, wide)
    h = H.sum(1, keepdim=True)
    free = wider(given.P, 5).double()
    assert torch.allclose(found.P.double(), H + (1 - h) * free, atol=2e-4)
    assert torch.equal(found.P[index].double(), Y)
    assert torch.allclose(found.P.sum(1), torch.ones(N), atol=1e-5)
    assert bool(((found.P.double() - free).abs().sum(1) <= 2 * h[:, 0] + 4e-4).all())


def test_an_edge_of_the_image_holds_a_click():
    chance = torch.Generator().manual_seed(5)
    flat = torch.randn(2, 1, 5, generator=chance).expand(2, 100, 5).contiguous()
    S = transition.build(transition.Heads(flat, flat, (10, 10)), torch.full((100, 4), 0.25), beta=0.0, kernel="exp")
    pixels = np.full((10, 10, 3), 40, np.uint8)
    pixels[:, 5:] = 200
    h = chances(edged(S, colours(load_image(pixels), (10, 10)), sharpness=4), [5 * 10 + 4], 0.99)
    assert float(h[5 * 10 + 3]) > 3 * float(h[5 * 10 + 5])
    plain = chances(S, [5 * 10 + 4], 0.99)
    assert float(plain[5 * 10 + 5]) > 3 * float(h[5 * 10 + 5])


def test_where_it_does_not_count(ground):
    S, G, _ = make(6)
    assert prepare(ground(S, G, Options(), **SEEN), often=False).alpha == EDGED
    for options in (Options(contrast=0), Options(system="within")):
        made = prepare(ground(S, G, options, **SEEN), often=False)
        assert made.carrier is S
        assert made.alpha == (BESIDE if options.system == "beside" else 0.9)
    blind = prepare(dataclasses.replace(ground(S, G, Options(), **SEEN), image=None), often=True)
    assert (blind.carrier, blind.alpha) == (S, BESIDE)


def test_the_same_factors_serve_where_alphas_agree(ground):
    S, G, _ = make(7)
    given = dataclasses.replace(ground(S, G, Options(contrast=0, alpha=0.9), **SEEN), Z=torch.eye(4))
    both = prepare(given, often=True).resolvents
    assert both["clicks"] is both["walk"]
    apart_ = prepare(dataclasses.replace(given, options=Options(alpha=0.9)), often=True).resolvents
    assert apart_["clicks"] is not apart_["walk"]
