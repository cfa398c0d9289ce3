from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from nerveseg import registry
from nerveseg.errors import MissingExtra
from nerveseg.image import load_image

OPTIONAL = {"crf": "pydensecrf"}  # refiners that stand on an extra; its absence and its maths have a test of their own
ABSENT = tuple(name for name, package in OPTIONAL.items() if find_spec(package) is None)
HERE = tuple(name for name in registry.names("refiners") if name not in ABSENT)


@pytest.fixture(params=HERE)
def stage(request):
    return registry.load("refiners", request.param)


def maps(k=4, height=24, width=32):
    return (torch.randn(k, height, width, generator=torch.Generator().manual_seed(0)) * 2).softmax(0)


def test_the_simplex_the_size_and_the_input_are_kept(stage):
    image = load_image(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
    P = maps()
    before = P.clone()
    refined = stage.refine(P, image, stage.Options())
    assert refined.shape == P.shape
    assert float(refined.min()) >= 0.0
    torch.testing.assert_close(refined.sum(0), torch.ones(24, 32), atol=1e-5, rtol=0)
    assert torch.equal(P, before)
    assert torch.equal(refined, stage.refine(P, image, stage.Options()))


def test_permuting_labels_permutes_the_maps(stage):
    image = load_image(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
    order = torch.tensor([2, 0, 3, 1])
    P = maps()
    torch.testing.assert_close(stage.refine(P[order], image, stage.Options()), stage.refine(P, image, stage.Options())[order])


def test_all_knobs_are_declared():
    for name in registry.names("refiners"):
        options = registry.load("refiners", name).Options
        registry.check(options(), name)
        assert all(field.metadata["doc"] and field.metadata["source"] for field in registry.knobs(options))


def test_even_maps_come_back_as_they_are(stage):
    if stage.__name__.endswith(".crf"):
        return  # mean field makes a sure label surer everywhere
    image = load_image(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
    P = torch.tensor([0.5, 0.3, 0.2]).view(3, 1, 1).expand(3, 24, 32).contiguous()
    torch.testing.assert_close(stage.refine(P, image, stage.Options()), P, atol=1e-5, rtol=0)


def test_one_row_of_pixels(stage):
    image = load_image(np.random.default_rng(0).integers(0, 256, (1, 9, 3), dtype=np.uint8))
    P = maps(3, 1, 9)
    torch.testing.assert_close(stage.refine(P, image, stage.Options()).sum(0), torch.ones(1, 9))


def test_a_refiner_without_its_library_names_the_command():
    image = load_image(np.zeros((24, 32, 3), dtype=np.uint8))
    for name in ABSENT:
        module = registry.load("refiners", name)
        with pytest.raises(MissingExtra, match=rf"nerveseg\[{name}\]"):
            module.refine(maps(), image, module.Options())
