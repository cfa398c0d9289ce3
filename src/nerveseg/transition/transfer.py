"""Copy between host and device with as few synchronisations as possible: each one lets the accelerator idle."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["numbers", "sent"]

# Bytes that CUDA takes from memory of any kind at once; for more it waits for its stream.
_STAGED = 1 << 16


def numbers(x: Float[Tensor, " m"]) -> list[float]:
    """Bring a few numbers to the host at once: one wait for the device, however many there are."""
    values: Any = x
    return values.tolist()


def sent(x: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Send to a device without waiting for what it is doing.

    Only to CUDA, which copies pinned memory, and a little of any other, behind the call; elsewhere the host waits until the copy is made.
    """
    ahead = device.type == "cuda"
    if ahead and x.device.type == "cpu" and x.nbytes > _STAGED:
        x = x.pin_memory()
    return x.to(device, dtype, non_blocking=ahead)
