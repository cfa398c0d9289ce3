"""GroupViT against its equations written out, and against transformers' own segmentation where the two mean the same.

They do where shares stay soft and nothing is restricted: transformers gives scale² · Σ_g M_pg cos(g, t) at every pixel, linear in the
cosines. The original program, and this source, take a softmax over the words first, a one-hot M, and the top classes alone.
"""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from nerveseg.errors import ShapeError
from nerveseg.image.geometry import to_tensor
from nerveseg.image.load import load_image
from nerveseg.labels import groupvit as source

FOUR = ["cat", "dog", "grass", "sky"]


@pytest.fixture(scope="module")
def square(checkpoints):
    return load_image(checkpoints.colours(64, 64, seed=3))


def encoded(groupvit, image, **options):
    chosen = source.Options(short_side=64, **options)
    networks = {"groupvit": groupvit}
    return source.encode(source.look(image, networks, chosen), networks, chosen), chosen, networks


def test_it_is_transformers_own_segmentation_where_the_two_mean_the_same(groupvit, square):
    features, _, _ = encoded(groupvit, square, window=0)
    pixels = to_tensor(square, (64, 64), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))[None]
    tokens = groupvit.tokenizer(FOUR, padding=True, return_tensors="pt")
    with torch.no_grad():
        own = groupvit.model(**tokens, pixel_values=pixels, output_segmentation=True, return_dict=True).segmentation_logits[0]
    soft = source.members(features.extra["shares"][0], (4, 4), 16, hard=False)
    ours = groupvit.scale**2 * soft @ (features.embeddings[0] @ groupvit.text(FOUR).T)
    torch.testing.assert_close(ours.T.reshape(4, 64, 64), own, atol=1e-4, rtol=1e-4)


def by_hand(features, text, groups, scale, options, zoom, classes):
    """The file's equations, one number at a time."""
    h, w = (side * zoom for side in features.grid)
    rows, columns = (side * zoom for side in features.extra["window"])
    total, count = torch.zeros(h, w, classes), torch.zeros(h, w, 1)
    owners = list(groups) + list(range(classes, classes + len(text) - len(groups)))
    everyone = max(owners) + 1

    def shares(vector, allowed):
        powers = [math.exp(scale * float(vector @ t)) if owners[s] in allowed else 0.0 for s, t in enumerate(text)]
        out = [0.0] * everyone
        for s, power in enumerate(powers):
            out[owners[s]] = max(out[owners[s]], power / sum(powers))
        return out

    for v, (top, left) in enumerate(features.extra["places"]):
        whole = shares(features.extra["whole"][v], range(everyone))
        near = set(range(everyone))
        if options.top:
            near = set(sorted(near, key=lambda c: -whole[c])[: options.top])
        table = []
        for vector in features.embeddings[v]:
            free, held = shares(vector, range(everyone)), shares(vector, near)
            table.append([held[c] * (free[c] if options.prior else 1) for c in range(classes)])
        maps = features.extra["shares"][v].T.reshape(1, -1, *features.extra["window"])
        maps = torch.nn.functional.interpolate(maps, scale_factor=zoom, mode="bilinear")[0] if zoom > 1 else maps[0]
        for i in range(rows):
            for j in range(columns):
                M = [float(m) for m in maps[:, i, j]]
                if options.hard:
                    M = [float(g == M.index(max(M))) for g in range(len(M))]
                said = [sum(M[g] * table[g][c] for g in range(len(M))) for c in range(classes)]
                total[top * zoom + i, left * zoom + j] += torch.tensor(said)
                count[top * zoom + i, left * zoom + j] += 1
    return (total / count).reshape(-1, classes)


@pytest.mark.parametrize(
    ("window", "knobs"),
    [
        (0, {"top": 2}),
        (48, {"top": 2}),
        (48, {"top": 0, "prior": False, "hard": False}),
        (0, {"top": 3, "hard": True, "resolution": "pixels", "scale": 30.0}),
    ],
)
def test_the_equations_by_hand(checkpoints, groupvit, image, window, knobs):
    features, options, networks = encoded(groupvit, image, window=window, stride=32, **knobs)
    text = groupvit.text(FOUR)
    scores = source.score(features, checkpoints.words(text[:3], (0, 1, 1), text[3:]), networks, options)
    zoom = 16 if options.resolution == "pixels" else 1
    assert scores.grid == (4 * zoom, 6 * zoom)
    scale = options.scale or groupvit.scale
    torch.testing.assert_close(scores.values, by_hand(features, text, (0, 1, 1), scale, options, zoom, 2), atol=1e-5, rtol=1e-4)


def test_views_of_windows_are_passes_over_the_windows(groupvit, image):
    features, _, _ = encoded(groupvit, image, window=48, stride=32)
    pixels = to_tensor(image, (64, 96), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))[None]
    assert features.extra["places"] == ((0, 0), (0, 2), (0, 3), (1, 0), (1, 2), (1, 3))
    for v, (top, left) in enumerate(features.extra["places"]):
        own = groupvit.vision(pixels[..., 16 * top : 16 * top + 48, 16 * left : 16 * left + 48])
        torch.testing.assert_close(features.embeddings[v], own.vectors, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(features.extra["shares"][v], own.shares, atol=1e-5, rtol=1e-4)
    assert features.bytes > features.embeddings.nbytes


def test_hard_places_have_one_group_and_only_the_top_classes_score(checkpoints, groupvit, image):
    features, options, networks = encoded(groupvit, image, window=0, top=1)
    words = checkpoints.words(groupvit.text(FOUR), range(4))
    values = source.score(features, words, networks, options).values
    assert (values.amax(0) > 0).sum() == 1
    all_of_them = source.score(features, words, networks, dataclasses.replace(options, top=0)).values
    assert (all_of_them.amax(0) > 0).all()
    assert len(all_of_them.unique(dim=0)) <= 3


def test_what_is_none_of_its_own_is_refused(checkpoints, groupvit):
    from nerveseg.labels.base import Features

    with pytest.raises(ShapeError, match="no view"):
        source.encode([], {"groupvit": groupvit}, source.Options())
    foreign = Features(torch.ones(1, 4, 20), (2, 2))
    with pytest.raises(ShapeError, match="own"):
        source.score(foreign, checkpoints.words(torch.ones(2, 20), (0, 1)), {}, source.Options())


def original(groupvit, image, text, threshold):
    """Pixel by pixel: windows of the image at 64 pixels, one-hot groups at pixels, the background where a window's pixel is unsure."""
    from nerveseg.labels._windows import bilinear, kept_ratio

    size = kept_ratio(image.size, 64)
    resized = bilinear(torch.tensor(image.pixels).permute(2, 0, 1), size)[None].float() / 255
    resized = (resized - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    total, count = torch.zeros(*size, len(text) + 1), torch.zeros(*size, 1)
    for top in (0, 16):
        for left in (0, 32, size[1] - 48):
            groups = groupvit.vision(resized[..., top : top + 48, left : left + 48])
            logits = groups.vectors @ text.T * groupvit.scale
            free = logits.softmax(1)
            near = (groups.whole @ text.T).topk(2).indices.tolist()
            kept = torch.stack([logits[:, c] if c in near else torch.full((len(logits),), -math.inf) for c in range(len(text))], dim=1)
            table = kept.softmax(1) * free
            maps = groups.shares.T.reshape(1, -1, 3, 3)
            owner = torch.nn.functional.interpolate(maps, size=(48, 48), mode="bilinear")[0].argmax(0)
            said = table[owner]
            background = (said.amax(2) < min(threshold, float(table.max()))).float()
            total[top : top + 48, left : left + 48] += torch.cat([said, background[..., None]], dim=2)
            count[top : top + 48, left : left + 48] += 1
    return (total / count).permute(2, 0, 1)


@pytest.mark.parametrize("threshold", [0.95, 0.2])
def test_windows_at_pixels_and_the_background_are_the_originals(checkpoints, groupvit, image, threshold):
    given = {"window": 48, "stride": 32, "top": 2, "join_windows": "pixels", "bg_thresh": threshold}
    features, options, networks = encoded(groupvit, image, **given)
    text = torch.nn.functional.normalize(torch.randn(4, 20, generator=torch.Generator().manual_seed(5)), dim=1)
    scores = source.score(features, checkpoints.words(text[:3], range(3), text[3:]), networks, options)
    expected = original(groupvit, image, text[:3], threshold)
    torch.testing.assert_close(scores.logits.maps, expected, atol=1e-5, rtol=1e-4)
    assert (features.pixels, scores.grid) == ((64, 92), (4, 6))
    pooled = torch.nn.functional.adaptive_avg_pool2d(expected[:3], (4, 6)).flatten(1).T
    torch.testing.assert_close(scores.values, pooled, atol=1e-5, rtol=1e-4)
    off = dataclasses.replace(options, bg_thresh=0.0)
    assert source.score(features, checkpoints.words(text[:3], range(3), text[3:]), networks, off).logits.maps.shape == (4, 64, 92)


def test_the_recipe_takes_the_largest_of_the_averaged_scores_at_the_images_size(groupvit, groupvit_folder, image):
    from nerveseg import recipe
    from nerveseg.segmenter import Segmenter

    small = {"weights.groupvit": str(groupvit_folder), "labels.short_side": 64, "labels.window": 48, "labels.stride": 32, "labels.top": 2}
    for threshold in (0.95, 0.2):
        chosen = recipe.load("groupvit").for_benchmark("voc21").changed({"labels.bg_thresh": threshold})
        segmenter = Segmenter.from_pretrained(chosen, device="cpu", settings=small)
        found = segmenter(image, FOUR[:3], background=["sky"])
        text = segmenter.networks["groupvit"].text(FOUR[:3], ("a photo of a {}.",))
        maps = original(groupvit, image, text, threshold)
        up = torch.nn.functional.interpolate(maps[None], size=image.size, mode="bilinear", align_corners=False)[0]
        assert float((found.segmentation == up.argmax(0)).float().mean()) > 0.99
    assert recipe.load("groupvit").for_benchmark("context60").labels.options.bg_thresh == 0.35
