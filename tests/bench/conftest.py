"""Data sets in miniature, and the command with the embedded pair loaded once."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
from typer.testing import CliRunner

from nerveseg import recipe as recipes
from nerveseg.cli._app import app
from nerveseg.segmenter import Segmenter


@pytest.fixture
def layouts(miniature):
    """Data set → what writes two of its images: ``layouts["voc21"](root, "sclip")``."""
    return {name: partial(miniature.write, name) for name in miniature.LAYOUTS}


@pytest.fixture
def pair(miniature):
    """Write an image of noise and a mask: ``pair(image, mask, values)``."""
    return miniature.write_pair


@pytest.fixture
def run(mini, monkeypatch, tmp_path):
    """``run("bench", "run", …)`` → the result, in an empty folder; recipes on the embedded pair share one set of networks."""
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
