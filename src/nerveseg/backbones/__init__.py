"""Pixels → named activations: the networks, loaded frozen and looked into with hooks that always come off.

A backbone file gives ``load(folder, *, device, dtype)``; `KINDS` says which file reads which kind of checkpoint. A backbone whose
text tower turns words into vectors has ``text``, ``unknown`` and ``truncated`` (see `nerveseg.backbones.clip.Clip`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nerveseg import registry
from nerveseg.errors import RegistryError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    import torch

__all__ = ["KINDS", "kinds", "load", "shared"]

KINDS: Mapping[str, str] = {
    "clip": "clip",
    "diffusion": "stable_diffusion",
    "groupvit": "groupvit",
    "dino": "dino",
    "dinov2": "dino",
    "taesd": "taesd",
}
"""Kind of checkpoint, as recipes and the catalogue name it → the file here that reads it."""


def load(kind: str, folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Any:
    """Read a checkpoint of a kind from a folder, without the network; float32 where no dtype is given."""
    import torch

    point = registry.from_entry_points("backbones").get(kind)
    if kind not in KINDS and point is None:
        raise RegistryError(f"Got {kind!r} for backbones. Accepted are {', '.join(kinds())}. {registry.meant(kind, kinds())}")
    module = import_module(f"nerveseg.backbones.{KINDS[kind]}") if kind in KINDS else cast("EntryPoint", point).load()
    return module.load(folder, device=device, dtype=dtype or torch.float32)


def kinds() -> tuple[str, ...]:
    """Kinds of checkpoint: `KINDS`, and those that other distributions bring."""
    return (*KINDS, *(kind for kind in registry.from_entry_points("backbones") if kind not in KINDS))


def shared(networks: Mapping[str, Any], twice: Collection[str]) -> Mapping[str, Any]:
    """The same networks for one image, where those that two stages read answer a pass that was made already from memory."""
    from nerveseg.backbones.offload import OffloadedNetworks
    from nerveseg.backbones.pass_cache import PassCache

    if isinstance(networks, OffloadedNetworks):  # looking at all of them would bring each to the device
        return networks
    return {name: PassCache(network) if name in twice else network for name, network in networks.items()}
