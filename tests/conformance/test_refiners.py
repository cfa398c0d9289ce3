from __future__ import annotations

import numpy as np
import pytest
import torch

from nerveseg import registry
from nerveseg.picture import load


@pytest.fixture(params=registry.names("refiners"))
def stage(request):
    return registry.load("refiners", request.param)


def maps(k=4, height=24, width=32):
    return (torch.randn(k, height, width, generator=torch.Generator().manual_seed(0)) * 2).softmax(0)


def test_the_simplex_the_size_and_the_input_are_kept(stage):
    picture = load(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
    P = maps()
    before = P.clone()
    refined = stage.refine(P, picture, stage.Options())
    assert refined.shape == P.shape
    assert float(refined.min()) >= 0.0
    torch.testing.assert_close(refined.sum(0), torch.ones(24, 32), atol=1e-5, rtol=0)
    assert torch.equal(P, before)
    assert torch.equal(refined, stage.refine(P, picture, stage.Options()))


def test_permuting_labels_permutes_the_maps(stage):
    picture = load(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
    order = torch.tensor([2, 0, 3, 1])
    P = maps()
    torch.testing.assert_close(stage.refine(P[order], picture, stage.Options()), stage.refine(P, picture, stage.Options())[order])
