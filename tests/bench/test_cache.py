"""Encodings on disk: the same numbers back, another file for everything that matters, broken files made anew."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from nerveseg.bench.cache import Kept, key
from nerveseg.image import load_image
from nerveseg.segmenter import Segmenter
from nerveseg.synthetic import scenes


@pytest.fixture(scope="module")
def mini():
    return Segmenter.from_pretrained("mini", device="cpu")


@pytest.fixture(scope="module")
def scene():
    return scenes.render("val", 3, (96, 128))


@pytest.fixture
def image(scene):
    return load_image(scene.image, name="scene")


def test_the_second_call_reads_what_the_first_left_and_passes_no_network(mini, image, scene, tmp_path, monkeypatch):
    kept = Kept(mini, tmp_path)
    first = kept.encode(image)
    monkeypatch.setattr(Segmenter, "encode", lambda *_a, **_k: pytest.fail("encoded again"))
    second = kept.encode(image)
    assert torch.equal(first.heads.keys, second.heads.keys)
    assert torch.equal(first.features.embeddings, second.features.embeddings)
    words = list(scene.names)
    assert torch.equal(mini.decode(first, words).segmentation, mini.decode(second, words).segmentation)


def test_it_equals_an_encoding_that_was_never_on_disk(mini, image, scene, tmp_path):
    words = list(scene.names)
    plain, read = mini.encode(image), Kept(mini, tmp_path).encode(image)
    assert torch.equal(mini.decode(plain, words).probabilities, mini.decode(read, words).probabilities)


def test_windows_and_what_sources_keep_beside_come_back_too(image, scene, tmp_path):
    settings = {"labels.window": 32, "labels.stride": 16, "labels.join_windows": "pixels"}
    segmenter = Segmenter.from_pretrained("mini", device="cpu", settings=settings)
    words = list(scene.names)
    plain, read = segmenter.encode(image), Kept(segmenter, tmp_path).encode(image)
    assert read.features.parts[0].box == plain.features.parts[0].box
    assert torch.equal(segmenter.decode(plain, words).segmentation, segmenter.decode(read, words).segmentation)


def test_half_takes_half_the_disk_and_changes_little(mini, image, tmp_path):
    full, half = Kept(mini, tmp_path / "full").encode(image), Kept(mini, tmp_path / "half", half=True).encode(image)
    sizes = [next((tmp_path / name).iterdir()).stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    assert half.heads.keys.dtype == torch.float32
    torch.testing.assert_close(half.heads.keys, full.heads.keys, rtol=1e-3, atol=1e-3)


def test_the_key_knows_what_matters_and_nothing_else(mini, image):
    other = load_image(scenes.render("val", 4, (96, 128)).image)
    moved = dataclasses.replace(mini, recipe=mini.recipe.changed({"walk.alpha": 0.5, "masks.name": "class_max"}))
    turned = dataclasses.replace(mini, recipe=mini.recipe.changed({"graph.t": 30}))
    assert key(mini, image) == key(moved, image)
    assert len({key(mini, image), key(mini, other), key(turned, image), key(mini, image, seed=1)}) == 4


def test_a_broken_file_counts_as_absent(mini, image, tmp_path):
    kept = Kept(mini, tmp_path)
    first = kept.encode(image)
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(kept.encode(image).heads.keys, first.heads.keys)
