"""PAMR against its equations, pixel by pixel."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch

from nerveseg.errors import OptionError
from nerveseg.image import load_image
from nerveseg.labels import _windows
from nerveseg.masks.refiners import pamr

H, W, K = 6, 7, 3
AROUND = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def make(seed=0):
    P = (torch.randn(K, H, W, generator=torch.Generator().manual_seed(seed)) * 2).softmax(0)
    return P, load_image(np.random.default_rng(seed).integers(0, 256, (H, W, 3), dtype=np.uint8))


def moved(y, x, dy, dx):
    """Beyond the edge, the edge again."""
    return min(max(y + dy, 0), H - 1), min(max(x + dx, 0), W - 1)


def weights_by_hand(pixels, dilations):
    weights = {}
    for y in range(H):
        for x in range(W):
            places = [moved(y, x, d * dy, d * dx) for d in dilations for dy, dx in AROUND]
            kappa = [0.0] * len(places)
            for c in range(3):
                own = pixels[y, x, c] / 255
                seen = [pixels[place][c] / 255 for place in places]
                spread = statistics.stdev([*seen, *[own] * len(dilations)])
                kappa = [k - abs(own - value) / (0.1 * spread + 1e-8) / 3 for k, value in zip(kappa, seen, strict=True)]
            up = [math.exp(k - max(kappa)) for k in kappa]
            weights[y, x] = [(place, value / sum(up)) for place, value in zip(places, up, strict=True)]
    return weights


def by_hand(maps, pixels, dilations, times):
    weights = weights_by_hand(pixels.astype(float), dilations)
    current = maps.tolist()
    for _ in range(times):
        current = [[[sum(w * m[q[0]][q[1]] for q, w in weights[y, x]) for x in range(W)] for y in range(H)] for m in current]
    return torch.tensor(current)


@pytest.mark.parametrize("dilations", [(1,), (1, 2), (8, 16)])
@pytest.mark.parametrize("times", [0, 1, 3])
def test_it_is_the_iterated_mean_of_the_equations(times, dilations):
    P, image = make()
    found = pamr.refine(P, image, pamr.Options(iterations=times, dilations=dilations))
    torch.testing.assert_close(found, by_hand(P, image.pixels, dilations, times), rtol=0, atol=1e-5)


def test_the_guide_may_be_the_image_as_a_network_sees_it():
    P, image = make()
    shrunk = _windows.bilinear(torch.tensor(image.pixels).permute(2, 0, 1), (3, 4)).float()  # 6 x 7 with its shorter side at 3
    blurred = torch.nn.functional.interpolate(shrunk[None], size=(H, W), mode="bilinear")[0].permute(1, 2, 0).numpy()
    found = pamr.refine(P, image, pamr.Options(iterations=2, dilations=(1, 2), guide_side=3))
    torch.testing.assert_close(found, by_hand(P, blurred, (1, 2), 2), rtol=0, atol=1e-5)
    own = pamr.refine(P, image, pamr.Options(iterations=2, dilations=(1, 2), guide_side=H))
    assert torch.equal(own, pamr.refine(P, image, pamr.Options(iterations=2, dilations=(1, 2))))


def test_logits_of_any_sign_are_treated_alike():
    _, image = make()
    logits = torch.randn(K, H, W, generator=torch.Generator().manual_seed(3))
    found = pamr.refine(logits, image, pamr.Options(iterations=2, dilations=(1,)))
    torch.testing.assert_close(found, by_hand(logits, image.pixels, (1,), 2), rtol=0, atol=1e-5)
    assert pamr.on_logits


def test_a_nearly_even_image_does_not_turn_into_noise():
    P, _ = make()
    pixels = np.full((H, W, 3), 250, dtype=np.uint8)
    pixels[2, 3] = 251
    found = pamr.refine(P, load_image(pixels), pamr.Options(iterations=1, dilations=(1,)))
    torch.testing.assert_close(found, by_hand(P, pixels, (1,), 1), rtol=0, atol=1e-5)


def test_labels_stop_at_an_edge():
    pixels = np.zeros((H, W, 3), dtype=np.uint8)
    pixels[:, 4:] = 255
    P = torch.zeros(2, H, W)
    P[0, :, :4], P[1, :, 4:] = 1, 1
    found = pamr.refine(P, load_image(pixels), pamr.Options(iterations=10, dilations=(1,)))
    torch.testing.assert_close(found, P, rtol=0, atol=5e-3)


def test_classes_in_blocks_equal_all_at_once(monkeypatch):
    P, image = make()
    whole = pamr.refine(P, image, pamr.Options())
    monkeypatch.setattr(pamr, "_BLOCK", 1)
    assert torch.equal(pamr.refine(P, image, pamr.Options()), whole)


@pytest.mark.parametrize("dilations", [(), (0,), (1.5,), (True,), ("8",)])
def test_dilations_that_are_none_are_refused(dilations):
    P, image = make()
    with pytest.raises(OptionError, match="dilations"):
        pamr.refine(P, image, pamr.Options(dilations=dilations))
