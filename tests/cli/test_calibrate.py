"""``nerveseg calibrate`` from a folder of images to a recipe, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nerveseg import recipe as recipes
from nerveseg.bench.cache import Kept
from nerveseg.image import load_image
from nerveseg.synthetic import scenes

NAMES = ("cat", "grass", "sky")


@pytest.fixture
def folder(tmp_path, mini):
    """Eight small images whose masks are what the embedded pair says of them: no label is wrong, so surer is better."""
    root = tmp_path / "mine"
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    (root / "names.txt").write_text("\n".join(NAMES))
    for at in range(8):
        pixels = np.asarray(Image.fromarray(scenes.render("val", at).image).resize((64, 48)))
        Image.fromarray(pixels).save(root / "images" / f"{at}.png")
        encoding = Kept(mini, tmp_path / "kept").encode(load_image(root / "images" / f"{at}.png"))
        ids = mini.decode(encoding, list(NAMES)).segmentation.numpy()
        Image.fromarray(ids.astype(np.uint8)).save(root / "masks" / f"{at}.png")
    return root


def test_a_folder_becomes_a_recipe_and_noise_does_not(run, folder, tmp_path):
    given = ("calibrate", "--root", folder, "--cache", "kept")
    result = run(*given, "-o", "sure.toml", "--plot", "sure.png")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0] == "masks.temperature = 0.05, from 4 images"
    assert result.stdout.splitlines()[-2:] == ["sure.png", "sure.toml"]
    assert "before  T 1 " in result.stdout
    made, plain = recipes.load(tmp_path / "sure.toml"), recipes.load("mini")
    assert made.temperature == 0.05
    assert made.changed({"masks.temperature": 1.0}).digest == plain.digest
    assert load_image(tmp_path / "sure.png").size[1] > 1000

    again = run(*given, "--recipe", "sure.toml", "-o", "again.toml")
    assert again.exit_code == 0, again.stderr
    assert "no gain that is not noise" in again.stderr
    assert not (tmp_path / "again.toml").exists()

    taken = run(*given, "-o", "sure.toml")
    assert (taken.exit_code, "there already" in taken.stderr) == (2, True)

    for mask in (folder / "masks").iterdir():
        Image.fromarray(np.full((48, 64), 255, np.uint8)).save(mask)
    empty = run(*given, "-o", "none.toml")
    assert (empty.exit_code, "without a labelled pixel" in empty.stderr) == (1, True)
    next((folder / "masks").iterdir()).unlink()
    few = run(*given, "-o", "none.toml", "--limit", 7)
    assert (few.exit_code, "Label more" in few.stderr) == (1, True)
    assert not (tmp_path / "none.toml").exists()


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (("-o", "mine.json"), "ending in .toml"),
        (("-o", "gone/mine.toml"), "does not exist"),
        (("-o", "mine.toml", "--plot", "mine.jpg"), "ending in .png"),
        (("-o", "mine.toml", "--set", "masks.temperature=0"), "from 0.05 to 20"),
        (("-o", "mine.toml", "--set", "masks.temperature=nan"), "from 0.05 to 20"),
    ],
)
def test_a_wrong_command_costs_no_work(run, tmp_path, monkeypatch, given, word):
    monkeypatch.setattr("nerveseg.bench.job.Job.load", lambda _: pytest.fail("networks were loaded"))
    result = run("calibrate", "--data", "embedded", *given)
    assert result.exit_code == 2, result.stderr
    assert word in result.stderr
    assert list(tmp_path.iterdir()) == []
