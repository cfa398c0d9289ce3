from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nerveseg.errors import LabelError, SavedError, ShapeError
from nerveseg.labels import base
from nerveseg.labels import saved as source

NAMES = ["sky", "cat", "potted_plant"]


@pytest.fixture
def values():
    return torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))


def words(*strings, groups=None):
    rows = torch.zeros(len(strings), 0)
    return base.Words(strings, tuple(groups or range(len(strings))), (), rows, rows[:0])


def scored(image, told, **knobs):
    options = source.Options(**knobs)
    return source.score(source.encode(source.look(image, {}, options), {}, options), told, {}, options)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_classes_are_found_by_name_whatever_the_order(tmp_path, image, values, ending):
    if ending == "npz":
        np.savez(tmp_path / "picture.npz", scores=values.numpy(), labels=np.array(NAMES))
    else:
        save_file({"scores": values}, tmp_path / "picture.safetensors", metadata={"labels": json.dumps(NAMES)})
    scores = scored(image, words("Potted  plant", "sky"), path=str(tmp_path))
    assert scores.grid == (4, 5)
    torch.testing.assert_close(scores.values, values[[2, 0]].flatten(1).T)
    with pytest.raises(LabelError, match=r"'dog'.*its own names: sky, cat, potted_plant"):
        scored(image, words("cat", "dog"), path=str(tmp_path))


def test_without_names_the_order_counts(tmp_path, image, values):
    np.savez(tmp_path / "a.npz", values.numpy())  # numpy calls it arr_0
    scores = scored(image, words("x", "y", "z"), path=str(tmp_path / "a.npz"))
    torch.testing.assert_close(scores.values, values.flatten(1).T)
    with pytest.raises(LabelError, match=r"2 labels for .*a\.npz with 3 classes"):
        scored(image, words("x", "y"), path=str(tmp_path / "a.npz"))


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4", "int32", "uint8"])
def test_any_number_type_is_read_as_float32(tmp_path, image, values, dtype):
    stored = (values.numpy() * 7).astype(dtype)
    np.savez(tmp_path / "picture.npz", scores=stored)
    scores = scored(image, words("x", "y", "z"), path=str(tmp_path))
    assert scores.values.dtype == torch.float32
    np.testing.assert_array_equal(scores.values.T.reshape(3, 4, 5).numpy(), stored.astype("f4"))


def test_half_and_brain_floats_of_safetensors(tmp_path, image, values):
    for dtype in (torch.float16, torch.bfloat16):
        save_file({"scores": values.to(dtype)}, tmp_path / "picture.safetensors")
        assert torch.equal(scored(image, words("x", "y", "z"), path=str(tmp_path)).values, values.to(dtype).float().flatten(1).T)


def test_logits_are_shared_among_every_class_of_the_file(tmp_path, image, values):
    logits = values * 8 - 4
    np.savez(tmp_path / "picture.npz", scores=logits.numpy(), labels=np.array(NAMES))
    scores = scored(image, words("cat", "sky"), path=str(tmp_path), kind="logits", scale=2.0)
    expected = (2 * logits).softmax(0)[[1, 0]].flatten(1).T
    torch.testing.assert_close(scores.values, expected)
    G = scores.to_G((4, 5))
    torch.testing.assert_close(G[:, 2], (2 * logits).softmax(0)[2].flatten())  # what is not asked for is `rest`
    with pytest.raises(ShapeError, match=r"down to -\d.*logits"):
        scored(image, words("cat", "sky"), path=str(tmp_path))


def test_synonyms_join_columns(tmp_path, image, values):
    np.savez(tmp_path / "picture.npz", scores=values.numpy(), labels=np.array(NAMES))
    told = words("sky", "cat", "kitten", "potted plant", groups=(0, 1, 1, 1))
    for join, expected in (("max", values[1:].amax(0)), ("sum", values[1:].sum(0))):
        scores = scored(image, told, path=str(tmp_path), join=join)
        torch.testing.assert_close(scores.values[:, 1], expected.flatten())


def test_files_are_found_by_the_images_stem(tmp_path, image, values):
    named = dataclasses.replace(image, name="b.c.jpg")
    np.savez(tmp_path / "b.c.npz", scores=values.numpy())
    assert scored(named, words("x", "y", "z"), path=str(tmp_path)).grid == (4, 5)
    with pytest.raises(SavedError, match=r"neither of picture\.npz or picture\.safetensors"):
        scored(image, words("x", "y", "z"), path=str(tmp_path))
    save_file({"scores": values}, tmp_path / "b.c.safetensors")
    with pytest.raises(SavedError, match="more than one"):
        scored(named, words("x", "y", "z"), path=str(tmp_path))


def _objects(path):
    np.savez(path, scores=np.array([{"a": 1}], dtype=object))


BAD = {
    "absent.npz": (lambda path: None, SavedError, "no file"),
    "text.npz": (lambda path: path.write_text("scores"), SavedError, "no .npz archive"),
    "cut.safetensors": (lambda path: path.write_bytes(b"\x10\0\0\0\0\0\0\0{"), SavedError, "cannot be read"),
    "scores.npy": (lambda path: np.save(path, np.ones(3)), SavedError, "ending in .npz or .safetensors"),
    "pickle.npz": (_objects, SavedError, "never loaded"),
    "two.npz": (lambda path: np.savez(path, a=np.ones(3), b=np.ones(3)), SavedError, "arrays a, b.*'scores'"),
    "flat.npz": (lambda path: np.savez(path, scores=np.ones((3, 4))), ShapeError, r"flat.npz.*\(3, 4\).*\(K, h, w\)"),
    "none.npz": (lambda path: np.savez(path, scores=np.ones((3, 0, 4))), ShapeError, "no axis of length 0"),
    "nan.npz": (lambda path: np.savez(path, scores=np.full((3, 4, 4), np.nan)), ShapeError, "not finite"),
    "names.npz": (lambda path: np.savez(path, scores=np.ones((3, 4, 4)), labels=np.array(["a"])), LabelError, "3 maps and 1 names"),
    "meta.safetensors": (
        lambda path: save_file({"scores": torch.ones(3, 4, 4)}, path, metadata={"labels": '{"a": 1}'}),
        SavedError,
        "JSON list",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_cannot_be_scores_are_refused_by_name(tmp_path, image, name):
    make, error, match = BAD[name]
    make(tmp_path / name)
    with pytest.raises(error, match=match):
        scored(image, words("x", "y", "z"), path=str(tmp_path / name))


def test_a_recipe_of_saved_scores_segments_without_a_network(tmp_path, values):
    from PIL import Image

    from nerveseg.segmenter import Segmenter

    Image.new("RGB", (50, 40)).save(tmp_path / "a.png")
    np.savez(tmp_path / "a.npz", scores=values.numpy(), labels=np.array(NAMES))
    settings = {"labels.name": "saved", "labels.path": str(tmp_path), "graph.name": "none", "walk.name": "none"}
    segmenter = Segmenter.from_pretrained("mini", settings=settings)
    assert dict(segmenter.networks) == {}
    result = segmenter(tmp_path / "a.png", ["cat", "sky"])
    torch.testing.assert_close(result.probabilities, values[[1, 0]] / max(1, float(values[[1, 0]].sum(0).max())))
