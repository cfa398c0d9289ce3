"""The walk for everyone: the same walk as the segmenter's own, whoever made the probabilities."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import nerveseg
from nerveseg import refinement
from nerveseg.errors import LabelError, OptionError, RecipeError, ShapeError
from nerveseg.refinement import refine
from nerveseg.segmenter import Segmenter
from nerveseg.synthetic import scenes
from nerveseg.words import Vocabulary

LABELS = ["cat", "hat", "water", "sand", "dog"]


@pytest.fixture(scope="module")
def scene():
    return scenes.render("val", 3, (64, 80), (1, 2))


@pytest.fixture(scope="module")
def encoding(mini, scene):
    return mini.encode(scene.image)


@pytest.fixture(scope="module")
def G(mini, encoding):
    """(K, h, w) of mini on its graph's grid, `rest` left out."""
    inside = mini.label(encoding, Vocabulary.parse(LABELS))
    return inside.G[:, :-1].T.unflatten(1, inside.grid)


@pytest.fixture(scope="module")
def walker():
    return refinement.walker("mini")


def test_the_columns_of_mini_walk_as_mini_does(mini, encoding, walker, scene, G):
    expected = mini.decode(encoding, LABELS)
    result = refine(G, scene.image, recipe=walker, labels=LABELS)
    torch.testing.assert_close(result.probabilities, expected.probabilities, atol=1e-5, rtol=0)
    assert torch.equal(result.segmentation, expected.segmentation)
    assert result.id2label == expected.id2label
    assert result.walk.bound <= mini.recipe.walk.options.tolerance
    assert result.walk.head_weights == pytest.approx(expected.walk.head_weights, abs=1e-5)
    assert (result.recipe, set(result.weights)) == ("mini", {"diffusion"})
    assert nerveseg.refine is refine


def test_a_background_is_the_rest(mini, encoding, walker, scene, G):
    expected = mini.decode(encoding, LABELS, background="auto")
    given = mini.label(encoding, Vocabulary.parse(LABELS), nerveseg.segmenter.Background.parse("auto", Vocabulary.parse(LABELS)))
    columns = given.G[:, :-1].T.unflatten(1, given.grid)
    result = refine(columns, scene.image, recipe=walker, labels=LABELS, background="auto")
    torch.testing.assert_close(result.probabilities, expected.probabilities, atol=1e-5, rtol=0)
    assert result.id2label[5] == "background"


def test_only_the_graphs_networks_are_loaded(walker):
    assert set(walker.networks) == {"diffusion"}
    assert set(walker.folders) == {"diffusion"}


def test_a_loaded_segmenter_serves_too(mini, walker, scene, G):
    one, other = (refine(G, scene.image, recipe=loaded, labels=LABELS) for loaded in (mini, walker))
    assert torch.equal(one.probabilities, other.probabilities)
    assert mini.recipe.labels.name == "maskclip"


def test_one_call_with_a_name(scene, G, walker):
    result = refine(G.numpy(), scene.image, recipe="mini", settings={"walk.alpha": 0.5}, device="cpu")
    assert result.id2label == {at: f"class {at}" for at in range(5)}
    expected = refine(G, scene.image, recipe=walker, settings={"walk.alpha": 0.5})
    torch.testing.assert_close(result.probabilities, expected.probabilities)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(scene, G, walker, dtype):
    result = refine(G.to(dtype), scene.image, recipe=walker, labels=LABELS)
    expected = refine(G.to(dtype).float(), scene.image, recipe=walker, labels=LABELS)
    assert torch.equal(result.probabilities, expected.probabilities)
    assert result.probabilities.dtype == torch.float32


def test_a_label_map_as_one_hot_maps_of_any_integer_type(scene, walker):
    ids = torch.from_numpy(scene.mask.astype("i8")) % 3
    maps = torch.nn.functional.one_hot(ids, 3).permute(2, 0, 1)
    result = refine(maps.numpy().astype("u1"), scene.image, recipe=walker)
    torch.testing.assert_close(result.probabilities.sum(0), torch.ones(result.probabilities.shape[1:]), atol=1e-4, rtol=0)
    assert (result.segmentation == ids).float().mean() > 0.8
    assert torch.equal(refine(maps.bool(), scene.image, recipe=walker).probabilities, result.probabilities)


def test_maps_at_image_size_count_every_pixel(scene, walker):
    """A map with a mass in a few pixels keeps its mean on the graph's grid, wherever the pixels lie."""
    maps = torch.zeros(2, 640, 800)
    maps[0, ::7, ::7] = 1
    result = refine(maps, scene.image, recipe=walker, settings={"walk.alpha": 0.0, "walk.name": "truncated"})
    assert float(result.probabilities[0].mean()) == pytest.approx(float(maps[0].mean()), rel=0.05)


def test_sums_above_1_are_divided_by_one_number(scene, G, walker):
    full = G / G.sum(0, keepdim=True)
    same, triple, quarter = (
        refine(share * full, scene.image, recipe=walker, labels=LABELS, background="auto").probabilities for share in (1, 3, 0.25)
    )
    torch.testing.assert_close(same, triple, atol=1e-5, rtol=0)
    assert float(same[-1].max()) < 1e-4
    torch.testing.assert_close(quarter[-1], torch.full_like(quarter[-1], 0.75), atol=1e-3, rtol=0)


def test_a_file_with_names_in_another_order(tmp_path, scene, G, walker):
    order = [3, 0, 4, 2, 1]
    np.savez(tmp_path / "s.npz", scores=G[order].numpy(), labels=np.array([LABELS[at] for at in order]))
    expected = refine(G, scene.image, recipe=walker, labels=LABELS)
    result = refine(tmp_path / "s.npz", scene.image, recipe=walker, labels=LABELS)
    torch.testing.assert_close(result.probabilities, expected.probabilities, atol=1e-6, rtol=0)
    own = refine(tmp_path / "s.npz", scene.image, recipe=walker)
    assert list(own.label2id) == [LABELS[at] for at in order]
    with pytest.raises(LabelError, match="'cow'"):
        refine(tmp_path / "s.npz", scene.image, recipe=walker, labels=["cat", "cow"])


def test_logits_where_it_is_said(scene, G, walker):
    result = refine(G.log(), scene.image, recipe=walker, labels=LABELS, settings={"labels.kind": "logits"})
    expected = refine(G / G.sum(0, keepdim=True), scene.image, recipe=walker, labels=LABELS)
    torch.testing.assert_close(result.probabilities, expected.probabilities, atol=1e-5, rtol=0)


def test_a_saved_graph_needs_no_network_at_all(checkpoints, tmp_path, scene):
    checkpoints.write_saved(tmp_path / "picture.npz")
    settings = {"graph.name": "saved", "graph.path": str(tmp_path)}
    walker = refinement.walker("mini", settings=settings)
    assert dict(walker.networks) == {}
    maps = torch.rand(3, 10, 14, generator=torch.Generator().manual_seed(0))
    result = refine(maps, scene.image, recipe=walker)
    assert result.probabilities.shape == (3, 5, 7)


BAD = {
    "flat": (torch.ones(3, 4), r"\(3, 4\).*\(K, h, w\)"),
    "batch": (torch.ones(1, 3, 4, 4), r"\(K, h, w\)"),
    "empty": (torch.ones(0, 4, 4), "length 0"),
    "negative": (torch.full((2, 4, 4), -0.1), "at least 0"),
    "nan": (torch.full((2, 4, 4), torch.nan), "not finite"),
    "infinite": (np.full((2, 4, 4), np.inf), "not finite"),
    "complex": (np.ones((2, 4, 4), dtype=complex), "numbers of shape"),
    "words": (np.full((2, 4, 4), "a"), "numbers of shape"),
    "a list": ([[[1.0]]], "list for the probabilities"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_are_no_probabilities_is_refused_before_any_network_is_loaded(monkeypatch, scene, name):
    monkeypatch.setattr(Segmenter, "from_pretrained", None)
    given, match = BAD[name]
    with pytest.raises(ShapeError, match=match):
        refine(given, scene.image, recipe="mini")


def test_labels_that_do_not_fit(monkeypatch, scene):
    monkeypatch.setattr(Segmenter, "from_pretrained", None)
    with pytest.raises(LabelError, match="3 labels for probabilities with 2 classes"):
        refine(torch.ones(2, 4, 4), scene.image, recipe="mini", labels=["a", "b", "c"])
    with pytest.raises(LabelError, match="single label"):
        refine(torch.ones(1, 4, 4), scene.image, recipe="mini")


@pytest.mark.parametrize("settings", [{"graph.name": "none"}, {"walk.name": "none"}])
def test_a_recipe_in_which_nothing_walks(scene, settings):
    with pytest.raises(RecipeError, match="nothing would be refined"):
        refine(torch.ones(2, 4, 4), scene.image, recipe="mini", settings=settings)


def test_networks_that_are_loaded_stay_what_they_are(mini, scene, G):
    with pytest.raises(OptionError, match="other weights"):
        refine(G, scene.image, recipe=mini, settings={"weights.diffusion": "sd-2.1-base"})
    with pytest.raises(OptionError, match=r"labels\.name"):
        refine(G, scene.image, recipe=mini, settings={"labels.name": "maskclip"})
    bare = dataclasses.replace(mini, networks={})
    with pytest.raises(OptionError, match="needs diffusion"):
        refine(G, scene.image, recipe=bare)


def test_classes_at_the_end_are_read_as_classes(walker, scene, G, tmp_path):
    wanted = refine(G, scene.image, recipe=walker, labels=LABELS)
    last = np.ascontiguousarray(np.moveaxis(G.numpy(), 0, -1))
    np.savez(tmp_path / "last.npz", scores=last, labels=np.array(LABELS))
    for given, labels in ((last, LABELS), (tmp_path / "last.npz", None)):
        assert torch.equal(refine(given, scene.image, recipe=walker, labels=labels).segmentation, wanted.segmentation)
    whole = torch.rand(64, 80, 3)  # of the image's size: three maps, not 64
    assert len(refine(whole, scene.image, recipe=walker).labels) == 3
