from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nerveseg.synthetic import bundled, scenes
from nerveseg.synthetic.names import NAMES


@pytest.mark.parametrize("scene", bundled.scenes(), ids=lambda scene: scene.name)
def test_a_bundled_scene_is_the_one_of_its_number(scene):
    rendered = scenes.render(bundled.SPLIT, scene.index, None, bundled.THINGS)
    with Image.open(scene.path) as pil_image:
        stored = np.asarray(pil_image.convert("RGB"))
    # Resampling may round otherwise in another Pillow; the scene is the same.
    assert stored.shape == rendered.image.shape
    assert np.abs(stored.astype(int) - rendered.image).mean() < 1.0
    assert set(scene.labels[: len(rendered.names)]) == set(rendered.names)
    absent = scene.labels[len(rendered.names) :]
    assert len(absent) == 3
    assert set(absent) <= set(NAMES) - set(rendered.names)


def test_the_bundled_scenes_are_small_and_of_several_sizes():
    found = bundled.scenes()
    sizes = set()
    for scene in found:
        with Image.open(scene.path) as image:
            sizes.add(image.size)
    assert len(sizes) == len(found)
    assert sum(scene.path.stat().st_size for scene in found) < 250_000
