"""A result with a temperature: scores and confidences by hand on every path, ids as they were, and nothing else touched at 1."""

from __future__ import annotations

import dataclasses
import functools
import json
import math

import numpy as np
import pytest
import torch
from safetensors import safe_open

from nerveseg import recipe as recipes
from nerveseg import refinement, registry
from nerveseg.errors import OptionError
from nerveseg.image import load_image
from nerveseg.labels.base import Logits
from nerveseg.masks import temperature as tempering
from nerveseg.segmentation import CONFIDENCES, Segmentation
from nerveseg.synthetic import bundled
from nerveseg.words import Background, Vocabulary
from nerveseg.writers.base import record

SIZE = (13, 18)
NAMES = ["cat", "dog", "sky"]
PATHS = ("maps", "strings", "refined")
T = 0.4


def image():
    return load_image(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8))


def made(path="maps", background=None, names=NAMES, **options):
    """A result on one of the paths that scores come by: upsampled maps, upsampled logits, a refiner's maps."""
    vocabulary = Vocabulary.parse(names)
    drawn = torch.Generator().manual_seed(0)
    P = (torch.randn(len(vocabulary) + 1, 6, 8, generator=drawn) * 2).softmax(0)
    if path == "strings":
        groups = tuple(range(len(vocabulary)))
        options["logits"] = Logits(torch.randn(len(vocabulary) + 1, 5, 7, generator=drawn), groups, 3.0, "max")
    if path == "refined":
        options["refiner"] = "pamr"
    return Segmentation.build(P, P, vocabulary, image(), background=Background.parse(background, vocabulary), **options)


def powers(p, temperature):
    """p^(1/T) / Σ p^(1/T), a pixel and a label at a time."""
    out = np.zeros(p.shape)
    for y in range(p.shape[1]):
        for x in range(p.shape[2]):
            column = [float(value) ** (1 / temperature) for value in p[:, y, x]]
            out[:, y, x] = [value / sum(column) for value in column]
    return out


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("background", [None, "auto"])
@pytest.mark.parametrize("temperature", [T, 3.0])
def test_scores_and_confidences_by_hand(path, background, temperature):
    plain, found = made(path, background), made(path, background, temperature=temperature)
    assert torch.equal(found.segmentation, plain.segmentation)
    assert torch.equal(found.probabilities, plain.probabilities)
    p = powers(plain.segmentation_scores, temperature)
    scores = found.segmentation_scores
    torch.testing.assert_close(scores, torch.from_numpy(p).float(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scores.sum(0), torch.ones(SIZE))
    blocks = list(found.score_blocks())
    torch.testing.assert_close(torch.cat([block for _, block in blocks]), scores)
    sure = {kind: found.confidence(kind) for kind in CONFIDENCES}
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            own = int(found.segmentation[y, x])
            others = [p[c, y, x] for c in range(len(p)) if c != own]
            entropy = 1 + sum(v * math.log(v) for v in p[:, y, x] if v > 0) / math.log(len(p))
            wanted = {"probability": p[own, y, x], "margin": max(0.0, p[own, y, x] - max(others)), "entropy": entropy}
            for kind, value in wanted.items():
                assert float(sure[kind][y, x]) == pytest.approx(value, abs=2e-5), kind


@pytest.mark.parametrize("path", PATHS)
def test_at_1_every_bit_is_as_it_was_and_the_power_is_never_taken(path, monkeypatch):
    plain = made(path)
    before = plain.segmentation_scores.clone()
    for name in ("sums", "of", "tempered"):
        monkeypatch.setattr(tempering, name, lambda *_, **__: pytest.fail("the power was taken"))
    found = made(path, temperature=1.0)
    assert torch.equal(found.segmentation_scores, before)
    for kind in CONFIDENCES:
        assert torch.equal(found.confidence(kind), plain.confidence(kind))
    if path == "refined":
        assert found.segmentation_scores is found.refined
    assert record(found) == record(plain)
    assert "temperature" not in record(found)


@pytest.mark.parametrize("path", PATHS)
def test_abstaining_and_segments_follow(path):
    plain, sharp = made(path), made(path, temperature=T)
    threshold = float(plain.confidence().quantile(0.5))
    left = sharp.abstain(threshold)
    assert left.temperature == T
    assert torch.equal(left.segmentation == 255, sharp.confidence() < threshold)
    assert int((left.segmentation == 255).sum()) < int((plain.abstain(threshold).segmentation == 255).sum())
    for part in sharp.segments():
        inside = torch.from_numpy(np.asarray(part["mask"]) == 255)
        index = NAMES.index(part["label"])
        assert part["score"] == pytest.approx(float(sharp.segmentation_scores[index][inside].mean()), abs=1e-5)


def test_ignored_pixels_have_no_confidence():
    found = made(temperature=T).abstain(0.9)
    out = found.segmentation == 255
    assert bool(out.any())
    assert float(found.confidence()[out].max()) == 0.0


@pytest.mark.parametrize("path", PATHS)
def test_many_labels_come_in_blocks(path, monkeypatch):
    names = [f"thing {number}" for number in range(20)]
    budget = 4 * SIZE[0] * SIZE[1] * 3  # three maps a block
    monkeypatch.setattr(tempering, "tempered", functools.partial(tempering.tempered, budget=budget))
    blocks = list(made(path, names=names, temperature=2.0).score_blocks())
    assert [first for first, _ in blocks] == list(range(0, 20, 3))
    wanted = powers(made(path, names=names).segmentation_scores, 2.0)
    torch.testing.assert_close(torch.cat([block for _, block in blocks]), torch.from_numpy(wanted).float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_no_temperature_is_refused(wrong):
    with pytest.raises(OptionError, match="temperature"):
        made(temperature=wrong)
    with pytest.raises(OptionError, match="temperature"):
        dataclasses.replace(made(), temperature=wrong)


def test_the_record_and_saved_scores_say_it(tmp_path):
    found = made(temperature=T)
    assert json.loads(found.save(tmp_path / "a.png")[1].read_text("utf-8"))["temperature"] == T
    (at_image,) = found.save(tmp_path / "a.scores.safetensors")
    (on_grid,) = found.save(tmp_path / "b.scores.safetensors", at="grid")
    with safe_open(at_image, "pt") as file:
        torch.testing.assert_close(file.get_tensor("scores").float(), found.segmentation_scores, atol=1e-3, rtol=0)
        assert json.loads(file.metadata()["run"])["temperature"] == T
    with safe_open(on_grid, "pt") as file:  # what a walk is given again is as the walk left it
        torch.testing.assert_close(file.get_tensor("scores").float(), found.probabilities, atol=1e-3, rtol=0)


def test_a_recipe_has_it_among_its_knobs(tmp_path):
    plain = recipes.load("mini")
    warm = plain.changed({"masks.temperature": 2})
    assert (plain.temperature, warm.temperature) == (1.0, 2.0)
    assert warm.digest != plain.digest
    path = tmp_path / "warm.toml"
    path.write_text(warm.to_toml(), "utf-8")
    again = recipes.load(path)
    assert (again.temperature, again.digest) == (2.0, warm.digest)
    assert warm.changed({"masks.name": "class_max"}).temperature == 2.0  # it belongs to no rule
    with pytest.raises(OptionError, match="Did you mean 'temperature'"):
        recipes.load("mini", {"masks.temprature": 2.0})


@pytest.mark.parametrize("wrong", [0.0, -1, math.nan, "warm", True])
def test_a_recipe_refuses_what_is_none(wrong):
    with pytest.raises(OptionError, match=r"masks\.temperature"):
        recipes.load("mini", {"masks.temperature": wrong})


def test_scores_of_another_model_do_not_take_the_recipes(tmp_path):
    assert refinement.recipe_for(recipes.load("mini", {"masks.temperature": 0.5})).temperature == 1.0
    assert refinement.recipe_for("mini", {"masks.temperature": 0.5}).temperature == 0.5


def test_a_decode_with_it_gives_the_same_ids(mini):
    labels = ["dog", "cat", "grass"]
    encoding = mini.encode(bundled.scenes()[0].path)
    plain = mini.decode(encoding, labels)
    warm = mini.decode(encoding, labels, settings={"masks.temperature": 2.0})
    assert warm.temperature == 2.0
    assert torch.equal(warm.segmentation, plain.segmentation)
    assert float(warm.confidence().mean()) < float(plain.confidence().mean())
    assert registry.load("writers", "png").image(warm).tobytes() == registry.load("writers", "png").image(plain).tobytes()
