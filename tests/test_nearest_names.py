"""A name that is nearly right gets the right one, whatever its case; nobody is told to write a module for a slip."""

from __future__ import annotations

import pytest

from nerveseg import datasets, recipe, registry
from nerveseg.errors import DataError, OptionError, RecipeError, RegistryError


def _cases():
    for kind in registry.KINDS:
        for name in registry.names(kind):
            yield kind, name


@pytest.mark.parametrize(("kind", "name"), list(_cases()))
def test_every_registered_name_is_found_in_capitals_and_with_dashes(kind, name):
    for given in {name.upper(), name.title(), name.upper().replace("_", "-"), f" {name} "} - {name}:
        with pytest.raises(RegistryError) as caught:
            registry.load(kind, given)
        assert f"Did you mean {name!r}?" in str(caught.value)
        assert " add " not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "given", "wanted"),
    [
        ("writers", "COCO JSON", "coco"),
        ("writers", "YOLOv8", "yolo"),
        ("writers", ".png", "png"),
        ("datasets", "VOC-21", "voc21"),
        ("kernels", "Softmaxx", "softmax"),
    ],
)
def test_slips_find_what_was_meant(kind, given, wanted):
    with pytest.raises(RegistryError, match=f"Did you mean '{wanted}'"):
        registry.load(kind, given)


def test_nothing_near_is_said_without_a_guess():
    with pytest.raises(RegistryError, match=r"Accepted are .*coco.*\. Choose one of them\.$"):
        registry.load("writers", "zzz")


@pytest.mark.parametrize(
    ("ask", "error", "wanted"),
    [
        (lambda: recipe.load("NERVE"), RecipeError, "nerve"),
        (lambda: recipe.load("Nerve_Paper"), RecipeError, "nerve-paper"),
        (lambda: recipe.load("mini", {"walk.name": "INFINITE"}), RegistryError, "infinite"),
        (lambda: recipe.load("mini", {"kernel.name": "SoftMax"}), RegistryError, "softmax"),
        (lambda: recipe.load("mini", {"transition.pairing": "QK"}), OptionError, "qk"),
        (lambda: recipe.load("mini", {"walk.Alpha": 0.5}), OptionError, "alpha"),
        (lambda: datasets.open("VOC21"), RegistryError, "voc21"),
        (lambda: datasets.open("embedded", split="VAL"), DataError, "val"),
    ],
)
def test_every_table_of_names_says_the_nearest(ask, error, wanted):
    with pytest.raises(error) as caught:
        ask()
    assert f"Did you mean {wanted!r}?" in str(caught.value)
