"""A distribution of somebody else's – backbone, label source, recipe – is used by its names alone, from the command and from Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_PACKAGE = Path(__file__).parent / "example_package"  # laid out as pip installs it: its entry points stand in the .dist-info


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """``run(*arguments)``: Python with the package installed, in a folder that holds ``two.png``, red on the left and blue on the right."""
    folder = tmp_path_factory.mktemp("theirs")
    pixels = np.full((64, 96, 3), (200, 20, 20), np.uint8)
    pixels[:, 48:] = (20, 20, 200)
    Image.fromarray(pixels).save(folder / "two.png")
    paths = os.pathsep.join(filter(None, [str(_PACKAGE), os.environ.get("PYTHONPATH")]))

    def make(*arguments: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": paths}
        return subprocess.run([sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)

    make.folder = folder
    return make


def test_the_command_uses_its_recipe(run):
    done = run("-m", "nerveseg", "segment", "two.png", "-l", "red, blue, mauve", "-r", "palette", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert "'mauve' is a word that the CLIP of 'palette' was not trained on" in done.stderr
    ids = np.asarray(Image.open(run.folder / "out" / "two.png"))
    assert (ids[:, :44] == 0).all()
    assert (ids[:, 52:] == 1).all()
    assert set(json.loads((run.folder / "out" / "two.run.json").read_text("utf-8"))["weights"]) == {"palette"}


def test_its_names_are_listed(run):
    listed = run("-m", "nerveseg", "recipes", "list")
    assert "palette" in listed.stdout, listed.stderr
    names = run(
        "-c", "from nerveseg import backbones, registry, recipe; print(backbones.kinds(), registry.names('labels'), recipe.list_recipes())"
    )
    assert names.stdout.count("'palette'") == 3, names.stderr


def test_a_name_that_nobody_brings_is_refused(run):
    done = run("-m", "nerveseg", "segment", "two.png", "-l", "red, blue", "-r", "palete", "-o", "out2")
    assert done.returncode == 2
    assert "palette" in done.stderr
