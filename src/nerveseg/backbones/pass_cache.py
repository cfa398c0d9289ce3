"""Cache a network's results while one image is encoded, so that stages which need the same pass share it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

__all__ = ["PassCache"]


class PassCache:
    """A backbone that makes the same pass once: equal pixels and equal knobs get the activations that are there already.

    Everything else of the backbone shows through. What it remembers goes with it, so make one an image.
    """

    def __init__(self, network: Any) -> None:
        self._network = network
        self._made: list[tuple[str, tuple[Any, ...], dict[str, Any], Any]] = []

    @property
    def __class__(self) -> type:  # type: ignore[override]
        # What asks for a Clip by type takes this for one.
        return type(self._network)

    def remember(self, name: str, given: tuple[Any, ...], named: dict[str, Any], result: Any) -> None:
        """Lay down the answer to a pass that was made elsewhere."""
        self._made.append((name, given, named, result))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._network, name)
        if name not in ("vision", "attention", "tokens", "latents"):
            return found
        inside = getattr(type(self._network), name, None)
        if inside is not None:
            found = partial(inside, self)  # so that passes inside of a pass (the VAE's, inside of attention) are remembered, too

        def once(*given: Any, **named: Any) -> Any:
            # A pass that kept CLIP's attention has all of one that did not.
            more = {**named, "attention": True} if named.get("attention") is False else named
            for made, before, knobs, result in self._made:
                if made == name and _same(before, given) and (_same(knobs, named) or _same(knobs, more)):
                    return result
            result = found(*given, **named)
            self.remember(name, given, named, result)
            return result

        return once


def _one_memory(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.stride() == b.stride() and a.data_ptr() == b.data_ptr() != 0


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and (_one_memory(a, b) or bool(torch.equal(a, b)))
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
    return type(a) is type(b) and bool(a == b)
