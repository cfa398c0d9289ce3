"""ProxyCLIP against its equations written as loops over heads and tokens."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from nerveseg.backbones.dino import MEAN, STD
from nerveseg.errors import OptionError
from nerveseg.image.geometry import CLIP_MEAN
from nerveseg.labels import maskclip, proxyclip
from nerveseg.labels._windows import bilinear, kept_ratio
from nerveseg.registry import options as make


@pytest.fixture(scope="module")
def networks(clip, dino):
    return {"clip": clip, "dino": dino}


def opts(**more):
    return make(proxyclip.Options, {"short_side": 64, "window": 0, **more})


def views(image, networks, options):
    return list(proxyclip.look(image, networks, options))


def by_hand(clip, dino_tokens, dino_grid, x, grid, beta, gamma):
    """f before normalisation, token by token and head by head."""
    tower = clip.model.vision_model
    block = tower.encoder.layers[-1]
    m, d = len(dino_tokens), x.shape[1] // clip.heads
    unit = [t / t.norm() for t in dino_tokens]
    S = torch.stack([torch.stack([a @ b for b in unit]) for a in unit])
    mean = float(sum(float(s) for s in S.flatten())) / m**2
    A = torch.zeros(m, m)
    for i in range(m):
        M = [gamma * (float(S[i, j]) - beta * mean) for j in range(m)]
        kept = {j: math.exp(value) for j, value in enumerate(M) if value >= 0}
        for j, value in kept.items():
            A[i, j] = value / sum(kept.values())
    v = block.self_attn.v_proj(block.layer_norm1(x))[1:]
    heads = []
    for h in range(clip.heads):
        maps = v[:, h * d : (h + 1) * d].T.reshape(1, d, *grid)
        up = F.interpolate(maps, size=dino_grid, mode="bilinear", align_corners=False)[0].flatten(1).T
        heads.append(A @ up)
    return clip.model.visual_projection(tower.post_layernorm(block.self_attn.out_proj(torch.cat(heads, dim=1))))


@torch.no_grad()
@pytest.mark.parametrize("what", ["output", "q", "k", "v"])
def test_embeddings_are_those_of_the_equations(networks, image, what):
    clip, dino = networks["clip"], networks["dino"]
    options = opts(what=what, beta=0.9)
    (seen,) = views(image, networks, options)
    x = seen.view.activations.inputs[-1]
    z = by_hand(clip, seen.tokens, seen.grid, x, seen.view.activations.grid, 0.9, 3.0)
    (part,) = proxyclip.encode([seen], networks, options).parts
    torch.testing.assert_close(part.embeddings, z / z.norm(dim=1, keepdim=True), atol=1e-5, rtol=1e-4)
    assert part.grid == (14, 14)  # 112 × 112 after zeros around 64 × 92, in patches of 8
    assert dino.patch == 8


@torch.no_grad()
def test_dino_sees_the_same_window_in_imagenets_colours(networks, image):
    options = opts(window=56, stride=28)
    seen = views(image, networks, options)
    size = kept_ratio(image.size, 64)
    assert size == (64, 92)
    assert {(one.box.top, one.box.left) for one in seen} == {(top, left) for top in (0, 8) for left in (0, 28, 36)}
    last = seen[-1]
    pixels = bilinear(torch.tensor(image.pixels).permute(2, 0, 1), size).float() / 255
    crop = pixels[:, last.box.top : last.box.top + 56, last.box.left : last.box.left + 56]
    normalised = (crop - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    expected = networks["dino"].tokens(normalised[None], positions="bicubic-offset")
    torch.testing.assert_close(last.tokens, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("window", [0, 60])
def test_zeros_around_a_window_are_clips_mean_in_imagenets_colours(networks, image, window):
    seen = views(image, networks, opts(window=window, stride=30))
    box = seen[-1].box
    assert (box.height % 56, box.width % 56) != (0, 0)
    pixels = bilinear(torch.tensor(image.pixels).permute(2, 0, 1), (64, 92)).float() / 255
    canvas = torch.tensor(CLIP_MEAN).view(3, 1, 1).expand(3, *box.padded).clone()
    (top, left), own = box.before, pixels[:, box.top : box.top + box.height, box.left : box.left + box.width]
    canvas[:, top : top + box.height, left : left + box.width] = own
    expected = networks["dino"].tokens(
        ((canvas - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))[None], positions="bicubic-offset"
    )
    torch.testing.assert_close(seen[-1].tokens, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_with_identity_it_is_maskclip_without_residual_and_feed_forward(checkpoints, networks, tmp_path, image):
    """Both on one grid, and so sharp that every token sees itself alone."""
    from nerveseg.backbones.dino import load

    coarse = load(checkpoints.make_dino(tmp_path / "dino", patch=16, side=64))
    options = opts(pad_to=16, gamma=1000.0, what="q")
    both = {"clip": networks["clip"], "dino": coarse}
    (part,) = proxyclip.encode(views(image, both, options), both, options).parts
    other = make(
        maskclip.Options, {"short_side": 64, "join_windows": "pixels", "positions": "bicubic-offset", "residual": False, "ffn": False}
    )
    other = make(maskclip.Options, {**vars(other), "pad_to": 16})
    (mask,) = maskclip.encode(maskclip.look(image, both, other), both, other).parts
    v = torch.eye(5).expand(2, 5, 5)
    torch.testing.assert_close(proxyclip.mixed(torch.eye(5), v, beta=2.0, gamma=1000.0), v)
    assert part.grid == mask.grid
    torch.testing.assert_close(part.embeddings, mask.embeddings, atol=1e-3, rtol=1e-3)


def test_the_mean_is_over_all_pairs_and_negative_entries_are_out():
    f = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    v = torch.randn(3, 40, 4, generator=torch.Generator().manual_seed(1))
    unit = f / f.norm(dim=1, keepdim=True)
    M = 3 * (unit @ unit.T - 1.2 * (unit @ unit.T).mean())
    A = M.masked_fill(M < 0, -torch.inf).softmax(1)
    torch.testing.assert_close(proxyclip.mixed(f, v, beta=1.2, gamma=3.0), A @ v)


def test_blocks_of_rows_give_the_same(monkeypatch):
    f = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    v = torch.randn(3, 40, 4, generator=torch.Generator().manual_seed(1))
    whole = proxyclip.mixed(f, v, beta=1.2, gamma=3.0)
    monkeypatch.setattr(proxyclip, "_BLOCK", 100)
    torch.testing.assert_close(proxyclip.mixed(f, v, beta=1.2, gamma=3.0), whole)


def test_an_image_of_one_colour_keeps_its_values():
    v = torch.randn(3, 40, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(proxyclip.mixed(torch.ones(40, 6), v, beta=1.2, gamma=3.0), v)


def test_windows_need_not_be_square(networks, image):
    options = opts(short_side=40, window=56)
    features = proxyclip.encode(views(image, networks, options), networks, options)
    assert {part.grid for part in features.parts} == {(7, 7)}
    assert features.grid == (5, 7)
    wide = opts(short_side=60, window=0, pad_to=0)
    assert proxyclip.encode(views(image, networks, wide), networks, wide).parts[0].grid == (7, 10)


def test_a_block_that_dino_lacks_is_refused(networks, image):
    with pytest.raises(OptionError, match="-3 to -1"):
        views(image, networks, opts(layer=-4))
