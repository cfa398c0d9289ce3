from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

from nerveseg.errors import OptionError, ShapeError
from nerveseg.labels import base, cliper
from nerveseg.registry import options as make


@pytest.fixture(scope="module")
def text():
    return base.unit(torch.randn(4, 20, generator=torch.Generator().manual_seed(5)))


def opts(**more):
    return make(cliper.Options, {"short_side": 64, "scale": 5.0, **more})


def encoded(clip, image, options):
    return cliper.encode(cliper.look(image, {"clip": clip}, options), {"clip": clip}, options)


@pytest.mark.parametrize("faithful", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_together_are_layers_one_by_one(clip, image, text, words, monkeypatch, faithful, dtype):
    """All at once is what an accelerator does, one by one what a CPU does; scores as well as embeddings."""
    half = dataclasses.replace(clip, model=copy.deepcopy(clip.model).to(dtype))
    options = opts(faithful=faithful)
    alone = encoded(half, image, options)
    asked = words(text, (0, 1, 2, 3), text[:0])
    before = cliper.score(alone, asked, {}, options).values
    monkeypatch.setattr(cliper, "_together", lambda layers, _device: [slice(0, 2), slice(2, layers)])
    together = encoded(half, image, options)
    torch.testing.assert_close(together.embeddings, alone.embeddings, rtol=1e-6, atol=1e-6 if dtype == torch.float32 else 2e-2)
    assert torch.equal(together.attention, alone.attention)
    torch.testing.assert_close(cliper.score(alone, asked, {}, options).values, before, rtol=1e-6, atol=1e-6)


def test_a_row_that_the_clamp_empties_stays_whatever_the_dtype():
    A = torch.full((1, 3, 3), 1.0)  # all alike: nothing is above its column's mean
    for dtype in (torch.float32, torch.float16):
        M = cliper._regularise(A.clone(), torch.empty_like(A), torch.empty(1, 3, 3, dtype=dtype))
        assert torch.equal(M, torch.eye(3, dtype=dtype)[None])


def by_hand(clip, activations, *, faithful):
    """Steps 1–4 written as loops over heads, from the equations; returns unit patch embeddings a layer and Ā."""
    blocks = clip.model.vision_model.encoder.layers
    L, H, m = len(blocks), clip.heads, len(activations.output)
    d = activations.output.shape[1] // H
    A = []
    for h in range(H):
        total = torch.zeros(m, m)
        for i in range(L - 1):
            u = blocks[i].layer_norm1(activations.inputs[i])
            q, k = blocks[i].self_attn.q_proj(u), blocks[i].self_attn.k_proj(u)
            total += torch.softmax(q[:, h * d : (h + 1) * d] @ k[:, h * d : (h + 1) * d].T / math.sqrt(d), 1)
        A.append(total)

    def round_(a):
        a = a / a.sum(0, keepdim=True)
        a = a / a.sum(1, keepdim=True)
        b = (a + a.T) / 2
        b = torch.clamp(b - b.mean(0, keepdim=True), min=0)
        return a, b / b.sum(1, keepdim=True)

    if not faithful:
        for _ in range(L - 1):
            A = [round_(a)[0] for a in A]
    rows = []
    for k in range(L):
        done = [round_(a) for a in A]
        M = [pair[1] for pair in done]
        if faithful:
            A = [pair[0] for pair in done]
        x = activations.inputs[k]
        E = blocks[k].layer_norm1(x) if k < L - 1 and faithful else x
        v = blocks[-1].self_attn.v_proj(blocks[-1].layer_norm1(E))
        mixed = torch.cat([M[h] @ v[:, h * d : (h + 1) * d] for h in range(H)], 1)
        y = blocks[-1].self_attn.out_proj(mixed)
        z = clip.model.visual_projection(clip.model.vision_model.post_layernorm(y))
        rows.append(F.normalize(z, dim=1)[1:])
    return torch.stack(rows).detach(), torch.stack(M).mean(0)[1:, 1:].detach()


@pytest.mark.parametrize("faithful", [True, False])
def test_steps_1_to_4_equal_plain_loops(clip, image, faithful):
    options = opts(faithful=faithful)
    (view,) = cliper.look(image, {"clip": clip}, options)
    E, attention = by_hand(clip, view.activations, faithful=faithful)
    found = encoded(clip, image, options)
    torch.testing.assert_close(found.embeddings, E, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(found.attention, attention, atol=1e-6, rtol=1e-4)
    assert found.windows is None


@pytest.mark.parametrize("select", [-1, -2])
def test_steps_5_and_6_equal_plain_loops(clip, image, text, select, words):
    options = opts(select_layer=select, attention_thr=0.9)
    features = encoded(clip, image, options)
    classes, background = text[:3], text[3:]
    T = torch.cat([text, F.normalize(classes.mean(0, keepdim=True), dim=1)])
    stack = torch.stack([torch.softmax(5.0 * E @ T.T, 1)[:, :3] for E in features.embeddings])
    s = stack[select]
    for c in range(3):
        for i in range(len(s)):
            if s[i, c] < 0.9 * s[:, c].max():
                stack[select][i, c] = 0
    assert (s == 0).any()
    spread = torch.zeros_like(s)
    for j in range(len(s)):
        for i in range(len(s)):
            spread[j] += s[i] * features.attention[i, j]
    found = cliper.score(features, words(classes, (0, 1, 2), background), {}, options)
    torch.testing.assert_close(found.values, spread + stack.mean(0), atol=1e-5, rtol=1e-5)


def test_clean_form_thresholds_beside_the_mean_and_spreads_from_the_left(clip, image, text, words):
    options = opts(attention_thr=0.9, faithful=False)
    features = encoded(clip, image, options)
    T = torch.cat([text, F.normalize(text.mean(0, keepdim=True), dim=1)])
    stack = torch.stack([torch.softmax(5.0 * E @ T.T, 1)[:, :4] for E in features.embeddings])
    s = torch.where(stack[-2] >= 0.9 * stack[-2].amax(0), stack[-2], 0)
    rows = features.attention / features.attention.sum(1, keepdim=True)
    found = cliper.score(features, words(text, (0, 1, 2, 3), text[:0]), {}, options)
    torch.testing.assert_close(found.values, rows @ s + stack.mean(0))


def test_balanced_attention_has_rows_that_sum_to_1_and_nearly_balanced_columns():
    A = torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(0)) + 0.05
    for _ in range(8):
        A, M = cliper.regularised(A)
    torch.testing.assert_close(A.sum(-1), torch.ones(3, 9))
    torch.testing.assert_close(A.sum(-2), torch.ones(3, 9), atol=1e-2, rtol=0)
    assert M.min() >= 0
    torch.testing.assert_close(M.sum(-1), torch.ones(3, 9))


def test_a_row_that_the_clamp_empties_stays_in_place():
    _, M = cliper.regularised(torch.ones(1, 4, 4))
    torch.testing.assert_close(M[0], torch.eye(4))


def test_background_acts_in_the_denominator_only(clip, image, text, words):
    options = opts()
    features = encoded(clip, image, options)
    without, with_ = (cliper.score(features, words(text[:3], (0, 1, 2), b), {}, options).values for b in (text[:0], text[3:]))
    assert without.shape == with_.shape == (features.embeddings.shape[1], 3)
    assert float(with_.sum()) < float(without.sum())
    assert float(with_.max()) <= 2


@pytest.mark.parametrize("select", [-1, -3])
def test_fuse_off_is_the_chosen_layer_spread_and_no_mean(clip, image, text, words, select):
    features = encoded(clip, image, opts())
    T = torch.cat([text, F.normalize(text.mean(0, keepdim=True), dim=1)])
    p = torch.softmax(5.0 * features.embeddings[select] @ T.T, 1)[:, :4]
    options = opts(fuse=False, select_layer=select, attention_thr=0.0)
    found = cliper.score(features, words(text, (0, 1, 2, 3), text[:0]), {}, options)
    torch.testing.assert_close(found.values, features.attention.T @ p)


def test_windows_join_as_the_mean_of_both_probabilities(clip, image, text, words):
    options = opts(window=48, stride=32, attention_thr=0.0)
    features = encoded(clip, image, options)
    assert features.windows.shape == features.embeddings.shape
    T = torch.cat([text, F.normalize(text.mean(0, keepdim=True), dim=1)])
    p = sum(torch.softmax(5.0 * E @ T.T, -1)[..., :4] for E in (features.embeddings, features.windows)) / 2
    found = cliper.score(features, words(text, (0, 1, 2, 3), text[:0]), {}, options)
    torch.testing.assert_close(found.values, features.attention.T @ p[-2] + p.mean(0))


def test_window_embeddings_are_averaged_and_mixed_by_the_pasted_attention(clip, image):
    options = opts(window=48, stride=32)
    views = list(cliper.look(image, {"clip": clip}, options))
    h, w = views[0].grid
    n = h * w
    E, count = torch.zeros(4, n, 20), torch.zeros(n, 1)
    pasted, pairs = torch.zeros(n, n), torch.zeros(n, n)
    for view in views[1:]:
        part, attention = by_hand(clip, view.activations, faithful=True)
        rows, columns = view.activations.grid
        cells = [(view.top + i) * w + view.left + j for i in range(rows) for j in range(columns)]
        for a, i in enumerate(cells):
            E[:, i] += part[:, a]
            count[i] += 1
            for b, j in enumerate(cells):
                pasted[i, j] += attention[a, b]
                pairs[i, j] += 1
    mixing = pasted / (pairs + 1e-5)
    mixing /= mixing.sum(1, keepdim=True)
    found = encoded(clip, image, options).windows
    torch.testing.assert_close(found, mixing.T @ (E / count), atol=1e-4, rtol=1e-3)


def test_one_window_over_all_of_an_image_is_mixed_by_its_own_attention(clip, image, text, words):
    options = opts(window=4096)
    (view,) = cliper.look(image, {"clip": clip}, options)
    E, attention = by_hand(clip, view.activations, faithful=True)
    n = len(attention)
    mixed = torch.zeros_like(E)
    for i in range(n):
        for j in range(n):
            mixed[:, j] += attention[i, j] / attention[i].sum() * E[:, i]
    features = encoded(clip, image, options)
    torch.testing.assert_close(features.windows, mixed, atol=1e-5, rtol=1e-4)
    said = words(text, (0, 1, 2, 3), text[:0])
    both = [cliper.score(encoded(clip, image, given), said, {}, given).values for given in (options, opts())]
    assert float((both[0] - both[1]).abs().max()) > 1e-3


def test_a_layer_that_is_not_there_is_refused(clip, image, text, words):
    options = opts(select_layer=-5)
    with pytest.raises(OptionError, match="-4 to -1"):
        cliper.score(encoded(clip, image, options), words(text, (0, 1, 2, 3), text[:0]), {}, options)


def test_views_without_the_whole_image_are_refused(clip, image):
    views = list(cliper.look(image, {"clip": clip}, opts(window=48)))
    with pytest.raises(ShapeError, match="whole image"):
        cliper.encode(views[1:], {"clip": clip}, opts())
