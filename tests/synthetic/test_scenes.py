from __future__ import annotations

import hashlib

import numpy as np
import pytest

from nerveseg.errors import OptionError
from nerveseg.synthetic import captions, scenes, sheet, textures
from nerveseg.synthetic.names import GLYPHS, NAMES, STUFF, THINGS


def test_names_are_unique_and_every_thing_has_a_glyph():
    assert len(set(NAMES)) == len(NAMES) == len(THINGS) + len(STUFF)
    glyphs = sheet.load()
    assert len(glyphs) == len(GLYPHS)
    assert all(np.asarray(glyph.getchannel("A")).max() > 200 for glyph in glyphs)


@pytest.mark.parametrize("split", scenes.SPLITS)
def test_a_scene_is_a_pure_function_of_split_and_index(split):
    one, two = (scenes.render(split, 3) for _ in range(2))
    assert np.array_equal(one.image, two.image)
    assert np.array_equal(one.mask, two.mask)
    assert one.caption == two.caption


def test_splits_share_no_scene():
    images = [scenes.render(split, 0, (64, 64)).image for split in scenes.SPLITS]
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[1], images[2])


def test_captions_hold_exactly_the_names_in_the_mask():
    for index in range(12):
        scene = scenes.render("val", index)
        assert {NAMES[i] for i in np.unique(scene.mask)} == set(scene.names)
        words = f" {scene.caption} "
        assert all(f" {name} " in words for name in scene.names)
        others = [name for name in NAMES if name not in scene.names and not any(name in held for held in scene.names)]
        assert not any(f" {name} " in words for name in others)


def test_images_come_in_several_sizes_and_every_pixel_has_a_name():
    sizes = set()
    for index in range(16):
        scene = scenes.render("test", index)
        assert scene.image.dtype == scene.mask.dtype == np.uint8
        assert scene.image.shape[:2] == scene.mask.shape
        assert int(scene.mask.max()) < len(NAMES)
        sizes.add(scene.mask.shape)
    assert len(sizes) > 2


def test_things_are_drawn_where_the_mask_says():
    scene = scenes.render("val", 4, (128, 128), (2, 2))
    plain = scenes.render("val", 4, (128, 128), (0, 0))
    things = scene.mask < len(THINGS)
    difference = np.abs(scene.image.astype(int) - plain.image.astype(int)).mean(-1)
    assert difference[things].mean() > 1.5 * difference[~things].mean()


def test_an_unknown_split_is_refused():
    with pytest.raises(OptionError, match="train, val, test"):
        scenes.render("dev", 0)


@pytest.mark.parametrize("stuff", STUFF)
@pytest.mark.parametrize("size", [(1, 1), (5, 40), (64, 48)])
def test_textures_fill_any_size(stuff, size):
    drawn = textures.draw(stuff, np.random.default_rng(0), size)
    assert drawn.shape == (*size, 3)
    assert 0 <= drawn.min() <= drawn.max() <= 255


FIRST = {"train": "c278d4842ccdf5ae", "val": "7eea5decc5bdc833", "test": "c23c66ea89de8afb"}


@pytest.mark.parametrize("split", scenes.SPLITS)
def test_the_first_world_is_drawn_as_ever(split):
    digest = hashlib.sha256()
    for index in range(6):
        scene = scenes.render(split, index, world=1)
        for part in (scene.image.tobytes(), scene.mask.tobytes(), repr((scene.names, scene.caption)).encode()):
            digest.update(part)
    scene = scenes.render(split, 7, (64, 80), (1, 2))
    digest.update(scene.image.tobytes() + scene.caption.encode())
    assert digest.hexdigest()[:16] == FIRST[split]


def test_the_second_world_tells_of_what_is_there_in_words_of_its_own():
    known = captions.vocabulary()
    for index in range(12):
        scene = scenes.render("val", index, (96, 128), world=2)
        again = scenes.render("val", index, (96, 128), world=2)
        assert np.array_equal(scene.image, again.image)
        assert (scene.caption, scene.foil) == (again.caption, again.foil)
        assert {NAMES[i] for i in np.unique(scene.mask)} == set(scene.names)
        assert scene.told
        assert set(scene.told) <= set(scene.names)
        assert set(f"{scene.caption} {scene.foil}".replace(",", "").split()) <= known
        assert scene.foil != scene.caption


def test_worlds_and_splits_share_no_scene():
    images = [scenes.render(split, 0, (64, 64), (0, 0), world=world).image for world in scenes.WORLDS for split in scenes.SPLITS]
    assert len({image.tobytes() for image in images}) == len(images)


@pytest.mark.parametrize("size", [(16, 16), (24, 400), (256, 320)])
def test_the_second_world_has_any_size(size):
    scene = scenes.render("test", 1, size, world=2)
    assert scene.image.shape == (*size, 3)
    assert scene.mask.shape == size


def test_an_unknown_world_is_refused():
    with pytest.raises(OptionError, match="Accepted are 1, 2"):
        scenes.render("val", 0, world=3)
