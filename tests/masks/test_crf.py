"""The dense CRF: what its library is told, against mean field in plain loops, and the refusal where it is absent.

The library is optional. A stand-in that computes its mean field exactly takes its place, so that layout, order and signs are under test
everywhere; where the real one is installed, the same test runs on it, too.
"""

from __future__ import annotations

import math
import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest
import torch

from nerveseg.errors import MissingExtra
from nerveseg.image import load_image
from nerveseg.masks.refiners import crf

K, H, W = 3, 4, 5
THERE = find_spec("pydensecrf") is not None


class Exact:
    """DenseCRF2D without a lattice."""

    def __init__(self, width, height, labels):
        self.shape, self.kernels = (labels, height, width), []
        y, x = np.mgrid[:height, :width]
        self.at = np.stack([x, y], -1).reshape(-1, 2).astype(float)

    def setUnaryEnergy(self, energy):
        assert energy.shape == (self.shape[0], self.shape[1] * self.shape[2])
        assert energy.dtype == np.float32
        assert energy.flags.c_contiguous
        self.energy = energy.astype(float)

    def addPairwiseGaussian(self, sxy, compat):
        self._add(self.at / sxy, compat)

    def addPairwiseBilateral(self, sxy, srgb, rgbim, compat):
        assert rgbim.shape == (*self.shape[1:], 3)
        assert rgbim.dtype == np.uint8
        self._add(np.concatenate([self.at / sxy, rgbim.reshape(-1, 3) / srgb], 1), compat)

    def _add(self, features, weight):
        kernel = np.exp(-0.5 * np.square(features[:, None] - features[None]).sum(-1))
        scale = 1 / np.sqrt(kernel.sum(1))
        self.kernels.append(weight * scale[:, None] * kernel * scale)

    def inference(self, steps):
        Q = self._softmax(-self.energy)
        for _ in range(steps):
            Q = self._softmax(-self.energy + sum(Q @ kernel for kernel in self.kernels))
        return Q.astype(np.float32)

    @staticmethod
    def _softmax(x):
        x = np.exp(x - x.max(0))
        return x / x.sum(0)


@pytest.fixture(params=["stand-in", *(["pydensecrf2"] if THERE else [])])
def library(request, monkeypatch):
    if request.param == "stand-in":
        package, module = ModuleType("pydensecrf"), ModuleType("pydensecrf.densecrf")
        module.DenseCRF2D = Exact
        monkeypatch.setitem(sys.modules, "pydensecrf", package)
        monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", module)
    return request.param


def make():
    P = (torch.randn(K, H, W, generator=torch.Generator().manual_seed(0)) * 2).softmax(0)
    return P, load_image(np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8))


def by_hand(P, pixels, options):
    """Mean field with symmetric normalisation, pixel by pixel."""
    places = [(y, x) for y in range(H) for x in range(W)]

    def kernel(p, q, xy, rgb):
        far = sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) / xy**2
        unlike = 0.0 if rgb is None else sum((float(a) - float(b)) ** 2 for a, b in zip(pixels[p], pixels[q], strict=True)) / rgb**2
        return math.exp(-0.5 * (far + unlike))

    pair = {(p, q): 0.0 for p in places for q in places}
    for weight, xy, rgb in ((options.pos_weight, options.pos_xy, None), (options.bi_weight, options.bi_xy, options.bi_rgb)):
        raw = {(p, q): kernel(p, q, xy, rgb) for p in places for q in places}
        sums = {p: sum(raw[p, q] for q in places) for p in places}
        for p, q in pair:
            pair[p, q] += weight * raw[p, q] / math.sqrt(sums[p] * sums[q])
    Q = {p: [float(P[c][p]) for c in range(K)] for p in places}
    for _ in range(options.iterations):
        new = {}
        for p in places:
            up = [math.exp(math.log(max(float(P[c][p]), 1e-5)) + sum(pair[p, q] * Q[q][c] for q in places)) for c in range(K)]
            new[p] = [value / sum(up) for value in up]
        Q = new
    return torch.tensor([[[Q[y, x][c] for x in range(W)] for y in range(H)] for c in range(K)])


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_it_is_mean_field_over_nearness(library, steps):
    P, image = make()
    options = crf.Options(iterations=steps, pos_weight=2.0, pos_xy=3.0, bi_weight=0.0)
    near = 1e-5 if library == "stand-in" else 3e-2  # the lattice approximates
    torch.testing.assert_close(crf.refine(P, image, options), by_hand(P, image.pixels, options), rtol=0, atol=near)


def test_it_is_mean_field_over_nearness_and_colour(library):
    P, image = make()
    options = crf.Options(iterations=3, pos_weight=1.0, pos_xy=1.0, bi_weight=2.0, bi_xy=4.0, bi_rgb=60.0)
    found = crf.refine(P, image, options)
    if library == "stand-in":
        torch.testing.assert_close(found, by_hand(P, image.pixels, options), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.sum(0), torch.ones(H, W))


def test_a_speck_goes_and_an_edge_stays(library):
    pixels = np.zeros((12, 16, 3), dtype=np.uint8)
    pixels[:, 8:] = 200
    P = torch.full((2, 12, 16), 0.3)
    P[0, :, :8], P[1, :, 8:] = 0.7, 0.7
    P[:, 5, 3] = torch.tensor([0.4, 0.6])
    ids = crf.refine(P, load_image(pixels), crf.Options()).argmax(0)
    assert bool((ids[:, :8] == 0).all())
    assert bool((ids[:, 8:] == 1).all())


def test_where_the_library_is_absent_the_command_that_installs_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(MissingExtra, match=r"pip install 'nerveseg\[crf\]'"):
        crf.refine(*make(), crf.Options())
