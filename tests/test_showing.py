"""Results and everything around them say what they hold in a line or two."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

import nerveseg
from nerveseg import datasets, recipe, refinement
from nerveseg.clicks import Click
from nerveseg.datasets import classes
from nerveseg.errors import LabelError
from nerveseg.reprs import brief
from nerveseg.synthetic import scenes
from nerveseg.words import Background, Vocabulary

LABELS = ["cat; duck", "hat", "water", "sand", "dog"]
_APART = {"cli", "server", "ui", "neighbours", "picture", "world"}  # programs, whose values no caller holds; old names


@pytest.fixture(scope="module")
def scene():
    return scenes.render("val", 3, (64, 80), (1, 2))


@pytest.fixture(scope="module")
def result(mini, scene):
    return mini(scene.image, LABELS, background="auto")


def test_nothing_is_longer_than_three_lines(mini, scene, result):
    encoding = mini.encode(scene.image)
    inside = mini.label(encoding, Vocabulary.parse(LABELS))
    many = Vocabulary.parse([f"thing {number}; object {number}" for number in range(500)])
    held = [
        *(mini, mini.recipe, encoding, encoding.features, encoding.heads, encoding.image, result, result.walk, inside, inside.S),
        *(many, Background(many.strings), classes.read("ade20k"), datasets.open("embedded"), recipe.load("nerve"), scene),
        *(refinement.prepare(torch.rand(5, 8, 8) / 9, refinement.recipe_for("mini")), mini.correct(encoding, LABELS)),
        *(mini.networks["clip"], mini.networks["diffusion"], mini.folders["clip"], Click("cat", points=[(1, 2)] * 900)),
    ]
    for value in held:
        text = repr(value)
        assert text.startswith(f"{type(value).__name__}(")
        assert len(text) <= 300, text
        assert "\n" not in text
    assert repr(Vocabulary.parse("cat, dog")) == "Vocabulary(labels=(Label('cat'), Label('dog')))"
    assert "int64(64×80)" in repr(result)


def _public():
    for module in pkgutil.walk_packages(nerveseg.__path__, "nerveseg."):
        if module.name.endswith("__main__") or module.name.split(".")[1] in _APART:
            continue
        for name, held in vars(importlib.import_module(module.name)).items():
            if isinstance(held, type) and dataclasses.is_dataclass(held) and held.__module__ == module.name and not name.startswith("_"):
                yield held


def test_whatever_holds_arrays_or_tables_shows_itself_in_brief():
    heavy = re.compile(r"Tensor|NDArray|np\.nd|Mapping|Transition|Features|Heads|Recipe")
    long = [
        held for held in _public() if any(heavy.search(str(field.type)) for field in dataclasses.fields(held) if field.repr)
        and held.__repr__ is not brief
    ]  # fmt: skip
    assert not long, "give them `__repr__ = brief`"


def test_a_label_of_a_result_is_a_mask(result, scene):
    for index, name in result.id2label.items():
        assert torch.equal(result[name], result.segmentation == index)
        assert torch.equal(result[index], result[name])
    assert result["cat"].dtype == torch.bool
    assert torch.equal(result[" DUCK"], result["cat"])
    assert torch.equal(result[np.int64(1)], result["hat"])
    assert result["background"].sum() + sum(result[name].sum() for name in ("cat", "hat", "water", "sand", "dog")) == 64 * 80
    assert scene.image[result["cat"]].shape == (int(result["cat"].sum()), 3)
    assert list(result) == [*("cat", "hat", "water", "sand", "dog"), "background"]
    assert "cat" in result
    assert "cow" not in result


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("cats", "Did you mean 'cat'"),
        ("duk", "Did you mean 'cat'"),
        ("", "Name one"),
        (6, "0 to 5"),
        (-1, "0 to 5"),
        (True, "id from"),
        (None, "id from"),
        (1.0, "id from"),
    ],
)
def test_a_label_that_was_not_asked_for_is_refused(result, key, says):
    for ask in (result.__getitem__, result.cutout):
        with pytest.raises(LabelError) as caught:
            ask(key)
        assert says in str(caught.value)


def test_a_cutout_is_the_image_where_the_label_is(result, scene):
    cut = result.cutout("cat")
    assert (cut.mode, cut.size) == ("RGBA", (80, 64))
    np.testing.assert_array_equal(np.asarray(cut)[:, :, :3], scene.image)
    np.testing.assert_array_equal(np.asarray(cut)[:, :, 3] == 255, result["cat"].numpy())
    assert set(np.unique(np.asarray(cut)[:, :, 3])) <= {0, 255}


def test_a_notebook_shows_the_overlay(result):
    shown = Image.open(BytesIO(result._repr_png_()))
    assert shown.format == "PNG"
    assert shown.size == result.overlay().size


@pytest.mark.parametrize("labels", ["cat; duck, hat", {0: "cat; duck", 1: "hat"}, ("cat; duck", "hat")])
def test_labels_and_images_as_people_write_them(mini, scene, labels, tmp_path):
    wanted = mini(scene.image, ["cat; duck", "hat"])
    path, buffer = tmp_path / "scene.png", BytesIO()
    Image.fromarray(scene.image).save(path)
    Image.fromarray(scene.image).save(buffer, "PNG")
    (tmp_path / "labels.txt").write_text("cat; duck\nhat\n")
    with path.open("rb") as file:
        for source in (path, str(path), path.as_uri(), buffer, file, scene.image[None], scene.image.astype(float)):
            assert torch.equal(mini(source, labels, background="none").segmentation, wanted.segmentation)
    assert torch.equal(mini(path, tmp_path / "labels.txt").segmentation, wanted.segmentation)


def test_an_iterator_gives_an_iterator_and_takes_a_batch_at_a_time(mini, scene):
    taken = []

    def images():
        for index in range(5):
            taken.append(index)
            yield scene.image

    results = mini(images(), LABELS, batch=2)
    assert taken == []
    first = next(results)
    assert taken == [0, 1]
    assert torch.equal(first.segmentation, mini(scene.image, LABELS).segmentation)
    assert len(list(results)) == 4
    assert isinstance(mini([scene.image], LABELS), list)
    with pytest.raises(LabelError):
        mini(images(), [])
    assert taken == [0, 1, 2, 3, 4]
