"""The sources that change CLIP's last blocks, against their equations written as loops over heads and tokens."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from nerveseg.labels import base, clearclip, gem, maskclip, naclip, sclip
from nerveseg.registry import options as make

SOURCES = (sclip, clearclip, naclip, gem)


def opts(module, **more):
    return make(module.Options, {"short_side": 64, "window": 0, "join_windows": "tokens", **more})


def last_input(module, clip, image, options):
    (view,) = module.look(image, {"clip": clip}, options)
    return view, view.activations.inputs[-1]


def per_head(clip, x, block=-1):
    layer = clip.model.vision_model.encoder.layers[block]
    u = layer.layer_norm1(x)
    d = x.shape[1] // clip.heads
    sides = (layer.self_attn.q_proj(u), layer.self_attn.k_proj(u), layer.self_attn.v_proj(u))
    return [[side[:, h * d : (h + 1) * d] for h in range(clip.heads)] for side in sides], d


def softmax_rows(logits):
    rows = []
    for row in logits:
        e = torch.exp(row - row.max())
        rows.append(e / e.sum())
    return torch.stack(rows)


def after(clip, x, A, V, *, residual, ffn, block=-1):
    """O·(A_h V_h), residual and feed-forward part as asked."""
    layer = clip.model.vision_model.encoder.layers[block]
    y = layer.self_attn.out_proj(torch.cat([a @ v for a, v in zip(A, V, strict=True)], dim=1))
    y = x + y if residual else y
    return y + layer.mlp(layer.layer_norm2(y)) if ffn else y


def projected(clip, y):
    """LN_post, projection, unit length, patches only."""
    z = clip.model.visual_projection(clip.model.vision_model.post_layernorm(y))[1:]
    return z / z.norm(dim=1, keepdim=True)


def ended(clip, x, A, V, *, residual, ffn):
    return projected(clip, after(clip, x, A, V, residual=residual, ffn=ffn))


def found(module, clip, image, options):
    networks = {"clip": clip}
    return module.encode(module.look(image, networks, options), networks, options).embeddings[0]


@torch.no_grad()
def test_sclip_adds_query_and_key_attention_and_keeps_the_residual(clip, image):
    options = opts(sclip)
    _, x = last_input(sclip, clip, image, options)
    (Q, K, V), d = per_head(clip, x)
    A = [softmax_rows(q @ q.T / math.sqrt(d)) + softmax_rows(k @ k.T / math.sqrt(d)) for q, k in zip(Q, K, strict=True)]
    torch.testing.assert_close(found(sclip, clip, image, options), ended(clip, x, A, V, residual=True, ffn=True), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(sclip.correlative(clip, x).sum(-1), torch.full((clip.heads, len(x)), 2.0))


@torch.no_grad()
@pytest.mark.parametrize("pairing", ["qq", "kk", "vv", "qk"])
def test_clearclip_is_self_attention_alone(clip, image, pairing):
    options = opts(clearclip, pairing=pairing)
    _, x = last_input(clearclip, clip, image, options)
    sides, d = per_head(clip, x)
    named = dict(zip("qkv", sides, strict=True))
    A = [softmax_rows(a @ b.T / math.sqrt(d)) for a, b in zip(named[pairing[0]], named[pairing[1]], strict=True)]
    torch.testing.assert_close(
        found(clearclip, clip, image, options), ended(clip, x, A, sides[2], residual=False, ffn=False), atol=1e-5, rtol=1e-4
    )


@torch.no_grad()
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("blocks", [2, 9])
def test_clearclip_sums_several_last_blocks_each_on_its_own_input(clip, image, blocks, kept):
    options = opts(clearclip, last_blocks=blocks, residual=kept, ffn=kept)
    (view,) = clearclip.look(image, {"clip": clip}, options)
    total = torch.zeros_like(view.activations.output)
    for b in range(max(0, 4 - blocks), 4):  # the checkpoint has four
        x = view.activations.inputs[b]
        (Q, _, V), d = per_head(clip, x, b)
        total += after(clip, x, [softmax_rows(q @ q.T / math.sqrt(d)) for q in Q], V, residual=kept, ffn=kept, block=b)
    torch.testing.assert_close(found(clearclip, clip, image, options), projected(clip, total), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_clearclip_with_its_own_attention_and_everything_kept_is_clip(clip, image):
    options = opts(clearclip, pairing="qk", residual=True, ffn=True)
    (view,) = clearclip.look(image, {"clip": clip}, options)
    wanted = base.unit(clip.project(view.activations.output))[1:]
    torch.testing.assert_close(found(clearclip, clip, image, options), wanted, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_naclip_adds_a_gaussian_between_patches_to_key_attention(clip, image):
    options = opts(naclip, sigma=1.5, peak=2.0)
    view, x = last_input(naclip, clip, image, options)
    (_, K, V), d = per_head(clip, x)
    h, w = view.activations.grid
    W = torch.zeros(len(x), len(x))
    for i in range(h * w):
        for j in range(h * w):
            far = (i // w - j // w) ** 2 + (i % w - j % w) ** 2
            W[1 + i, 1 + j] = 2.0 * math.exp(-far / (2 * 1.5**2))
    A = [softmax_rows(k @ k.T / math.sqrt(d) + W) for k in K]
    torch.testing.assert_close(found(naclip, clip, image, options), ended(clip, x, A, V, residual=False, ffn=False), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_naclip_without_its_gaussian_is_clearclip_of_keys(clip, image):
    one = found(naclip, clip, image, opts(naclip, peak=0.0))
    torch.testing.assert_close(one, found(clearclip, clip, image, opts(clearclip, pairing="kk", positions="bicubic-offset")))


@torch.no_grad()
def test_identity_mixing_is_maskclip_without_residual_and_ffn(clip, image):
    options = opts(maskclip, residual=False, ffn=False)
    _, x = last_input(maskclip, clip, image, options)
    y = clip.last_block(x, torch.eye(len(x)).expand(clip.heads, -1, -1), residual=False, ffn=False)
    torch.testing.assert_close(found(maskclip, clip, image, options), base.unit(clip.project(y))[1:], atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("blocks", "iterations", "temperature"), [(2, 1, 0.0), (3, 0, 0.0), (9, 2, 0.07)])
def test_gem_runs_beside_the_last_blocks(clip, image, blocks, iterations, temperature):
    options = opts(gem, blocks=blocks, iterations=iterations, temperature=temperature)
    (view,) = gem.look(image, {"clip": clip}, options)
    layers = clip.model.vision_model.encoder.layers
    first = max(0, len(layers) - blocks)
    g = view.activations.inputs[first]
    for b in range(first, len(layers)):
        x = view.activations.inputs[b]
        sides, d = per_head(clip, x, b)
        lengths = [float(row.norm()) for row in layers[b].layer_norm1(x)]
        gain = 1 / temperature if temperature else sum(lengths) / len(lengths) / math.sqrt(d)
        heads = []
        for h in range(clip.heads):
            total = torch.zeros(len(x), len(x))
            for side in sides:
                z = side[h] / side[h].norm(dim=1, keepdim=True)
                for _ in range(iterations):
                    z = softmax_rows(gain * z @ z.T) @ z
                    z = z / z.norm(dim=1, keepdim=True)
                total += softmax_rows(gain * z @ z.T) / 3
            heads.append(total @ sides[2][h])
        g = g + layers[b].self_attn.out_proj(torch.cat(heads, dim=1))
    wanted = base.unit(clip.project(g))[1:]
    torch.testing.assert_close(found(gem, clip, image, options), wanted, atol=1e-5, rtol=1e-4)


def test_gem_sees_a_square_unless_told_otherwise(clip, image):
    for fit, wanted in (("square", (4, 4)), ("aspect", (4, 6))):
        (view,) = gem.look(image, {"clip": clip}, opts(gem, fit=fit))
        assert view.activations.grid == wanted


@torch.no_grad()
@pytest.mark.parametrize("module", SOURCES)
def test_float16_networks_keep_their_attention_in_float32(clip, image, module):
    half = type(clip)(copy.deepcopy(clip.model).to(torch.bfloat16), clip.tokenizer, clip.words)
    low = found(module, half, image, opts(module))
    assert low.dtype == torch.float32
    assert float((low * found(module, clip, image, opts(module))).sum(1).min()) > 0.9
