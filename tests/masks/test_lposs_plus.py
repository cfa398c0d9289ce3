"""LPOSS+ against its equations written as loops over pixels."""

from __future__ import annotations

import math

import pytest
import torch

from nerveseg.image.load import load_image
from nerveseg.masks.refiners import lposs_plus
from nerveseg.masks.refiners.lposs_plus import Options, lab, refine
from nerveseg.registry import options as make


@pytest.fixture(scope="module")
def small(checkpoints):
    return load_image(checkpoints.colours(7, 9))


def maps(k=3, height=7, width=9, seed=0):
    return torch.randn(k, height, width, generator=torch.Generator().manual_seed(seed)).softmax(0)


@pytest.mark.parametrize(
    ("rgb", "known"),
    [
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.74, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
        ((0.5, 0.5, 0.5), (53.39, 0, 0)),
    ],
)
def test_lab_of_known_colours(rgb, known):
    found = lab(torch.tensor(rgb, dtype=torch.float32).view(3, 1, 1)).flatten()
    torch.testing.assert_close(found, torch.tensor(known, dtype=torch.float32), atol=0.02, rtol=0)


def by_hand(colours, Y, radius, tau, alpha):
    """(1 − α)(I − αŴ)⁻¹Y with W filled pixel pair by pixel pair."""
    _, h, w = colours.shape
    c = colours.double() / torch.tensor([100.0, 128.0, 128.0]).view(3, 1, 1)
    W = torch.zeros(h * w, h * w, dtype=torch.float64)
    for y in range(h):
        for x in range(w):
            for dy in range(-radius, radius + 1):
                for dx in range(-radius, radius + 1):
                    v, u = y + dy, x + dx
                    if (dy, dx) != (0, 0) and 0 <= v < h and 0 <= u < w:
                        W[y * w + x, v * w + u] = math.exp(-float((c[:, y, x] - c[:, v, u]).norm()) / tau)
    D = W.sum(1)
    D[D == 0] = 1
    A = torch.eye(h * w, dtype=torch.float64) - alpha * W / (D[:, None] * D).sqrt()
    return ((1 - alpha) * torch.linalg.solve(A, Y.double().flatten(1).T)).T.reshape(Y.shape).float()


@pytest.mark.parametrize(("radius", "tau"), [(6, 0.5), (2, 0.05), (30, 0.5), (6, 1e-6)])
def test_it_is_the_solve_of_the_equations(small, radius, tau):
    P = maps()
    options = make(Options, {"short_side": 0, "radius": radius, "tau": tau, "steps": 500, "tolerance": 1e-7})
    colours = lab(torch.tensor(small.pixels).permute(2, 0, 1).float() / 255)
    X = by_hand(colours, P, radius, tau, 0.95)
    torch.testing.assert_close(refine(P, small, options), X / X.sum(0), atol=1e-5, rtol=1e-4)


def test_logits_are_what_the_equations_give(small):
    """Not divided by what a map of ones becomes: they are brought to the image's size afterwards, and a division does not commute."""
    logits = torch.randn(4, 7, 9, generator=torch.Generator().manual_seed(1))
    options = make(Options, {"short_side": 0, "tau": 0.5, "steps": 500, "tolerance": 1e-7})
    colours = lab(torch.tensor(small.pixels).permute(2, 0, 1).float() / 255)
    torch.testing.assert_close(refine(logits, small, options), by_hand(colours, logits, 6, 0.5, 0.95), atol=1e-4, rtol=1e-4)
    assert lposs_plus.on_logits


def test_maps_of_the_working_size_are_not_resampled(small):
    """The label source's own maps come back on their grid: the image is brought to 14 × 18, the maps are there already."""
    P = maps(height=14, width=18)
    big = load_image(lposs_plus.bilinear(torch.tensor(small.pixels).permute(2, 0, 1), (14, 18)))
    there = refine(P, small, make(Options, {"short_side": 14}))
    assert there.shape == P.shape
    torch.testing.assert_close(there, refine(P, big, make(Options, {"short_side": 0})))


def test_the_same_everywhere_comes_back_and_early_stopping_keeps_the_simplex(small):
    same = torch.tensor([0.5, 0.2, 0.3]).view(3, 1, 1).expand(3, 7, 9).contiguous()
    torch.testing.assert_close(refine(same, small, make(Options, {"short_side": 20})), same, atol=1e-5, rtol=0)
    found = refine(maps(), small, make(Options, {"short_side": 20, "steps": 1}))
    torch.testing.assert_close(found.sum(0), torch.ones(7, 9))
    assert float(found.min()) >= 0


def test_maps_are_solved_a_few_at_a_time(small, monkeypatch):
    P, options = maps(k=5), make(Options, {"short_side": 0})
    whole = refine(P, small, options)
    monkeypatch.setattr(lposs_plus, "_MAPS", 2)
    torch.testing.assert_close(refine(P, small, options), whole)


def test_colours_hold_labels_back(checkpoints):
    """Two flat halves: what is said in one corner of each spreads through its half and no further."""
    pixels = torch.zeros(3, 12, 12, dtype=torch.uint8)
    pixels[0, :, :6], pixels[2, :, 6:] = 255, 255
    P = torch.full((2, 12, 12), 0.5)
    P[:, :3, :3] = torch.tensor([1.0, 0.0]).view(2, 1, 1)
    P[:, 9:, 9:] = torch.tensor([0.0, 1.0]).view(2, 1, 1)
    found = refine(P, load_image(pixels), make(Options, {"short_side": 0, "steps": 50}))
    assert bool((found[0, :, :6] > 0.5).all())
    assert bool((found[1, :, 6:] > 0.5).all())
