from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from nerveseg.image.load import load_image
from nerveseg.labels import _windows, base, maskclip, naclip
from nerveseg.registry import options as make


def opts(**more):
    return make(naclip.Options, {"short_side": 64, "window": 48, "stride": 20, **more})


@pytest.mark.parametrize("pad_to", [0, 16, 56])
def test_windows_meet_pixel_by_pixel_as_in_a_loop(clip, image, words, pad_to):
    options, networks = opts(pad_to=pad_to), {"clip": clip}
    features = naclip.encode(naclip.look(image, networks, options), networks, options)
    text = clip.text(["cat", "dog", "grass"])
    scores = naclip.score(features, words(text[:2], (0, 1), text[2:]), networks, options)

    size = _windows.kept_ratio(image.size, 64)
    assert size == (64, 92)
    pixels = _windows.resized(image, size)
    total, count = torch.zeros(3, *size), torch.zeros(size)
    for top in (0, 16):
        for left in (0, 20, 40, 44):
            crop = pixels[..., top : top + 48, left : left + 48]
            pad = -48 % pad_to if pad_to else 0
            crop = F.pad(crop, (pad // 2, pad - pad // 2, pad // 2, pad - pad // 2))[..., : (48 + pad) // 16 * 16, : (48 + pad) // 16 * 16]
            (view,) = clip.visions(crop, positions=options.positions)
            x = view.inputs[-1]
            y = clip.last_block(x, naclip.neighbourly(clip, x, view.grid, options), residual=False, ffn=False)
            cosines = (base.unit(clip.project(y))[1:] @ text.T).T.reshape(1, 3, *view.grid)
            up = F.interpolate(cosines, size=(48 + pad, 48 + pad), mode="bilinear")[
                0, :, pad // 2 : pad // 2 + 48, pad // 2 : pad // 2 + 48
            ]
            total[:, top : top + 48, left : left + 48] += up
            count[top : top + 48, left : left + 48] += 1
    torch.testing.assert_close(scores.logits.maps, total / count, atol=1e-5, rtol=1e-4)
    pooled = F.adaptive_avg_pool2d(total / count, scores.grid).flatten(1).T
    torch.testing.assert_close(scores.values, base.probabilities(pooled, (0, 1), scale=40.0, join="max"), atol=1e-5, rtol=1e-4)
    assert scores.grid == (4, 6)


def test_one_window_of_whole_patches_is_the_whole_image_in_both_ways(clip, words, checkpoints):
    square = load_image(checkpoints.colours(64, 64))
    found = []
    for join in ("tokens", "pixels"):
        options, networks = opts(window=0, join_windows=join), {"clip": clip}
        features = naclip.encode(naclip.look(square, networks, options), networks, options)
        text = clip.text(["cat", "dog"])
        found.append(naclip.score(features, words(text, (0, 1)), networks, options).logits.maps)
    torch.testing.assert_close(found[1], F.interpolate(found[0][None], size=(64, 64), mode="bilinear")[0], atol=1e-5, rtol=1e-4)


def test_an_image_smaller_than_a_patch_and_a_strip_are_read(clip, checkpoints):
    for shape in ((1, 1), (4, 400)):
        options, networks = opts(), {"clip": clip}
        features = naclip.encode(naclip.look(load_image(checkpoints.colours(*shape)), networks, options), networks, options)
        assert features.parts
        assert all(torch.isfinite(part.embeddings).all() for part in features.parts)


def test_every_pixel_lies_under_a_window():
    for size in ((64, 92), (33, 200), (48, 48), (20, 61)):
        seen = torch.zeros(size)
        for box in _windows.boxes(size, 16, opts()):
            seen[box.top : box.top + box.height, box.left : box.left + box.width] += 1
        assert seen.min() >= 1


def test_resizing_rounds_to_grey_levels_and_keeps_an_image_of_the_right_size(image):
    same = _windows.resized(image, image.size)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (base.CLIP_MEAN, base.CLIP_STD))
    assert torch.equal((same * std + mean).mul(255).round()[0].permute(1, 2, 0).to(torch.uint8), torch.from_numpy(image.pixels.copy()))


def test_windows_are_filled_up_to_the_patch_at_least(clip, checkpoints):
    for pad_to, wanted in ((0, (32, 48)), (1, (48, 48)), (56, (56, 48))):
        (box,) = _windows.boxes((40, 48), 16, opts(pad_to=pad_to))
        assert (box.padded[0] if pad_to else box.seen[0]) == wanted[0]
        assert box.seen == (box.padded[0] // 16 * 16, box.padded[1] // 16 * 16)


def test_resizing_equals_opencvs_to_the_grey_level():
    # cv2.resize(levels, ..., interpolation=cv2.INTER_LINEAR) of OpenCV 5.0 said so.
    levels = torch.tensor([[0, 140, 24, 164], [48, 188, 72, 212], [96, 236, 120, 4]], dtype=torch.uint8)[None]
    larger = [
        [0, 50, 130, 82, 34, 114, 164],
        [19, 69, 149, 101, 53, 133, 183],
        [48, 98, 178, 130, 82, 162, 212],
        [77, 127, 207, 159, 100, 92, 87],
        [96, 146, 226, 178, 112, 45, 4],
    ]
    assert _windows.bilinear(levels, (5, 7))[0].tolist() == larger
    assert _windows.bilinear(levels, (2, 3))[0].tolist() == [[35, 94, 153], [107, 166, 64]]


def test_resizing_is_bilinear_between_pixel_centres(image):
    pixels = torch.from_numpy(image.pixels.copy()).permute(2, 0, 1)
    exact = F.interpolate(pixels[None].float(), size=(64, 92), mode="bilinear", align_corners=False)[0]
    assert float((_windows.bilinear(pixels, (64, 92)).float() - exact).abs().max()) < 1  # a shift drops what is left over


@torch.no_grad()
def test_zeros_in_the_corner_are_stretched_away_with_the_rest(clip, image, words):
    options, networks = maskclip.Options(short_side=64, join_windows="pixels", pad_to=1, pad_at="corner"), {"clip": clip}
    features = maskclip.encode(maskclip.look(image, networks, options), networks, options)
    text = clip.text(["cat", "dog"])
    found = maskclip.score(features, words(text, (0, 1)), networks, options).logits.maps
    pixels = F.pad(_windows.resized(image, (64, 92)), (0, 4, 0, 0))
    (view,) = clip.visions(pixels, positions="bicubic")
    z = base.unit(clip.project(clip.last_block(view.inputs[-1], None, residual=True, ffn=True)))[1:]
    wanted = F.interpolate((z @ text.T).T.reshape(1, 2, 4, 6), size=(64, 92), mode="bilinear")[0]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_a_limit_on_the_longer_side(clip, image):
    """MaskCLIP on Pascal Context: (520, 520), so that the longer side ends there."""
    from nerveseg.labels import maskclip
    from nerveseg.registry import options as make

    for longest, size in ((2048, (64, 92)), (64, (44, 64)), (80, (55, 80))):
        given = {"short_side": 64, "longest": longest, "join_windows": "pixels", "pad_to": 1, "pad_at": "corner"}
        options = make(maskclip.Options, given)
        assert maskclip.encode(maskclip.look(image, {"clip": clip}, options), {"clip": clip}, options).pixels == size
