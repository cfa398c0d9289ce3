"""The embedded networks know drawn scenes, and say so of other images; the verbs, the service and the page are in their own tests."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nerveseg
from nerveseg.backbones import familiar
from nerveseg.backbones.familiar import NOTE, UnfamiliarImageWarning
from nerveseg.errors import WeightsError
from nerveseg.image import load_image
from nerveseg.synthetic import bundled, scenes

EMBEDDED = Path(nerveseg.__file__).parent / "weights" / "embedded"


def cloudy(height=120, width=150, power=1.2):
    """Like a photograph in its spectrum: noise whose strength falls with the frequency, colours that go together."""
    rng = np.random.default_rng(0)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    strength = 1 / (np.hypot(rows, columns) + 1 / max(height, width)) ** power
    grey, tint = (np.real(np.fft.ifft2(np.fft.fft2(rng.standard_normal((height, width))) * strength)) for _ in range(2))
    grey, tint = (each / each.std() for each in (grey, tint))
    return np.clip(128 + 45 * grey[..., None] + 12 * tint[..., None] * np.array([1.0, 0.1, -1.0]), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def known():
    return familiar.of_folders([EMBEDDED / "clip"])


@pytest.mark.parametrize("index", range(20))
def test_scenes_of_the_test_split_are_familiar(known, index):
    assert known.distance(load_image(Image.fromarray(scenes.render("test", index).image))) <= known.bound


@pytest.mark.parametrize("scene", bundled.scenes(), ids=lambda scene: scene.path.stem)
def test_bundled_scenes_are_familiar(known, scene):
    assert known.distance(load_image(scene.path)) <= known.bound


@pytest.mark.parametrize(
    "pixels",
    [
        cloudy(),
        cloudy(480, 640, 1.5),
        np.full((100, 100, 3), 200, np.uint8),
        np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8),
        np.repeat(scenes.render("test", 0).image.mean(2, keepdims=True), 3, 2).astype(np.uint8),
    ],
    ids=["cloudy", "large", "blank", "noise", "grey"],
)
def test_other_images_are_not(known, pixels):
    assert known.distance(load_image(pixels)) > known.bound


def test_an_image_too_small_to_say_is_not_told_of(known):
    image = load_image(cloudy(40, 40))
    assert np.isnan(known.distance(image))
    assert familiar.noted(image, known) is image


def test_python_warns_and_the_result_says_it(mini):
    with pytest.warns(UnfamiliarImageWarning, match="drawn scenes only"):
        result = mini(cloudy(), "cat, grass")
    assert result.image.notes == (NOTE,)
    with pytest.warns(UnfamiliarImageWarning):
        assert [encoding.image.notes for encoding in mini.encode_many([cloudy(), cloudy()])] == [(NOTE,)] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mini.encode(result.image).image.notes == (NOTE,)  # told once
        assert mini.encode(bundled.scenes()[0].path).image.notes == ()


def test_networks_that_do_not_say_what_they_know_take_any_image(tmp_path):
    assert familiar.of_folders([tmp_path]) is None
    image = load_image(cloudy())
    assert familiar.noted(image, None) is image


def test_a_file_of_other_tensors_is_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"mean": np.zeros(3, np.float32)}, tmp_path / familiar.FILE)
    with pytest.raises(WeightsError, match="155 statistics"):
        familiar.of_folders([tmp_path])
    (tmp_path / familiar.FILE).write_bytes(b"version https://git-lfs")
    with pytest.raises(WeightsError):
        familiar.of_folders([tmp_path])


def test_what_is_fitted_is_read_back(tmp_path):
    seen, held_back = ([load_image(scenes.render("train", first + index).image) for index in range(12)] for first in (0, 100))
    made = familiar.fit(seen, held_back)
    made.save(tmp_path)
    found = familiar.read(tmp_path / familiar.FILE)
    for image in held_back:
        assert found.distance(image) == pytest.approx(made.distance(image), rel=1e-3)
        assert found.distance(image) <= found.bound
