"""The recipes of the CLIP family from image to map, on a random checkpoint, against what each method does with its cosines."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from nerveseg import recipe
from nerveseg.segmenter import Segmenter

FAMILY = ("clip", "maskclip", "sclip", "clearclip", "naclip", "naclip-pamr", "gem")
WORDS, REST = ["cat; photo", "dog", "grass"], ["sky", "hot dog"]


@pytest.fixture(scope="module")
def segmenters(clip_folder):
    made = {}

    def get(name, benchmark=None):
        if (name, benchmark) not in made:
            chosen = recipe.load(name)
            chosen = chosen.for_benchmark(benchmark) if benchmark else chosen
            small = {"weights.clip": str(clip_folder), "words.templates": "plain", "labels.short_side": 64}
            if chosen.labels.options.window:
                small |= {"labels.window": 48, "labels.stride": 24}
            made[name, benchmark] = Segmenter.from_pretrained(chosen, device="cpu", settings=small)
        return made[name, benchmark]

    return get


@pytest.mark.parametrize("name", FAMILY)
def test_every_recipe_of_the_family_labels_an_image(segmenters, image, name):
    found = segmenters(name)(image, WORDS)
    assert found.segmentation.shape == image.size
    assert set(found.segmentation.unique().tolist()) <= {0, 1, 2}
    torch.testing.assert_close(found.segmentation_scores.sum(0), torch.ones(image.size), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["sclip", "clearclip", "naclip", "clip"])
def test_cosines_reach_the_image_then_softmax_synonyms_and_the_floor(segmenters, image, name):
    segmenter = segmenters(name, "voc21")
    encoding = segmenter.encode(image)
    text = segmenter.networks["clip"].text(["cat", "photo", "dog", "grass", "sky", "hot dog"], ("a photo of a {}.",))
    options = segmenter.recipe.labels.options
    cosines = segmenter.recipe.labels.module.score(
        encoding.features, _words(segmenter, text), segmenter.networks, options
    ).logits.maps  # on the pixels that CLIP saw
    assert cosines.shape[1:] == (64, 92)
    p = (F.interpolate(cosines[None], size=image.size, mode="bilinear")[0] * options.scale).softmax(0)
    best = torch.stack([p[:2].amax(0), p[2], p[3], p[4:].amax(0)])  # max over synonyms, not normalised again
    rule = segmenter.recipe.rule.options
    won = torch.bincount(best.argmax(0).flatten(), minlength=4)[:3]
    if rule.area:  # SCLIP's: labels with a tenth of the labelled pixels or less are taken out
        best[:3][won <= rule.area * won.sum()] = 0
    wanted = best.argmax(0)
    wanted[best.amax(0) < rule.floor] = 3
    found = segmenter.decode(encoding, WORDS, background=REST).segmentation
    assert float((found == wanted).float().mean()) > 0.999


def test_pamr_moves_cosines_and_nothing_else(segmenters, image):
    plain, sharp = (segmenters(name)(image, WORDS) for name in ("naclip", "naclip-pamr"))
    assert not torch.equal(plain.segmentation_scores, sharp.segmentation_scores)
    still = segmenters("naclip-pamr")
    left = still.decode(still.encode(image), WORDS, settings={"refiner.iterations": 0})
    assert torch.equal(left.segmentation, plain.segmentation)


@pytest.mark.parametrize("name", FAMILY)
def test_settings_for_benchmarks_are_those_that_the_methods_print(name):
    chosen = recipe.load(name)
    assert (chosen.graph, chosen.walk, chosen.upsample) == (None, None, "logits")
    assert chosen.weights["clip"] == "clip-b16"
    floors = {data: chosen.for_benchmark(data).rule.options.floor for data in chosen.benchmarks if "masks.name" in _table(chosen, data)}
    printed = {
        "clip": {"voc21": 0.2},
        "sclip": {"voc21": 0.1, "context60": 0.1, "coco-object": 0.1},
        "clearclip": {"voc21": 0.5, "context60": 0.15, "coco-object": 0.4},
        "naclip": {"voc21": 0.1, "context60": 0.1, "coco-object": 0.1},
    }
    assert floors == printed.get(name.removesuffix("-pamr"), {})
    areas = {data: chosen.for_benchmark(data).rule.options.area for data in floors}
    assert {data: area for data, area in areas.items() if area} == ({"voc21": 0.1} if name == "sclip" else {})
    if name == "naclip-pamr":  # its guide is the image as CLIP sees it
        for data in chosen.benchmarks:
            here = chosen.for_benchmark(data)
            assert here.refiner.options.guide_side == here.labels.options.short_side
    without = ("voc20", "context59", "coco-stuff", "ade20k", "cityscapes")
    assert not any(chosen.for_benchmark(data).rule.name == "floor" for data in without)


def test_windows_and_sides_for_benchmarks():
    def labels(name, data):
        return recipe.load(name).for_benchmark(data).labels.options

    for name in ("naclip", "naclip-pamr"):
        assert [labels(name, data).window for data in ("voc21", "voc20", "context59")] == [0, 0, 224]
    assert [labels("sclip", data).scale for data in ("voc21", "context60", "coco-object", "ade20k")] == [65.0, 50.0, 50.0, 40.0]
    assert [labels("sclip", data).short_side for data in ("voc20", "coco-stuff", "cityscapes")] == [336, 448, 560]
    assert (labels("clearclip", "cityscapes").window, labels("clearclip", "ade20k").window) == (224, 448)


def _table(chosen, data):
    return chosen.table["benchmarks"][data]


def _words(segmenter, text):
    from nerveseg.labels.base import Words

    return Words(("cat", "photo", "dog", "grass"), (0, 0, 1, 2), ("sky", "hot dog"), text[:4], text[4:])
