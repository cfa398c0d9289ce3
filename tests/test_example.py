"""The flat example says the same as the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from PIL import Image

from nerveseg.segmenter import Segmenter
from nerveseg.synthetic.scenes import render
from nerveseg.words.vocabulary import Vocabulary

_EXAMPLE = Path(__file__).parents[1] / "examples" / "nerve_in_200_lines.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("nerve_in_200_lines", _EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_is_at_most_200_lines_long():
    assert len(_EXAMPLE.read_text("utf-8").splitlines()) <= 200


@pytest.fixture(scope="module")
def scene():
    return render("val", 3)


@pytest.fixture(scope="module")
def encoding(scene):
    segmenter = Segmenter.from_pretrained("mini", device="cpu")
    return segmenter, segmenter.encode(scene.image)


@pytest.mark.parametrize("settings", [{}, {"transition.neighbours": 0.05}, {"kernel.name": "softmax", "transition.pairing": "qk"}])
def test_the_example_equals_the_package(example, scene, encoding, settings, monkeypatch):
    segmenter, encoded = encoding
    # The package stops solving the sharpness at half a percent, which P would show; here it goes on as the example does.
    monkeypatch.setattr("nerveseg.transition.affinity._NEAR", 1e-6)
    words = [*scene.names, "clock"]
    settings = {"walk.tolerance": 4e-4, **settings}  # P of both is then well within 1e-4; float32 certifies no less than half of it
    recipe = encoded.recipe.changed(settings)
    monkeypatch.setattr(example.recipes, "load", lambda _name: recipe)
    pair = Path(str(example.files("nerveseg"))) / "weights" / "embedded"
    ids, P, G = example.nerve(Image.fromarray(scene.image), words, pair, example.knobs_of("mini"))
    inside = segmenter.label(encoded, Vocabulary.parse(words), recipe=recipe)
    torch.testing.assert_close(G, inside.G, atol=1e-5, rtol=0)
    # Both stop at a bound: the package's is the recipe's tolerance, the example's a tenth of it.
    assert float((P - inside.P).abs().max()) <= 1e-4
    package = segmenter.decode(encoded, words, settings=settings).segmentation
    # A pixel may flip only where two labels are equal to within the tolerance.
    assert float((ids == package).float().mean()) > 0.999


def test_the_example_refuses_a_recipe_that_it_cannot_follow(example, encoding, monkeypatch):
    other = encoding[1].recipe.changed({"walk.name": "truncated"})
    monkeypatch.setattr(example.recipes, "load", lambda _name: other)
    with pytest.raises(SystemExit, match=r"walk\.name"):
        example.knobs_of("mini")
