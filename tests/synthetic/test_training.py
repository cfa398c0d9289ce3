from __future__ import annotations

import dataclasses
import json
from importlib.resources import files

import pytest
import torch

from nerveseg.errors import WeightsNotFound
from nerveseg.synthetic import scenes
from nerveseg.synthetic.names import NAMES
from nerveseg.synthetic.train import classic, clip, diffusion, export, loop, tokenizer, vae, watch


def test_every_word_of_the_world_is_one_token_and_others_fall_apart(tmp_path):
    words = tokenizer.save(tmp_path)
    assert all(len(words.tokenize(word)) == 1 for word in tokenizer.words())
    assert len(words.tokenize("xyzzy 猫")) > 3
    assert words.eos_token_id == len(words) - 1


def test_training_resumes_where_it_stopped(tmp_path):
    module = torch.nn.Linear(2, 2)
    seen: list[int] = []

    def step(number, progress):
        seen.append(number)
        assert 0 <= progress <= 1
        return {"loss": 0.0}

    loop.train(tmp_path, {"model": module}, step, minutes=1e-4)
    first = len(seen)
    with torch.no_grad():
        kept = module.weight.clone()
        module.weight.zero_()
    assert loop.train(tmp_path, {"model": module}, step, minutes=2e-4) == len(seen)
    assert seen == list(range(len(seen)))
    assert len(seen) > first
    assert torch.equal(module.weight, kept)


def test_the_dense_path_of_training_is_the_value_path_of_the_label_source(tmp_path):
    words = tokenizer.save(tmp_path)
    model = clip.build(len(words)).eval()
    pixels = torch.rand(1, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    image, patches = clip.dense(model, pixels)
    theirs = model.get_image_features(pixel_values=pixels, interpolate_pos_encoding=True).pooler_output
    assert torch.allclose(image, torch.nn.functional.normalize(theirs, dim=-1), atol=1e-5)
    assert patches.shape == (1, 48, 128)


def test_the_losses_of_clip_see_words_and_no_mask(tmp_path):
    words = tokenizer.save(tmp_path)
    model = clip.build(len(words))
    batch = loop.images(0, 4, (48, 48), (1, 2))
    blind = [scenes.Scene(scene.image, scene.mask * 0, scene.names, scene.caption, scene.told) for scene in batch]
    for one, two in zip(clip.losses(model, words, batch, 0).items(), clip.losses(model, words, blind, 0).items(), strict=True):
        assert one[0] == two[0]
        assert torch.equal(one[1], two[1])


def test_the_classic_clip_learns_by_its_class_token_alone(tmp_path):
    words = tokenizer.save(tmp_path, classic.WORLD)
    assert all(len(words.tokenize(word)) == 1 for word in tokenizer.words(classic.WORLD))
    model = classic.build(len(words))
    batch = loop.images(0, 4, (48, 48), (1, 2), classic.WORLD)
    blind = [dataclasses.replace(scene, mask=scene.mask * 0) for scene in batch]
    bias = torch.tensor(-4.0)
    for kept in (0.5, 1.0):
        one, two = (classic.losses(model, bias, words, scenes_of, 0, kept) for scenes_of in (batch, blind))
        assert all(torch.equal(one[name], two[name]) for name in one)
    sum(one.values()).backward()
    last = model.vision_model.encoder.layers[-1].mlp.fc2.weight.grad
    assert last is not None
    assert bool(last.isfinite().all())


@pytest.mark.slow
def test_a_moment_of_classic_training_gives_a_clip_that_loads(tmp_path):
    classic.train(tmp_path, minutes=1e-4)
    words = tokenizer.save(tmp_path / "again", classic.WORLD)
    model = classic.build(len(words)).from_pretrained(tmp_path / "classic")
    seen = classic.watch(model, words, loop.Ema(model), count=3)
    assert set(seen) == {"retrieval", "foils", "words", "patches_right", "thing_patches_right"}
    assert all(0 <= value <= 1 for value in seen.values())


def test_area_under_the_curve_of_hand_made_affinities():
    truth = torch.tensor([0, 0, 1, 1] * 4)
    same = (truth[:, None] == truth[None]).float()
    assert watch.auc(same, truth)[0] > 0.7
    assert watch.auc(1 - same, truth)[0] < 0.3


@pytest.mark.slow
def test_a_moment_of_training_gives_a_pair_that_loads_and_segments(tmp_path):
    from nerveseg import recipe
    from nerveseg.segmenter import Segmenter, UntrainedWordWarning

    for part in (vae, clip, diffusion):
        part.train(tmp_path / "run", minutes=1e-4)
    export.export(tmp_path / "run", tmp_path / "pair")
    assert set(NAMES) <= {*json.loads((tmp_path / "pair" / "clip" / "words.json").read_text()), *NAMES}
    weights = {f"weights.{name}": str(tmp_path / "pair" / name) for name in ("clip", "diffusion")}
    segmenter = Segmenter.from_pretrained(recipe.load("mini", weights), device="cpu")
    result = segmenter(scenes.render("val", 0).image.copy(), ["dog", "grass", "sky"])
    assert set(result.segmentation.unique().tolist()) <= {0, 1, 2}
    with pytest.warns(UntrainedWordWarning, match="zebra"):
        segmenter(scenes.render("val", 0).image.copy(), ["zebra", "grass"])


def test_exporting_what_was_never_trained_says_so(tmp_path):
    with pytest.raises(WeightsNotFound, match="synthetic train"):
        export.export(tmp_path / "nothing", tmp_path / "pair")


def test_the_words_of_training_are_those_of_the_pair_that_ships():
    """They are data: whoever renames things must not rename these."""
    stored = files("nerveseg.weights") / "embedded" / "clip" / "words.json"
    known = {part for name in json.loads(stored.read_text("utf-8")) for part in name.split()}
    assert set(tokenizer.words(1)) == known
