"""The command in this process, with the embedded pair loaded once a session."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from nerveseg import recipe as recipes
from nerveseg.cli._app import app
from nerveseg.segmenter import Segmenter


@pytest.fixture
def run(mini, monkeypatch, tmp_path):
    """``run("segment", …)`` → the result, in an empty folder; recipes on the embedded pair share one set of networks."""
    load = Segmenter.from_pretrained

    def from_pretrained(recipe="nerve", *, settings=None, **options):
        chosen = recipes.load(recipe, settings)
        if dict(chosen.weights) == dict(mini.recipe.weights) and not options.get("device") and not options.get("dtype"):
            return dataclasses.replace(mini, recipe=chosen, _texts={})
        return load(recipe, settings=settings, **options)

    monkeypatch.setattr(Segmenter, "from_pretrained", from_pretrained)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def photo(tmp_path):
    """``photo("a.png")`` writes a small image and gives its path."""

    def make(name: str = "a.png", size=(40, 56), **options) -> Path:
        path = tmp_path / name
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, **options)
        return path

    return make
