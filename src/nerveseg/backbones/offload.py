"""Offload networks to the CPU between stages, for accelerators whose memory holds the networks of one stage but not of all."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["OffloadedNetworks", "moved"]


class OffloadedNetworks(Mapping[str, Any]):
    """Networks at home on the CPU, of which one stage's are on the device: asking for another's sends them home first.

    Args:
        networks: kind → backbone, on the CPU.
        stages: the kinds that each stage needs together.
        device: where a stage's networks run.
    """

    def __init__(self, networks: Mapping[str, Any], stages: Sequence[Sequence[str]], device: torch.device) -> None:
        self._networks = dict(networks)
        self._stages = [frozenset(stage) for stage in stages]
        self._device = device
        self._there: frozenset[str] = frozenset()
        self.turn = threading.RLock()  # of whoever passes through them, as in `nerveseg.backbones.shared_networks.Held`

    def __getitem__(self, name: str) -> Any:
        if name not in self._there:
            self._swap(next((stage for stage in self._stages if name in stage), frozenset((name,))))
        return self._networks[name]

    def _swap(self, wanted: frozenset[str]) -> None:
        # What is there is noted move by move: one that fails for want of memory must not leave a network that is taken to be there.
        for leaving in self._there - wanted:
            self._there -= {leaving}
            self._networks[leaving] = moved(self._networks[leaving], torch.device("cpu"))
        for coming in wanted - self._there:
            try:
                self._networks[coming] = moved(self._networks[coming], self._device)
            except (RuntimeError, MemoryError):
                self._networks[coming] = moved(self._networks[coming], torch.device("cpu"))  # it may be there by half
                raise
            self._there |= {coming}

    def __iter__(self) -> Iterator[str]:
        return iter(self._networks)

    def __len__(self) -> int:
        return len(self._networks)


def moved(network: Any, device: torch.device) -> Any:
    """A backbone on another device: its modules are moved in place, its tensors copied, and what it remembers is forgotten."""
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(network):
        value = getattr(network, field.name)
        if isinstance(value, nn.Module):
            value.to(device)
        elif isinstance(value, Tensor):
            changed[field.name] = value.to(device)
        elif isinstance(value, dict) and field.name.startswith("_"):
            changed[field.name] = {}
    return dataclasses.replace(network, **changed) if changed else network
