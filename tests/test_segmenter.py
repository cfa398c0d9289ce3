"""The contracts of the whole, on the embedded pair."""

from __future__ import annotations

import warnings
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image

from nerveseg.backbones.device import device_and_dtype
from nerveseg.errors import ImageError, LabelError, OptionError, RecipeError, WeightsNotFound
from nerveseg.image import load_image
from nerveseg.masks.decide import decide
from nerveseg.segmentation import Segmentation
from nerveseg.segmenter import Segmenter, UntrainedWordWarning
from nerveseg.synthetic import scenes
from nerveseg.synthetic.names import NAMES, STUFF, THINGS
from nerveseg.words.vocabulary import Vocabulary

LABELS = ["cat", "hat", "water", "sand", "dog"]
SIZE = (64, 80)


@pytest.fixture(scope="module")
def scene():
    return scenes.render("val", 3, SIZE, (1, 2))


@pytest.fixture(scope="module")
def encoding(mini, scene):
    return mini.encode(scene.image)


def test_every_pixel_gets_one_of_the_labels(mini, encoding):
    result = mini.decode(encoding, LABELS)
    assert isinstance(result, Segmentation)
    assert result.segmentation.shape == SIZE
    assert result.id2label == dict(enumerate(LABELS))
    assert int(result.segmentation.max()) < len(LABELS)
    assert result.recipe == "mini"
    assert result.walk.bound <= mini.recipe.walk.options.tolerance
    assert sum(result.walk.head_weights) == pytest.approx(1, abs=1e-5)
    assert set(result.weights) == {"clip", "diffusion"}
    torch.testing.assert_close(result.segmentation_scores.sum(0), torch.ones(SIZE))


def test_the_seconds_of_every_stage_are_told(mini, encoding):
    stages = {"read", "label network", "graph network", "words", "labels", "transition", "walk", "decide"}
    seconds = mini.decode(encoding, LABELS).seconds
    assert set(seconds) == stages
    assert all(taken >= 0 for taken in seconds.values())


@pytest.mark.parametrize("background", ["auto", ["brick wall", "road"]])
def test_a_background_competes_and_comes_last(mini, encoding, background):
    result = mini.decode(encoding, ["cat", "hat"], background=background)
    assert result.id2label == {0: "cat", 1: "hat", 2: "background"}
    assert result.background == 2
    torch.testing.assert_close(result.segmentation_scores.sum(0), torch.ones(SIZE))


def test_one_label_needs_a_background(mini, encoding):
    with pytest.raises(LabelError, match="single label"):
        mini.decode(encoding, ["cat"])
    with pytest.raises(LabelError, match="single label"):
        mini("no image is read before the words are right", ["cat"])
    result = mini.decode(encoding, ["cat"], background="auto")
    assert result.id2label == {0: "cat", 1: "background"}


def test_five_hundred_labels(mini, encoding):
    words = [f"{thing} {number}" for number in range(5) for thing in (*THINGS, *STUFF)][:500]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedWordWarning)
        result = mini.decode(encoding, words)
    assert len(result.labels) == 500
    assert result.segmentation.shape == SIZE
    assert result.ignore_index == 65535


def test_permuting_the_labels_permutes_the_result(mini, encoding):
    order = [3, 0, 4, 2, 1]
    first = mini.decode(encoding, LABELS, background="auto")
    second = mini.decode(encoding, [LABELS[at] for at in order], background="auto")
    torch.testing.assert_close(second.segmentation_scores, first.segmentation_scores[[*order, 5]], atol=1e-4, rtol=0)
    named = [[result.id2label[int(at)] for at in result.segmentation.flatten()] for result in (first, second)]
    assert np.mean([left == right for left, right in zip(*named, strict=True)]) > 0.999


def test_synonyms_are_one_label(mini, encoding):
    result = mini.decode(encoding, ["cat; tiger", "hat"])
    assert result.id2label == {0: "cat", 1: "hat"}
    assert result.labels[0].strings == ("cat", "tiger")


def test_a_batch_equals_its_loop_and_comes_in_order(mini, scene):
    images = [scene.image, Image.fromarray(scenes.render("val", 4, (48, 48)).image), scene.image]
    batch = mini(images, LABELS)
    loop = [mini(image, LABELS) for image in images]
    assert [result.size for result in batch] == [SIZE, (48, 48), SIZE]
    for left, right in zip(batch, loop, strict=True):
        torch.testing.assert_close(left.segmentation_scores, right.segmentation_scores, atol=1e-4, rtol=0)
    assert torch.equal(batch[0].segmentation, batch[2].segmentation)
    assert isinstance(mini(scene.image, LABELS), Segmentation)
    assert mini([], LABELS) == []


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(mini, scene, encoding):
    again = mini.encode(scene.image, seed=mini.recipe.graph.options.seed)
    other = mini.encode(scene.image, seed=7)
    assert torch.equal(again.heads.keys, encoding.heads.keys)
    assert torch.equal(mini.decode(again, LABELS).segmentation_scores, mini.decode(encoding, LABELS).segmentation_scores)
    assert not torch.equal(other.heads.keys, encoding.heads.keys)


def test_an_image_does_not_depend_on_the_ones_before_it(mini, scene, encoding):
    mini.encode(scenes.render("val", 9, (48, 48)).image)
    assert torch.equal(mini.encode(scene.image).heads.keys, encoding.heads.keys)


def test_an_encoding_says_its_bytes_and_serves_any_words(mini, encoding):
    assert encoding.bytes >= encoding.heads.bytes + encoding.image.pixels.nbytes
    assert encoding.bytes < 50_000_000
    keys = encoding.heads.keys.clone()
    mini.decode(encoding, LABELS)
    mini.decode(encoding, ["road", "snow"])
    assert torch.equal(encoding.heads.keys, keys)
    with pytest.raises(AttributeError):
        encoding.heads = None


def test_walk_knobs_change_at_decode(mini, encoding):
    short = mini.decode(encoding, LABELS, settings={"walk.name": "truncated", "walk.steps": 2, "walk.alpha": 0.5})
    assert short.walk.steps == 2
    none = mini.decode(encoding, LABELS, settings={"walk.name": "none"})
    assert none.walk is None
    assert mini.decode(encoding, LABELS).walk.steps != 2


@pytest.mark.parametrize("name", ["graph.t", "weights.clip", "labels.short_side"])
def test_knobs_of_the_networks_are_refused_at_decode(mini, encoding, name):
    value = {"graph.t": 10, "weights.clip": "other", "labels.short_side": 64}[name]
    with pytest.raises(OptionError, match="encode again"):
        mini.decode(encoding, LABELS, settings={name: value})


def test_inside_a_decode_rows_are_probabilities(mini, encoding):
    from nerveseg.words import Background, Vocabulary

    words = Vocabulary.parse(LABELS)
    inside = mini.label(encoding, words, Background.parse("auto", words))
    n = inside.grid[0] * inside.grid[1]
    for rows in (inside.G, inside.P):
        assert rows.shape == (n, len(LABELS) + 1)
        torch.testing.assert_close(rows.sum(1), torch.ones(n), atol=1e-4, rtol=0)
        assert float(rows.min()) >= 0


def test_words_that_the_embedded_pair_does_not_know_are_warned_of_once(mini, encoding):
    with pytest.warns(UntrainedWordWarning, match="xylophone"):
        mini.decode(encoding, ["xylophone", "cat"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mini.decode(encoding, ["xylophone", "cat"])
        mini.decode(encoding, list(NAMES[:6]))


def test_a_word_that_is_cut_is_warned_of(mini, encoding):
    with pytest.warns(UntrainedWordWarning, match="its end was cut"):
        mini.decode(encoding, ["cat " * 200 + "dog", "hat"])


def state(mini):
    """All that a call must leave as it was; Python's own random state is left out, beartype draws from it in tests."""
    processors = {name: id(processor) for name, processor in mini.networks["diffusion"].unet.attn_processors.items()}
    parts = (mini.networks["clip"].model, mini.networks["diffusion"].unet)
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for part in parts for module in part.modules())
    return (
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002  it is the caller's global state that is looked at
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        processors,
        hooks,
        mini.networks["clip"].model.training,
        mini.networks["diffusion"].unet.training,
    )


def test_the_callers_world_is_as_before(mini, scene):
    before = state(mini)
    mini(scene.image, LABELS)
    assert state(mini) == before


def test_the_callers_world_is_as_before_after_errors(mini, scene, monkeypatch):
    before = state(mini)
    with pytest.raises(Exception):  # noqa: B017  whatever the U-Net says of noise that does not fit
        mini.encode(scene.image, noise=torch.zeros(1, 3, 2, 2))
    assert state(mini) == before

    def broken(*args, **kwargs):
        raise RuntimeError("in the middle of a pass")

    blocks = mini.networks["diffusion"].unet.up_blocks
    monkeypatch.setattr(blocks[0], "forward", broken)
    with pytest.raises(RuntimeError, match="in the middle"):
        mini.encode(scene.image)
    assert state(mini) == before


def test_loading_leaves_the_random_state(mini):
    before = torch.get_rng_state()
    loaded = Segmenter.from_pretrained("mini", settings={"walk.alpha": 0.3})
    assert torch.equal(torch.get_rng_state(), before)
    assert loaded.recipe.walk.options.alpha == 0.3
    assert {folder.source for folder in loaded.folders.values()} == {"package"}


def test_images_in_every_form(mini, scene, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(scene.image).save(path)
    tensor = torch.from_numpy(scene.image.copy()).permute(2, 0, 1)
    ids = [mini(form, LABELS).segmentation for form in (path, str(path), path.read_bytes(), scene.image, tensor, load_image(path))]
    for other in ids[1:]:
        assert torch.equal(other, ids[0])


@pytest.mark.parametrize("image", [np.zeros((3, 3, 3), np.uint8), torch.zeros(2, 8, 8, 3), "https://example.org/a.png", None])
def test_images_that_could_be_read_in_two_ways_are_refused(mini, image):
    with pytest.raises(ImageError, match="Accepted are"):
        mini(image, LABELS)


def test_a_recipe_without_a_graph_needs_no_diffusion(mini, scene):
    alone = Segmenter.from_pretrained("mini", settings={"graph.name": "none", "walk.name": "none"})
    assert "diffusion" not in alone.networks
    result = alone(scene.image, LABELS)
    assert result.walk is None
    assert result.segmentation.shape == SIZE
    assert list(result.weights) == ["clip"]


def test_a_folder_with_recipe_and_weights_can_be_moved_as_one(scene, tmp_path):
    home = tmp_path / "mine"
    home.mkdir()
    text = (files("nerveseg") / "recipes" / "mini.toml").read_text("utf-8")
    (home / "recipe.toml").write_text(text.replace("embedded:clip", "./clip"), "utf-8")
    (home / "clip").symlink_to(files("nerveseg") / "weights" / "embedded" / "clip")
    moved = Segmenter.from_pretrained(home, settings={"graph.name": "none"})
    assert moved.recipe.name == "mine"
    assert moved.folders["clip"].path == home / "clip"


def test_weights_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(WeightsNotFound, match=r"GB.*licence.*nerveseg weights fetch.*mini"):
        Segmenter.from_pretrained(offline=True)
    path = tmp_path / "bare.toml"
    path.write_text('[labels]\nname = "clip"\n')
    with pytest.raises(RecipeError, match=r"\[weights\]"):
        Segmenter.from_pretrained(path)


def test_device_and_dtype():
    assert device_and_dtype("cpu", None) == (torch.device("cpu"), torch.float32)
    assert device_and_dtype("cpu", "torch.bfloat16")[1] is torch.bfloat16
    assert device_and_dtype("cpu", torch.float16)[1] is torch.float16
    with pytest.raises(OptionError, match="device"):
        device_and_dtype("warp", None)
    with pytest.raises(OptionError, match="float32"):
        device_and_dtype("cpu", "float64")


def test_class_scores_may_be_looked_for_on_the_label_sources_own_grid(mini, scene, encoding):
    vocabulary, recipe = Vocabulary.parse(LABELS), mini.recipe.changed({"masks.name": "class_max", "masks.score_grid": "source"})
    inside = mini.label(encoding, vocabulary, recipe=recipe)
    words = mini._words(vocabulary, None, recipe)
    scores = recipe.labels.module.score(encoding.features, words, mini.networks, recipe.labels.options)
    assert scores.grid != inside.grid
    assert mini.label(encoding, vocabulary).own is None
    for c in range(len(LABELS)):
        torch.testing.assert_close(inside.scale * float(inside.own[c].max()), float(scores.values[:, c].max()), rtol=1e-4, atol=1e-6)
    found = mini.decode(encoding, LABELS, settings={"masks.name": "class_max", "masks.score_grid": "source"})
    P = inside.P.T.unflatten(1, inside.grid)
    expected = decide(P, inside.own, SIZE, rule="class_max", options=recipe.rule.options, scale=inside.scale)
    assert torch.equal(found.segmentation, expected)


def test_maps_may_lie_on_a_square_on_their_way_to_the_image(mini, scene, encoding):
    settings = {"masks.name": "class_max", "masks.through": 48}
    inside = mini.label(encoding, Vocabulary.parse(LABELS))
    P, G = (columns.T.unflatten(1, inside.grid) for columns in (inside.P, inside.G))
    square = torch.nn.functional.interpolate(P[None], size=(48, 48), mode="bilinear", align_corners=False)[0]
    options = mini.recipe.changed(settings).rule.options
    found = mini.decode(encoding, LABELS, settings=settings)
    assert torch.equal(found.segmentation, decide(square, G, SIZE, rule="class_max", options=options, scale=inside.scale))
    assert not torch.equal(found.segmentation, decide(P, G, SIZE, rule="class_max", options=options, scale=inside.scale))
