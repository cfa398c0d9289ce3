"""The guided filter against its equations, window by window."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nerveseg.image import load_image
from nerveseg.masks.refiners import guided

H, W, K = 6, 7, 3


def make(seed=0):
    P = (torch.randn(K, H, W, generator=torch.Generator().manual_seed(seed)) * 2).softmax(0)
    return P, load_image(np.random.default_rng(seed).integers(0, 256, (H, W, 3), dtype=np.uint8))


def windows(radius):
    for y in range(H):
        for x in range(W):
            yield (
                (y, x),
                [(v, u) for v in range(H) for u in range(W) if abs(v - y) <= radius and abs(u - x) <= radius],
            )


def by_hand(maps, image, radius, eps):
    """One map, colours of any number: the linear model of every window, then the mean of the models over the windows of each pixel."""
    count = image.shape[-1]
    models = {}
    for centre, inside in windows(radius):
        colours = np.array([image[place] for place in inside])
        values = np.array([maps[place] for place in inside])
        mean = colours.mean(0)
        spread = sum(np.outer(c - mean, c - mean) for c in colours) / len(inside)
        shared = sum((c - mean) * (v - values.mean()) for c, v in zip(colours, values, strict=True)) / len(inside)
        a = np.linalg.solve(spread + eps * np.eye(count), shared)
        models[centre] = (a, values.mean() - a @ mean)
    out = np.zeros((H, W))
    for centre, inside in windows(radius):
        a = sum(models[place][0] for place in inside) / len(inside)
        b = sum(models[place][1] for place in inside) / len(inside)
        out[centre] = a @ image[centre] + b
    return out


@pytest.mark.parametrize("guide", ["colour", "grey"])
@pytest.mark.parametrize(("radius", "eps"), [(1, 1e-2), (2, 1e-4), (20, 1e-6)])
def test_it_is_the_linear_model_of_the_equations(radius, eps, guide):
    P, image = make()
    colors = image.pixels.astype(float) / 255
    if guide == "grey":
        colors = (colors @ np.array([0.299, 0.587, 0.114]))[..., None]
    expected = np.stack([by_hand(maps, colors, radius, eps) for maps in P.double().numpy()]).clip(0, 1)
    expected = torch.from_numpy(expected / expected.sum(0)).float()
    found = guided.refine(P, image, guided.Options(radius=radius, eps=eps, guide=guide))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_on_an_image_of_one_colour_it_is_the_mean_of_means():
    P, _ = make()
    found = guided.refine(P, load_image(np.full((H, W, 3), 90, dtype=np.uint8)), guided.Options(radius=1))
    mean = {centre: sum(P[:, v, u] for v, u in inside) / len(inside) for centre, inside in windows(1)}
    for centre, inside in windows(1):
        expected = sum(mean[place] for place in inside) / len(inside)
        torch.testing.assert_close(found[:, centre[0], centre[1]], expected, rtol=0, atol=1e-6)


def test_a_blurred_edge_is_drawn_back_to_the_images():
    pixels = np.zeros((20, 24, 3), dtype=np.uint8)
    pixels[:, 12:] = 255
    ramp = torch.linspace(-3, 3, 24).sigmoid().expand(20, 24)
    found = guided.refine(torch.stack([1 - ramp, ramp]), load_image(pixels), guided.Options(radius=4))
    assert float(found[1, 10, 12] - found[1, 10, 11]) > 3 * float(ramp[10, 12] - ramp[10, 11])


def test_a_small_eps_is_not_drowned():
    P, image = make()
    sharp = guided.refine(P, image, guided.Options(radius=2, eps=1e-8))
    colors = image.pixels.astype(float) / 255
    expected = np.stack([by_hand(maps, colors, 2, 1e-8) for maps in P.double().numpy()]).clip(0, 1)
    torch.testing.assert_close(sharp, torch.from_numpy(expected / expected.sum(0)).float(), rtol=0, atol=1e-5)
