from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from nerveseg import backbones
from nerveseg.backbones.offload import OffloadedNetworks, moved


class Module(nn.Module):
    """Says where it was sent."""

    def __init__(self):
        super().__init__()
        self.places = []

    def to(self, device):
        self.places.append(str(device))
        return self


@dataclass(frozen=True, eq=False)
class Network:
    model: Module = field(default_factory=Module)
    _kept: dict = field(default_factory=dict)


def make(*names):
    return {name: Network() for name in names}


def test_one_stage_is_on_the_device_and_the_others_are_at_home():
    networks = make("clip", "dino", "diffusion")
    turns = OffloadedNetworks(networks, [("clip", "dino"), ("diffusion",)], torch.device("meta"))
    assert turns["clip"].model is networks["clip"].model
    assert turns["dino"].model.places == ["meta"]
    assert networks["clip"].model.places == ["meta"]
    assert turns["diffusion"].model.places == ["meta"]
    assert networks["clip"].model.places == networks["dino"].model.places == ["meta", "cpu"]
    turns["diffusion"]
    assert networks["diffusion"].model.places == ["meta"]


def test_a_network_that_two_stages_need_stays_where_it_is():
    networks = make("clip", "diffusion")
    turns = OffloadedNetworks(networks, [("clip", "diffusion"), ("clip",)], torch.device("meta"))
    for name in ("clip", "diffusion", "clip"):
        turns[name]
    assert networks["clip"].model.places == ["meta"]


def test_it_is_a_mapping_that_moves_nothing_by_itself():
    networks = make("clip", "diffusion")
    turns = OffloadedNetworks(networks, [("clip",), ("diffusion",)], torch.device("meta"))
    assert (list(turns), len(turns), "dino" in turns) == (["clip", "diffusion"], 2, False)
    assert backbones.shared(turns, {"clip"}) is turns
    assert networks["clip"].model.places == []


def test_a_move_that_fails_leaves_every_network_at_home_and_the_next_one_works():
    networks = make("clip", "dino", "diffusion")
    full = [True]

    class Large(Module):
        def to(self, device):
            super().to(device)
            if str(device) != "cpu" and full[0]:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self

    networks["dino"] = Network(Large())
    turns = OffloadedNetworks(networks, [("diffusion",), ("clip",), ("dino",)], torch.device("meta"))
    turns["clip"]
    with pytest.raises(torch.OutOfMemoryError):
        turns["dino"]
    assert networks["clip"].model.places == ["meta", "cpu"]
    assert networks["dino"].model.places == ["meta", "cpu"]
    assert turns["clip"].model.places[-1] == "meta"
    full[0] = False
    assert turns["dino"].model.places[-1] == "meta"
    assert networks["clip"].model.places[-1] == "cpu"


def test_what_a_network_remembers_is_forgotten_when_it_moves():
    network = Network(_kept={"prompt": torch.zeros(1)})
    assert moved(network, torch.device("cpu"))._kept == {}


def test_every_backbone_can_move(clip, diffusion, groupvit, dino, dinov2, taesd):
    for network in (clip, diffusion, groupvit, dino, dinov2, taesd):
        away = moved(moved(copied(network), torch.device("meta")), torch.device("meta"))
        assert type(away) is type(network)
        held = [value for name in ("model", "unet", "vae") for value in tensors(getattr(away, name, None))]
        assert held
        assert {value.device.type for value in held} == {"meta"}
        assert getattr(away, "device", torch.device("meta")).type == "meta"


def copied(network):
    parts = {f.name: copy.deepcopy(getattr(network, f.name)) for f in dataclasses.fields(network) if f.name != "tokenizer"}
    return dataclasses.replace(network, **parts)


def tensors(module):
    return [] if module is None else [*module.parameters(), *module.buffers()]
