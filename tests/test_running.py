"""Running at any size: memory that runs out, networks in turns, half precision."""

from __future__ import annotations

import pytest
import torch

from nerveseg.errors import NerveSegError, OptionError, OutOfMemory
from nerveseg.segmenter import Segmenter
from nerveseg.world import scenes


@pytest.fixture(scope="module")
def scene():
    return scenes.render("val", 3, (96, 128))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError()])
def test_memory_that_runs_out_says_what_to_lower(mini, scene, monkeypatch, error):
    def fails(*_given, **_named):
        raise error

    monkeypatch.setattr(mini.recipe.graph.module, "heads", fails)
    with pytest.raises(OutOfMemory, match=r"graph\.size") as caught:
        mini.encode(scene.picture)
    assert isinstance(caught.value, NerveSegError)
    assert isinstance(caught.value, MemoryError)


def test_the_allocator_of_the_cpu_is_understood_too(mini, scene, monkeypatch):
    encoding = mini.encode(scene.picture)

    def fails(*_given):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 bytes")

    monkeypatch.setattr(mini.recipe.walk.module, "solve", fails)
    with pytest.raises(OutOfMemory, match="fewer labels"):
        mini.decode(encoding, list(scene.names))


def test_other_errors_go_through_as_they_are(mini, scene, monkeypatch):
    encoding = mini.encode(scene.picture)

    def fails(*_given):
        raise RuntimeError("something else")

    monkeypatch.setattr(mini.recipe.walk.module, "solve", fails)
    with pytest.raises(RuntimeError, match="something else"):
        mini.decode(encoding, list(scene.names))


def test_low_memory_changes_nothing_on_the_cpu(mini, scene):
    turned = Segmenter.from_pretrained("mini", device="cpu", low_memory=True)
    names = list(scene.names)
    assert torch.equal(turned(scene.picture, names).segmentation, mini(scene.picture, names).segmentation)


def test_a_device_that_is_not_there_is_refused():
    device = f"cuda:{torch.cuda.device_count()}" if torch.cuda.is_available() else "cuda"
    with pytest.raises(OptionError, match="device of this machine"):
        Segmenter.from_pretrained("mini", device=device)


def test_half_precision_networks_give_nearly_the_same_labels(mini, scene):
    names = list(scene.names)
    low = Segmenter.from_pretrained("mini", device="cpu", dtype="bfloat16")(scene.picture, names)
    full = mini(scene.picture, names)
    assert low.probabilities.dtype == torch.float32
    assert float((low.segmentation == full.segmentation).float().mean()) > 0.95
