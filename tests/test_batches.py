"""Images of unequal size, encoded together: the same as one by one, in the same order."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from nerveseg.backbones.batching import foreseen
from nerveseg.errors import ImageError, OptionError
from nerveseg.segmenter import Segmenter
from nerveseg.synthetic import scenes

SIZES = ((96, 128), (128, 128), (96, 128), (64, 160), (128, 128))


@pytest.fixture(scope="module")
def images():
    return [scenes.render("val", index, size).image for index, size in enumerate(SIZES)]


def counted(segmenter, monkeypatch):
    seen = []
    unet, tower = segmenter.networks["diffusion"].unet, segmenter.networks["clip"].model.vision_model.encoder
    for name, network in (("unet", unet), ("clip", tower)):
        real = network.forward

        def forward(*given, name=name, real=real, **named):
            first = given[0] if given else named["inputs_embeds"]
            seen.append((name, len(first)))
            return real(*given, **named)

        monkeypatch.setattr(network, "forward", forward)
    return seen


def test_a_batch_equals_its_loop(mini, images):
    together = mini.encode_many(images)
    for one, image in zip(together, images, strict=True):
        alone = mini.encode(image)
        assert one.image.sha256 == alone.image.sha256
        torch.testing.assert_close(one.features.embeddings, alone.features.embeddings, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(one.heads.keys, alone.heads.keys, atol=1e-4, rtol=1e-3)


def test_images_of_one_size_make_one_pass(mini, images, monkeypatch):
    seen = counted(mini, monkeypatch)
    mini.encode_many(images)
    assert sorted(seen) == [("clip", 1), ("clip", 2), ("clip", 2), ("unet", 1), ("unet", 2), ("unet", 2)]


def test_an_image_is_resized_once_a_size(mini, images, monkeypatch):
    asked, real = [], Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, size, *given, **named: asked.append(size) or real(self, size, *given, **named))
    alone = [mini.encode(image) for image in images]
    once = sorted(asked)
    asked.clear()
    together = mini.encode_many(images)
    assert once
    assert sorted(asked) == once
    assert [one.image.made for one in together] == [None] * len(images)  # an encoding that is kept holds no tensors of a pass
    for one, other in zip(together, alone, strict=True):
        assert one.image.sha256 == other.image.sha256


def test_alone_an_image_is_resized_for_the_graph_while_the_label_network_is_at_work(shipped, images, monkeypatch):
    where, real = [], Image.Image.resize

    def resize(self, size, *given, **named):
        where.append((size, threading.current_thread() is threading.main_thread()))
        return real(self, size, *given, **named)

    monkeypatch.setattr(Image.Image, "resize", resize)
    encoding = shipped.encode(images[0])
    assert encoding.image.made is None
    assert sorted(main for _, main in where) == [False, True]
    assert len({size for size, _ in where}) == 2


def test_what_fails_while_foreseen_fails_where_it_is_done(mini, images):
    def stage(_item, _networks):
        raise OptionError("Got no stage.")

    with foreseen(mini.networks, images[0], stage):
        pass


def test_files_and_bytes_are_read_in_their_order_and_the_first_bad_one_is_named(mini, images, tmp_path):
    files = []
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        files.append(tmp_path / f"{number}.png" if number % 2 else (tmp_path / f"{number}.png").read_bytes())
    for one, image in zip(mini.encode_many(files), images, strict=True):
        assert np.array_equal(one.image.pixels, image)
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"bad\.png"):
        mini.encode_many([files[0], tmp_path / "bad.png", tmp_path / "not there.png"])


def test_a_call_takes_images_in_batches(mini, images):
    words = ["cat", "grass", "sky"]
    for one, other in zip(mini(images, words, batch=3), mini(images, words), strict=True):
        assert one.size == other.size
        assert float((one.segmentation == other.segmentation).float().mean()) > 0.999


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_of_none_is_refused_and_loses_no_image(mini, images, batch):
    with pytest.raises(OptionError, match="1 or more"):
        mini(images, ["cat", "grass"], batch=batch)


def test_each_image_has_the_noise_of_its_own_seed(mini, images):
    same = [images[0]] * 3
    for one, seed in zip(mini.encode_many(same, seeds=[5, None, 6]), (5, None, 6), strict=True):
        torch.testing.assert_close(one.heads.keys, mini.encode(images[0], seed=seed).heads.keys, atol=1e-4, rtol=1e-3)
    five, _, six = mini.encode_many(same, seeds=[5, None, 6])
    assert float((five.heads.keys - six.heads.keys).abs().max()) > 1e-2
    with pytest.raises(OptionError, match="2 seeds for 3 images"):
        mini.encode_many(same, seeds=[5, 6])


def test_a_network_that_takes_one_image_does_not_keep_the_others_apart(mini, dino, images, monkeypatch):
    recipe = mini.recipe.changed({"graph.name": "dino", "graph.size": 64})
    both = dataclasses.replace(mini, recipe=recipe, networks={"clip": mini.networks["clip"], "dino": dino})
    alone = [both.encode(image) for image in images]
    seen = counted(mini, monkeypatch)
    for one, other in zip(both.encode_many(images), alone, strict=True):
        torch.testing.assert_close(one.features.embeddings, other.features.embeddings, atol=1e-4, rtol=1e-4)
        assert torch.equal(one.heads.keys, other.heads.keys)
    assert sorted(seen) == [("clip", 1), ("clip", 2), ("clip", 2)]


def test_windows_and_a_recipe_without_a_graph_go_through_as_well(images):
    windowed = Segmenter.from_pretrained("mini", device="cpu", settings={"labels.window": 64, "labels.stride": 32, "graph.name": "none"})
    for one, image in zip(windowed.encode_many(images), images, strict=True):
        assert one.heads is None
        torch.testing.assert_close(one.features.embeddings, windowed.encode(image).features.embeddings, atol=1e-4, rtol=1e-4)


def test_the_random_state_stays(mini, images):
    state = torch.get_rng_state()
    mini.encode_many(images[:2])
    assert torch.equal(torch.get_rng_state(), state)
