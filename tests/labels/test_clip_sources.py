from __future__ import annotations

import pytest
import torch
from torch import nn

from nerveseg import recipe as recipes
from nerveseg.backbones.clip import AS_TRAINED, Blocks
from nerveseg.backbones.dino import MEAN, STD
from nerveseg.backbones.offload import moved
from nerveseg.errors import ShapeError
from nerveseg.image.geometry import to_tensor
from nerveseg.labels import _windows, base, maskclip
from nerveseg.labels import clip as dense


def test_dense_clip_ends_as_the_model_does(clip, image):
    options = dense.Options(short_side=64)
    features = dense.encode(dense.look(image, {"clip": clip}, options), {"clip": clip}, options)
    tower = clip.model.vision_model
    with torch.no_grad():
        pixels = to_tensor(image, (features.grid[0] * 16, features.grid[1] * 16))[None]
        x = clip.vision(pixels).output
        z = clip.model.visual_projection(tower.post_layernorm(x))[1:]
    torch.testing.assert_close(features.embeddings[0], z / z.norm(dim=1, keepdim=True))


@pytest.mark.parametrize(("residual", "ffn"), [(True, True), (False, False), (True, False)])
def test_maskclip_is_the_value_path(clip, image, residual, ffn):
    options = maskclip.Options(short_side=64, residual=residual, ffn=ffn)
    (view,) = maskclip.look(image, {"clip": clip}, options)
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
def test_scores_are_probabilities_whose_logits_can_be_had(checkpoints, clip, image, source):
    options = source.Options(short_side=64, scale=20.0)
    features = source.encode(source.look(image, {"clip": clip}, options), {"clip": clip}, options)
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
def test_maskclips_refinements_equal_plain_loops(clip, image, words, pd, ks, faithful):
    options = maskclip.Options(short_side=64, pd_thresh=pd, ks_thresh=ks, faithful=faithful, scale=3.0)
    networks = {"clip": clip}
    (view,) = maskclip.look(image, networks, options)
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
def test_key_smoothing_takes_windows(clip, image, words, join):
    options = maskclip.Options(short_side=64, window=48, stride=32, join_windows=join, pd_thresh=0.1, ks_thresh=0.9)
    networks = {"clip": clip}
    features = maskclip.encode(maskclip.look(image, networks, options), networks, options)
    assert features.extra["keys"].shape[0] == (1 if join == "tokens" else len(features.parts))
    assert torch.isfinite(maskclip.score(features, words(clip.text(["cat", "dog"]), (0, 1)), networks, options).values).all()


def test_key_smoothing_needs_the_keys(clip, image, words):
    networks = {"clip": clip}
    features = maskclip.encode(maskclip.look(image, networks, maskclip.Options(short_side=64)), networks, maskclip.Options())
    with pytest.raises(ShapeError, match="without keys"):
        maskclip.score(features, words(clip.text(["cat", "dog"]), (0, 1)), networks, maskclip.Options(ks_thresh=0.5))


def test_the_recipe_runs_the_network_as_maskclips_program_does(clip, image):
    """GELU, norms that add 1e-6, ImageNet's colours, by hand on a copy of the network."""
    import copy

    options = recipes.load("maskclip").changed({"labels.short_side": 64}).labels.options
    (part,) = maskclip.encode(maskclip.look(image, {"clip": clip}, options), {"clip": clip}, options).parts
    model = copy.deepcopy(clip.model)
    for module in model.vision_model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    for layer in model.vision_model.encoder.layers:
        layer.mlp.activation_fn = nn.GELU()
    pixels = _windows.bilinear(torch.tensor(image.pixels).permute(2, 0, 1), (64, 92))[None].float() / 255
    pixels = (pixels - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    other = type(clip)(model, clip.tokenizer)
    with torch.no_grad():
        seen = other.vision(_windows.crop(pixels, part.box), positions="bicubic")
        z = other.project(other.last_block(seen.inputs[-1], None, residual=True, ffn=True))[1:]
    torch.testing.assert_close(part.embeddings, z / z.norm(dim=1, keepdim=True), atol=1e-5, rtol=1e-4)
    plain = maskclip.Options(**{**vars(options), "activation": "own", "norm_eps": 0.0, "colours": "clip"})
    (kept,) = maskclip.encode(maskclip.look(image, {"clip": clip}, plain), {"clip": clip}, plain).parts
    assert float((kept.embeddings - part.embeddings).abs().max()) > 1e-3


def test_a_network_run_in_another_way_has_the_same_weights_and_leaves_the_first_alone(clip, image):
    blocks = Blocks("gelu", 1e-6)
    pixels = to_tensor(image, (64, 96))[None]
    before = clip.vision(pixels).output
    with torch.no_grad():
        other = clip.run_as(blocks)
        assert not torch.equal(clip.vision(pixels, blocks=blocks).output, before)
    assert clip.run_as(blocks) is other
    assert clip.run_as(AS_TRAINED) is clip
    assert [a is b for a, b in zip(clip.model.parameters(), other.model.parameters(), strict=True)].count(False) == 0
    torch.testing.assert_close(clip.vision(pixels).output, before, rtol=0, atol=0)
    assert moved(clip, torch.device("cpu")).run_as(blocks) is not other, "what was made of it is forgotten where it moves"
    assert not any(module._forward_hooks for module in other.model.modules())
