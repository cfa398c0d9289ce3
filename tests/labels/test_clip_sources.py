from __future__ import annotations

import pytest
import torch

from nerveseg.errors import ShapeError
from nerveseg.labels import base, maskclip
from nerveseg.labels import clip as dense
from nerveseg.picture.geometry import to_tensor


def test_dense_clip_ends_as_the_model_does(clip, picture):
    options = dense.Options(short_side=64)
    features = dense.encode(dense.look(picture, {"clip": clip}, options), {"clip": clip}, options)
    tower = clip.model.vision_model
    with torch.no_grad():
        pixels = to_tensor(picture, (features.grid[0] * 16, features.grid[1] * 16))[None]
        x = clip.vision(pixels).output
        z = clip.model.visual_projection(tower.post_layernorm(x))[1:]
    torch.testing.assert_close(features.embeddings[0], z / z.norm(dim=1, keepdim=True))


@pytest.mark.parametrize(("residual", "ffn"), [(True, True), (False, False), (True, False)])
def test_maskclip_is_the_value_path(clip, picture, residual, ffn):
    options = maskclip.Options(short_side=64, residual=residual, ffn=ffn)
    (view,) = maskclip.look(picture, {"clip": clip}, options)
    block = clip.model.vision_model.encoder.layers[-1]
    x = view.activations.inputs[-1]
    with torch.no_grad():
        y = block.self_attn.out_proj(block.self_attn.v_proj(block.layer_norm1(x)))
        y = x + y if residual else y
        y = y + block.mlp(block.layer_norm2(y)) if ffn else y
        z = clip.model.visual_projection(clip.model.vision_model.post_layernorm(y))[1:]
    found = maskclip.encode([view], {"clip": clip}, options).embeddings[0]
    torch.testing.assert_close(found, z / z.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("source", [dense, maskclip])
def test_scores_are_probabilities_whose_logits_can_be_had(checkpoints, clip, picture, source):
    options = source.Options(short_side=64, scale=20.0)
    features = source.encode(source.look(picture, {"clip": clip}, options), {"clip": clip}, options)
    text = clip.text(["cat", "dog", "grass", "sky"])
    scores = source.score(features, checkpoints.words(text[:3], (0, 0, 1), text[3:]), {}, options)
    logits = scores.logits
    assert logits.maps.shape == (4, *scores.grid)
    assert logits.maps.abs().max() <= 1 + 1e-5
    assert (logits.groups, logits.scale, logits.join) == ((0, 0, 1), 20.0, "max")
    torch.testing.assert_close(scores.values, base.probabilities(logits.maps.flatten(1).T, (0, 0, 1), scale=20.0, join="max"))


def by_loops(cosines, keys, *, pd=0.0, ks=0.0, faithful=True):
    """Prompt denoising, then key smoothing, entry by entry."""
    c = cosines.clone()
    n, s = c.shape
    p = torch.softmax(100 * c, 1)
    for string in range(s):
        if max(float(p[i, string]) for i in range(n)) < pd:
            c[:, string] = -100
    if not ks:
        return c
    p = torch.softmax(100 * c, 1)
    K = keys.clone()
    for i in range(len(K) if not faithful else K.shape[1]):
        if faithful:
            K[:, i] /= K[:, i].norm()
        else:
            K[i] /= K[i].norm()
    out = p.clone()
    for i in range(n):
        if p[i].max() < ks:
            out[i] = sum(float(K[i] @ K[j]) * p[j] for j in range(n))
    return out


@torch.no_grad()
@pytest.mark.parametrize("faithful", [True, False])
@pytest.mark.parametrize(("pd", "ks"), [(0.95, 0.0), (0.0, 0.9), (0.95, 0.9)])
def test_maskclips_refinements_equal_plain_loops(clip, picture, words, pd, ks, faithful):
    options = maskclip.Options(short_side=64, pd_thresh=pd, ks_thresh=ks, faithful=faithful, scale=3.0)
    networks = {"clip": clip}
    (view,) = maskclip.look(picture, networks, options)
    features = maskclip.encode([view], networks, options)
    block = clip.model.vision_model.encoder.layers[-1]
    keys = block.self_attn.k_proj(block.layer_norm1(view.activations.inputs[-1]))[1:]
    keys = block.self_attn.out_proj(keys) if faithful else keys
    # The first two words are nearly one, so that neither is ever sure and prompt denoising drops both.
    E = features.embeddings[0]
    twin = E[0] + 0.002 * torch.randn(20, generator=torch.Generator().manual_seed(2))
    vectors = base.unit(torch.stack([E[0], twin, E[-1], -E.mean(0)]))
    wanted = by_loops(E @ vectors.T, keys, pd=pd, ks=ks, faithful=faithful)
    scores = maskclip.score(features, words(vectors[:3], (0, 1, 1), vectors[3:]), networks, options)
    torch.testing.assert_close(scores.logits.maps.flatten(1).T, wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scores.values, base.probabilities(wanted, (0, 1, 1), scale=3.0, join="max"), atol=1e-5, rtol=1e-4)
    plain = maskclip.score(features, words(vectors[:3], (0, 1, 1), vectors[3:]), networks, maskclip.Options())
    assert not torch.allclose(plain.logits.maps, scores.logits.maps)
    assert features.bytes == E.nbytes + (keys.nbytes if ks else 0)


@torch.no_grad()
@pytest.mark.parametrize("join", ["tokens", "pixels"])
def test_key_smoothing_takes_windows(clip, picture, words, join):
    options = maskclip.Options(short_side=64, window=48, stride=32, join_windows=join, pd_thresh=0.1, ks_thresh=0.9)
    networks = {"clip": clip}
    features = maskclip.encode(maskclip.look(picture, networks, options), networks, options)
    assert features.extra["keys"].shape[0] == (1 if join == "tokens" else len(features.parts))
    assert torch.isfinite(maskclip.score(features, words(clip.text(["cat", "dog"]), (0, 1)), networks, options).values).all()


def test_key_smoothing_needs_the_keys(clip, picture, words):
    networks = {"clip": clip}
    features = maskclip.encode(maskclip.look(picture, networks, maskclip.Options(short_side=64)), networks, maskclip.Options())
    with pytest.raises(ShapeError, match="without keys"):
        maskclip.score(features, words(clip.text(["cat", "dog"]), (0, 1)), networks, maskclip.Options(ks_thresh=0.5))
