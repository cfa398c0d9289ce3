"""Running at any size: memory that runs out, networks in turns, half precision."""

from __future__ import annotations

import copy
import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode
from transformers.models.clip.modeling_clip import CLIPModel

import nerveseg
from nerveseg import backbones, registry
from nerveseg.errors import NerveSegError, OptionError, OutOfMemory
from nerveseg.labels import base
from nerveseg.segmenter import Segmenter
from nerveseg.synthetic import scenes


@pytest.fixture(scope="module")
def scene():
    return scenes.render("val", 3, (96, 128))


NO_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    MemoryError(),
    MemoryError("Unable to allocate 728. TiB for an array"),
    RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 5 bytes."),
)


@pytest.mark.parametrize("error", NO_MEMORY, ids=range(len(NO_MEMORY)))
def test_memory_that_runs_out_says_what_to_lower(mini, scene, monkeypatch, error):
    def fails(*_given, **_named):
        raise error

    monkeypatch.setattr(mini.recipe.graph.module, "heads", fails)
    with pytest.raises(OutOfMemory, match=r"graph\.size") as caught:
        mini.encode(scene.image)
    assert isinstance(caught.value, NerveSegError)
    assert isinstance(caught.value, MemoryError)
    said, lower = str(caught.value).split(" Accepted is what fits. ")
    assert said.endswith(".")
    assert not said.endswith("..")
    assert all(knob in lower for knob in ("labels.short_side", "batch", "transition.keep", "anchor", "low_memory"))


def test_the_machine_itself_saying_so_is_understood(mini, scene, monkeypatch):
    monkeypatch.setattr(mini.recipe.graph.module, "heads", lambda *_given, **_named: torch.empty(10**15))
    with pytest.raises(OutOfMemory):
        mini.encode(scene.image)


def test_networks_that_do_not_fit_say_so_too(monkeypatch):
    def fails(*_given, **_named):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(backbones, "load", fails)
    with pytest.raises(OutOfMemory, match=r"these networks: CUDA out of memory\. Accepted is what fits\. Use low_memory"):
        Segmenter.from_pretrained("mini", device="cpu")


def test_the_cpu_s_memory_too_where_a_library_reads_the_weights(monkeypatch):
    def fails(*_given, **_named):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr(CLIPModel, "from_pretrained", fails)
    with pytest.raises(OutOfMemory, match="these networks"):
        Segmenter.from_pretrained("mini", device="cpu")


def test_a_segmenter_works_on_after_memory_ran_out(mini, scene, monkeypatch):
    before = mini.encode(scene.image).heads.keys
    monkeypatch.setattr(mini.networks["diffusion"].unet.conv_in, "forward", lambda _x: torch.empty(10**15))
    with pytest.raises(OutOfMemory):
        mini.encode(scene.image)
    monkeypatch.undo()
    assert torch.equal(mini.encode(scene.image).heads.keys, before)


def test_the_allocator_of_the_cpu_is_understood_too(mini, scene, monkeypatch):
    encoding = mini.encode(scene.image)

    def fails(*_given):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 bytes")

    monkeypatch.setattr(mini.recipe.walk.module, "solve", fails)
    with pytest.raises(OutOfMemory, match="fewer labels"):
        mini.decode(encoding, list(scene.names))


def test_other_errors_go_through_as_they_are(mini, scene, monkeypatch):
    encoding = mini.encode(scene.image)

    def fails(*_given):
        raise RuntimeError("something else")

    monkeypatch.setattr(mini.recipe.walk.module, "solve", fails)
    with pytest.raises(RuntimeError, match="something else"):
        mini.decode(encoding, list(scene.names))


def test_low_memory_changes_nothing_on_the_cpu(mini, scene):
    turned = Segmenter.from_pretrained("mini", device="cpu", low_memory=True)
    names = list(scene.names)
    assert torch.equal(turned(scene.image, names).segmentation, mini(scene.image, names).segmentation)


def test_a_device_that_is_not_there_is_refused():
    device = f"cuda:{torch.cuda.device_count()}" if torch.cuda.is_available() else "cuda"
    with pytest.raises(OptionError, match="device of this machine"):
        Segmenter.from_pretrained("mini", device=device)


# What the networks round, 2^-11 and 2^-8 of a number, a few times over.
@pytest.mark.parametrize(("dtype", "within"), [("float16", 0.005), ("bfloat16", 0.03)])
def test_half_precision_networks_give_nearly_the_same_labels(mini, scene, dtype, within):
    names = list(scene.names)
    low = Segmenter.from_pretrained("mini", device="cpu", dtype=dtype)(scene.image, names)
    full = mini(scene.image, names)
    assert low.probabilities.dtype == torch.float32
    torch.testing.assert_close(low.probabilities, full.probabilities, atol=within, rtol=0)
    assert float((low.segmentation == full.segmentation).float().mean()) > 0.95


OURS, TORCH = (str(Path(package.__file__).parent) for package in (nerveseg, torch))


class Watched(TorchFunctionMode):
    """Notes where nerveseg itself, not a network's own layers, takes a softmax, a norm, an exp or a log in half precision."""

    names = ("softmax", "log_softmax", "norm", "linalg_norm", "linalg_vector_norm", "normalize", "cosine_similarity", "exp", "exp_", "log")

    def __init__(self):
        self.low, self.calls = [], 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        frame = sys._getframe(1)
        while frame.f_code.co_filename.startswith(TORCH):
            frame = frame.f_back
        if name in self.names and frame.f_code.co_filename.startswith(OURS):
            self.calls += 1
            if args[0].dtype in (torch.float16, torch.bfloat16):
                self.low.append(f"{name} in {frame.f_code.co_filename}:{frame.f_lineno}")
        return function(*args, **(kwargs or {}))


def halved(network):
    """The same network in bfloat16; what is kept on the CPU in float32 whatever the network, ᾱ, stays."""
    parts = {f.name: copy.deepcopy(getattr(network, f.name)) for f in dataclasses.fields(network) if f.name in ("model", "vae", "unet")}
    parts = {name: part.to(torch.bfloat16) for name, part in parts.items()}
    if hasattr(network, "prompt"):
        parts |= {"prompt": network.prompt.to(torch.bfloat16), "_kept": {}}
    return dataclasses.replace(network, **parts)


@pytest.fixture(scope="module")
def halves(clip, diffusion, groupvit, dino, dinov2, taesd):
    whole = {"clip": clip, "diffusion": diffusion, "groupvit": groupvit, "dino": dino, "dinov2": dinov2, "taesd": taesd}
    return {kind: halved(network) for kind, network in whole.items()}


def options_of(module):
    names = {field.name for field in registry.knobs(module.Options)}
    return registry.options(module.Options, {name: 64 for name in ("short_side", "size") if name in names})


@pytest.mark.parametrize("name", registry.names("labels"))
def test_label_sources_on_half_networks_keep_softmax_and_cosines_in_float32(halves, image, saved_folder, monkeypatch, name):
    monkeypatch.chdir(saved_folder)
    module = registry.load("labels", name)
    options, strings = options_of(module), ("cat", "dog", "grass", "sky")
    with Watched() as seen, torch.inference_mode():
        vectors = halves[module.embeds].text(strings) if module.embeds else torch.zeros(4, 0)
        features = module.encode(module.look(image, halves, options), halves, options)
        scores = module.score(features, base.Words(strings, (0, 1, 2, 3), (), vectors, vectors[:0]), halves, options)
        G = scores.to_G(scores.grid)
    assert seen.low == []
    assert seen.calls or name == "saved"
    assert vectors.dtype == G.dtype == torch.float32
    assert bool(torch.isfinite(G).all())


@pytest.mark.parametrize("name", registry.names("graphs"))
def test_graphs_on_half_networks_give_heads_in_float32(halves, image, saved_folder, monkeypatch, name):
    monkeypatch.chdir(saved_folder)
    module = registry.load("graphs", name)
    with Watched() as seen, torch.inference_mode():
        heads = module.heads(image, halves, options_of(module))
    assert seen.low == []
    assert heads.queries.dtype == heads.keys.dtype == torch.float32
