"""TagCLIP's equations, written out by hand on a random CLIP."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from nerveseg.errors import OptionError, ShapeError
from nerveseg.image.geometry import to_tensor
from nerveseg.labels import base
from nerveseg.labels import tagclip as source

FOUR = ("cat", "dog", "grass", "sky")


def block_by_hand(block, x, heads, mask):
    """One block of the vision tower with a mask added to q·k: (output, softmax without the mask, mean over heads)."""
    u, attention = block.layer_norm1(x), block.self_attn
    q, k, v = attention.q_proj(u), attention.k_proj(u), attention.v_proj(u)
    d = q.shape[1] // heads
    parts, plain = [], torch.zeros(len(x), len(x))
    for h in range(heads):
        at = slice(h * d, (h + 1) * d)
        products = q[:, at] @ k[:, at].T / math.sqrt(d)
        plain += products.softmax(1) / heads
        parts.append((products + mask).softmax(1) @ v[:, at])
    y = x + attention.out_proj(torch.cat(parts, 1))
    return y + block.mlp(block.layer_norm2(y)), plain


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


@pytest.fixture(scope="module")
def told(clip):
    vectors = clip.text(list(FOUR))
    return base.Words(FOUR[:3], (0, 1, 2), FOUR[3:], vectors[:3], vectors[3:])


@pytest.fixture(scope="module")
def options():
    return source.Options(votes=2, scale=60.0, relative=0.3)


@pytest.fixture(scope="module")
def features(clip, image, options):
    networks = {"clip": clip}
    return source.encode(source.look(image, networks, options), networks, options)


def test_the_pass_is_at_the_images_own_size_and_the_last_block_is_diagonal(clip, image, features, options):
    assert features.grid == (6, 9)  # 90 × 130 pixels, patches of 16, rounded up
    pixels = to_tensor(image, (96, 144))[None]
    tower = clip.model.vision_model
    with torch.no_grad():
        x = clip.vision(pixels).inputs[0]
        m, maps = len(x), []
        for k, block in enumerate(tower.encoder.layers):
            mask = -100.0 * (1 - torch.eye(m)) if k == 3 else torch.zeros(m, m)
            x, plain = block_by_hand(block, x, 4, mask)
            maps.append(plain[1:, 1:])
        z = clip.model.visual_projection(tower.post_layernorm(x))
    torch.testing.assert_close(features.embeddings[0], unit(z)[1:], atol=1e-5, rtol=1e-4)
    n = m - 1
    A = torch.zeros(n, n)
    for i in range(n):
        for j in range(n):
            votes = sum(bool(layer[i, j] > layer.mean()) for layer in maps)
            if votes >= options.votes:
                A[i, j] = sum(float(layer[i, j]) for layer in maps[0:3]) / 3
    torch.testing.assert_close(features.attention, A, atol=1e-6, rtol=1e-4)


def boxes_by_hand(values, grid):
    """The boxes of the connected parts (eight neighbours) above the mean, by a flood; they end one short of the last row and column."""
    m = (values - values.min()) / (values - values.min()).max()
    level = [int(float(v) * 255) for v in m]
    on = {i for i, v in enumerate(level) if v > int(float(m.mean()) * max(level))}
    inside = torch.zeros(grid)
    while on:
        part, frontier = set(), [min(on)]
        while frontier:
            i = frontier.pop()
            if i not in on:
                continue
            on.discard(i)
            part.add(i)
            r, c = divmod(i, grid[1])
            near = [(r + a, c + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
            frontier += [a * grid[1] + b for a, b in near if 0 <= a < grid[0] and 0 <= b < grid[1]]
        rows, columns = [i // grid[1] for i in part], [i % grid[1] for i in part]
        inside[min(rows) : min(max(rows) + 1, grid[0] - 1), min(columns) : min(max(columns) + 1, grid[1] - 1)] = 1
    return inside.flatten()


def refined_by_hand(features, told, options):
    strings = torch.cat([told.vectors, told.other_vectors])
    p = (options.scale * features.embeddings[0] @ strings.T).softmax(1)
    A = features.attention
    columns = []
    for c in range(4):
        inside = boxes_by_hand(A @ p[:, c], features.grid)
        columns.append(torch.stack([sum(A[i, j] * inside[j] * p[j, c] for j in range(len(p))) for i in range(len(p))]))
    return torch.stack(columns, dim=1)


def test_refined_patch_scores_by_hand(features, told, options):
    scores = source.score(features, told, {}, options)
    torch.testing.assert_close(scores.values, refined_by_hand(features, told, options)[:, :3], atol=1e-6, rtol=1e-4)
    assert scores.grid == features.grid


def test_the_second_look_by_hand(clip, features, told, options):
    P = refined_by_hand(features, told, options)
    s, strings = P[:, :3].amax(0), torch.cat([told.vectors, told.other_vectors])
    limit = P.min() + options.relative * (P.max() - P.min())
    tower, looked = clip.model.vision_model, 0
    expected = s.clone()
    for c in range(3):
        if s[c] <= limit:
            continue
        m = (P[:, c] - P[:, c].min()) / (P[:, c] - P[:, c].min()).max()
        on = [divmod(i, features.grid[1]) for i in range(len(m)) if m[i] > 0.5]
        top, bottom = min(r for r, _ in on), min(max(r for r, _ in on) + 1, features.grid[0] - 1)
        left, right = min(q for _, q in on), min(max(q for _, q in on) + 1, features.grid[1] - 1)
        if top == bottom or left == right:
            break
        crop = features.extra["pixels"][..., 16 * top : 16 * bottom, 16 * left : 16 * right]
        crop = torch.nn.functional.interpolate(crop, size=(64, 64), mode="bilinear")
        mask = torch.zeros(17, 17)
        for i in range(4):
            for j in range(4):
                cell = (top + i * (bottom - top) // 4, left + j * (right - left) // 4)
                if cell not in on:
                    mask[0, 1 + 4 * i + j] = -1000
        with torch.no_grad():
            x = clip.vision(crop).inputs[0]
            for block in tower.encoder.layers:
                x, _ = block_by_hand(block, x, 4, mask)
            z = unit(clip.model.visual_projection(tower.post_layernorm(x[0])))
        expected[c] = 0.5 * s[c] + 0.5 * (options.scale * strings @ z).softmax(0)[c]
        looked += 1
    assert looked, "choose another image or scale: nothing was looked at"
    torch.testing.assert_close(source.class_scores(features, told, {"clip": clip}, options), expected, atol=1e-5, rtol=1e-4)


def test_without_a_mask_it_is_clips_own_image_vector(clip):
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own = clip.model.vision_model(pixel_values=pixels).pooler_output
        own = unit(clip.model.visual_projection(own))
    torch.testing.assert_close(clip.image(pixels), own)
    torch.testing.assert_close(clip.image(pixels, inside=torch.ones(2, 16, dtype=torch.bool)), own, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("reidentify", [True, False])
def test_tags_are_the_classes_near_the_highest(clip, features, told, options, reidentify):
    chosen = dataclasses.replace(options, reidentify=reidentify)
    s = source.class_scores(features, told, {"clip": clip}, chosen)
    found = source.tags(features, told, {"clip": clip}, chosen)
    limit = float(s.min() + chosen.relative * (s.max() - s.min()))
    assert dict(found) == {name: pytest.approx(float(s[c])) for c, name in enumerate(FOUR[:3]) if s[c] > limit}
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    only = dataclasses.replace(chosen, restrict=True)
    values = source.score(features, told, {"clip": clip}, only).values
    plain = source.score(features, told, {"clip": clip}, chosen).values
    for c, name in enumerate(FOUR[:3]):
        assert torch.equal(values[:, c], plain[:, c] if name in dict(found) else torch.zeros(len(plain)))


def test_one_class_is_always_kept(clip, features, told, options):
    alone = base.Words(("cat",), (0,), (), told.vectors[:1], told.vectors[:0])
    assert [name for name, _ in source.tags(features, alone, {"clip": clip}, options)] == ["cat"]


def test_boxes_reach_the_edge_where_it_is_not_faithful(features, told, options):
    grid = (3, 4)
    corner = torch.zeros(12)
    corner[-1] = 1
    kept = source._boxes(corner, grid, faithful=False)
    assert kept.reshape(grid).nonzero().tolist() == [[2, 3]]
    assert source._boxes(corner, grid, faithful=True).sum() == 0
    assert torch.equal(source._boxes(torch.ones(12), grid, faithful=True), torch.ones(12))


def test_bad_input(clip, image, told):
    networks = {"clip": clip}
    far = source.Options(from_layer=-5)
    with pytest.raises(OptionError, match="from_layer"):
        source.encode(source.look(image, networks, far), networks, far)
    with pytest.raises(ShapeError, match="no view"):
        source.encode([], networks, source.Options())
    with pytest.raises(ShapeError, match="own"):
        source.score(base.Features(torch.ones(1, 4, 20), (2, 2)), told, networks, source.Options())
