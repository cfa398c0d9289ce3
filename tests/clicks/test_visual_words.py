"""Visual words: which sources can, their rows, and how they join the strings."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from nerveseg import registry
from nerveseg.clicks import visual_words
from nerveseg.errors import LabelError
from nerveseg.image import load_image
from nerveseg.labels import base
from nerveseg.labels._visual import token_vectors
from nerveseg.labels._windows import Box, Part

CAN = {"clearclip", "clip", "cliper", "gem", "lposs", "maskclip", "naclip", "proxyclip", "sclip"}
LABELS = registry.names("labels")


@pytest.fixture(scope="module")
def networks(clip, dino):
    return {"clip": clip, "dino": dino}


def drawn(number, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(number))


@pytest.mark.parametrize("name", sorted(CAN))
@pytest.mark.parametrize("window", [0, 48])
def test_a_source_that_can_has_a_unit_vector_a_token_and_takes_one_more_string(name, window, image, networks):
    module = registry.load("labels", name)
    knobs = {"short_side": 64, "window": window, "stride": 32}
    names = {knob.name for knob in registry.knobs(module.Options)}
    options = registry.options(module.Options, {knob: value for knob, value in knobs.items() if knob in names})
    features = module.encode(module.look(image, networks, options), networks, options)
    vectors = networks["clip"].text(("cat", "dog", "sky"))
    Z = token_vectors(module, features, vectors.shape[1])
    assert Z.shape == (features.grid[0] * features.grid[1], vectors.shape[1])
    torch.testing.assert_close(Z.norm(dim=1), torch.ones(len(Z)))
    words = base.Words(("cat", "dog"), (0, 1), ("sky",), vectors[:2], vectors[2:])
    rows = visual_words.rows(Z, torch.tensor([0, 1, 5]), torch.tensor([1, 1, 2]), vectors, margin=0.1)
    scores = module.score(features, visual_words.with_visual(words, rows, 3), networks, options)
    assert scores.values.shape[1] == 3
    assert bool(torch.isfinite(scores.values).all())
    torch.testing.assert_close(scores.to_G((9, 9)).sum(1), torch.ones(81))


@pytest.mark.parametrize("name", sorted(set(LABELS) - CAN))
def test_the_others_say_no(name):
    features = base.Features(torch.zeros(1, 6, 4), (2, 3))
    assert token_vectors(registry.load("labels", name), features, 4) is None


def test_tiles_that_are_scored_one_by_one_and_another_width_say_no():
    module, tile = registry.load("labels", "cliper"), base.Features(torch.zeros(1, 6, 4), (2, 3))
    assert token_vectors(module, base.Features(torch.zeros(1, 0, 4), (4, 3), tiles=(tile, tile)), 4) is None
    assert token_vectors(module, tile, 5) is None


def test_one_window_over_all_gives_its_own_patches_and_two_their_mean():
    module, own = registry.load("labels", "sclip"), base.unit(drawn(0, 6, 4))
    whole = Part(own, (2, 3), Box(0, 0, 32, 48, (32, 48), (0, 0), (32, 48)))
    features = base.Features(own[None, :0], (2, 3), parts=(whole,), pixels=(32, 48))
    torch.testing.assert_close(token_vectors(module, features, 4), own)
    right = Part(base.unit(drawn(1, 4, 4)), (2, 2), Box(0, 16, 32, 32, (32, 32), (0, 0), (32, 32)))
    both = token_vectors(module, dataclasses.replace(features, parts=(whole, right)), 4)
    expected = own.clone().view(2, 3, 4)
    expected[:, 1:] = expected[:, 1:] + right.embeddings.view(2, 2, 4)
    torch.testing.assert_close(both, base.unit(expected).view(6, 4))


def test_a_row_by_hand():
    Z, T = base.unit(drawn(2, 40, 8)), base.unit(drawn(3, 3, 8))
    Z = base.unit(Z + 0.8)  # vectors of one network lie in a cone
    u = visual_words.even(Z)
    assert float((Z @ u - 1).abs().mean()) < 0.1
    row = visual_words.rows(Z, torch.tensor([4, 9, 7]), torch.tensor([1, 1, 0]), T, margin=0.05)[1]
    v = Z[[4, 9]].mean(0) / Z[[4, 9]].mean(0).norm()
    best = max(float((Z[[4, 9]] @ text).mean()) for text in T)
    assert float((Z[[4, 9]] @ row).mean()) == pytest.approx(best + 0.05, abs=1e-5)
    t = (best + 0.05 - float((Z[[4, 9]] @ v).mean())) / float((Z[[4, 9]] @ u).mean())
    torch.testing.assert_close(row, v + t * u)


def test_tokens_that_cancel_out_leave_the_word_as_it_is():
    Z = torch.cat([torch.eye(3), -torch.eye(3)])
    row = visual_words.rows(Z, torch.tensor([0]), torch.tensor([0]), torch.eye(3), margin=0.1)[0]
    torch.testing.assert_close(row, Z[0])


def test_strings_stay_class_by_class():
    vectors = drawn(4, 3, 5)
    words = base.Words(("cat", "kitten", "dog"), (0, 0, 1), ("sky",), vectors, drawn(5, 1, 5))
    rows = {0: torch.ones(5), 2: torch.full((5,), 2.0), 3: torch.full((5,), 3.0)}
    found = visual_words.with_visual(words, rows, 3)
    assert found.strings == ("cat", "kitten", visual_words.NAME, "dog", visual_words.NAME)
    assert found.groups == (0, 0, 0, 1, 2)
    assert found.classes == 3
    assert torch.equal(found.vectors, torch.stack([*vectors[:2], rows[0], vectors[2], rows[2]]))
    assert found.others == ("sky", visual_words.NAME)
    assert torch.equal(found.other_vectors[1], rows[3])


def test_a_recipe_without_a_graph_hears_visual_words_alone(mini):
    from nerveseg.clicks import Click
    from nerveseg.synthetic import scenes

    plain = dataclasses.replace(mini, recipe=mini.recipe.changed({"graph.name": "none", "walk.name": "none", "masks.upsample": "logits"}))
    encoding = plain.encode(load_image(scenes.render("val", 3, size=(64, 80)).image))
    before = plain.decode(encoding, ["cat", "grass", "sky"])
    after = plain.decode(encoding, ["cat", "grass", "sky"], clicks=[Click("thing", points=(30, 40))])
    assert after.segmentation[40, 30] == 3
    assert int((after.segmentation == 3).sum()) > 1
    assert before.walk is None is after.walk
    assert after.segmentation_scores.shape[0] == 4
    with pytest.raises(LabelError, match="without visual words"):
        plain.decode(encoding, ["cat", "grass"], clicks=[Click("thing", points=(30, 40))], settings={"clicks.visual": "off"})
