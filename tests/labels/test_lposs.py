"""LPOSS as a label source against its equations, window by window."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from nerveseg.errors import ShapeError
from nerveseg.labels import lposs, maskclip
from nerveseg.registry import options as make
from nerveseg.walk.lposs import affinity


@pytest.fixture(scope="module")
def networks(checkpoints, clip, tmp_path_factory):
    """CLIP and DINO of one patch, as LPOSS has them."""
    from nerveseg.backbones.dino import load

    return {"clip": clip, "dino": load(checkpoints.make_dino(tmp_path_factory.mktemp("dino16"), patch=16, side=64))}


def opts(**more):
    return make(lposs.Options, {"short_side": 64, "window": 48, "stride": 32, "neighbours": 9, "steps": 300, "tolerance": 1e-7, **more})


@torch.no_grad()
def by_hand(image, networks, options, vectors):
    """X of every window, then the mean over windows at each pixel."""
    clip, dino = networks["clip"], networks["dino"]
    seen = list(lposs.look(image, networks, options))
    block, tower = clip.model.vision_model.encoder.layers[-1], clip.model.vision_model
    Y, f, places = [], [], []
    for one in seen:
        x = one.view.activations.inputs[-1]
        y = x + block.self_attn.out_proj(block.self_attn.v_proj(block.layer_norm1(x)))
        y = y + block.mlp(block.layer_norm2(y))
        z = F.normalize(clip.model.visual_projection(tower.post_layernorm(y))[1:], dim=1)
        z = F.interpolate(z.T.reshape(1, -1, 3, 3), size=one.grid, mode="bilinear", align_corners=False)[0].flatten(1).T
        Y.append(z / z.norm(dim=1, keepdim=True) @ vectors.T)
        f.append(one.tokens)
        p = dino.patch
        places += [[one.box.top + p * (r + 0.5), one.box.left + p * (c + 0.5)] for r in range(one.grid[0]) for c in range(one.grid[1])]
    graph = affinity(torch.cat(f), torch.tensor(places), neighbours=options.neighbours).matrix()
    A = torch.eye(len(graph), dtype=torch.float64) - options.alpha * graph.double()
    X = (1 - options.alpha) * torch.linalg.solve(A, torch.cat(Y).double()).float()
    total, count, at = torch.zeros(len(vectors), 64, 92), torch.zeros(64, 92), 0
    for one in seen:
        own, at = X[at : at + len(one.tokens)], at + len(one.tokens)
        up = F.interpolate(own.T.reshape(1, -1, *one.grid), size=(48, 48), mode="bilinear", align_corners=False)[0]
        total[:, one.box.top : one.box.top + 48, one.box.left : one.box.left + 48] += up
        count[one.box.top : one.box.top + 48, one.box.left : one.box.left + 48] += 1
    return total / count


@pytest.mark.parametrize("patch", [16, 8])
def test_windows_are_one_graph_and_their_mean_at_each_pixel(checkpoints, networks, dino, image, patch):
    networks = networks if patch == 16 else {"clip": networks["clip"], "dino": dino}
    options = opts()
    features = lposs.encode(lposs.look(image, networks, options), networks, options)
    assert features.pixels == (64, 92)
    assert len(features.parts) == 2 * 3
    text = networks["clip"].text(["cat", "dog", "grass", "sky"])
    scores = lposs.score(features, checkpoints.words(text[:3], (0, 0, 1), text[3:]), networks, options)
    torch.testing.assert_close(scores.logits.maps, by_hand(image, networks, options, text), atol=1e-4, rtol=1e-4)
    assert scores.logits.groups == (0, 0, 1)


def test_values_of_all_heads_lie_side_by_side(networks, image):
    seen = next(iter(lposs.look(image, networks, opts())))
    assert seen.tokens.shape == (9, 24)
    assert opts().what == "v"


def test_without_propagation_it_is_maskclip(checkpoints, networks, image):
    options = opts(alpha=0.0)
    told = checkpoints.words(networks["clip"].text(["cat", "dog"]), (0, 1))
    found = lposs.score(lposs.encode(lposs.look(image, networks, options), networks, options), told, networks, options)
    other = make(maskclip.Options, {"short_side": 64, "window": 48, "stride": 32, "join_windows": "pixels"})
    features = maskclip.encode(maskclip.look(image, networks, other), networks, other)
    expected = maskclip.score(features, told, networks, other)
    torch.testing.assert_close(found.logits.maps, expected.logits.maps, atol=1e-5, rtol=1e-4)


def test_fewer_patches_than_neighbours(checkpoints, networks, image):
    options = opts(neighbours=400)
    features = lposs.encode(lposs.look(image, networks, options), networks, options)
    n = sum(len(part.embeddings) for part in features.parts)
    assert n < 400
    assert len(features.extra["values"]) <= n * n
    assert features.bytes > features.extra["values"].nbytes


def test_patches_are_dinos(clip, dino, image):
    both = {"clip": clip, "dino": dino}
    features = lposs.encode(lposs.look(image, both, opts()), both, opts())
    assert {part.grid for part in features.parts} == {(6, 6)}
    assert features.grid == (8, 12)
    assert int(features.extra["indices"].max()) == 6 * 36 - 1


def test_another_sources_features_are_refused(checkpoints, networks, image):
    other = make(maskclip.Options, {"short_side": 64})
    features = maskclip.encode(maskclip.look(image, networks, other), networks, other)
    told = checkpoints.words(networks["clip"].text(["cat", "dog"]), (0, 1))
    with pytest.raises(ShapeError, match="graph"):
        lposs.score(features, told, networks, opts())


def test_the_backgrounds_strings_are_joined_before_maps_reach_the_image(checkpoints, networks, image):
    told = checkpoints.words(networks["clip"].text(["cat", "dog"]), (0, 1), networks["clip"].text(["grass", "sky"]))
    features = lposs.encode(lposs.look(image, networks, opts()), networks, opts())
    assert lposs.score(features, told, networks, opts()).logits.early
    assert not lposs.score(features, told, networks, opts(join="sum")).logits.early
