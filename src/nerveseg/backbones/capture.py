"""Capture inner tensors of a network's forward pass with hooks that are always removed, and stop the pass once all of them are there.

Queries and keys are read at the outputs of an attention layer's own projections (or of its q/k norms, where it has any), so its
attention processor, its upcasting and its fused kernel stay as they are and no attention matrix is ever formed.
Hooks belong to the model, so one model serves one pass at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nerveseg.errors import ShapeError

__all__ = ["Stopped", "inputs_of", "outputs_of", "projections", "split_heads", "stop_once_complete"]


class Stopped(Exception):
    """Raised inside a pass to end it; never leaves `stop_once_complete`."""


@contextlib.contextmanager
def inputs_of(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Record the first tensor that each module receives, by name, while the context is open."""
    seen: dict[str, Tensor] = {}
    with contextlib.ExitStack() as stack:
        for name, module in modules.items():
            _closing(stack, module.register_forward_pre_hook(_input_recorder(seen, name), with_kwargs=True))
        yield seen


@contextlib.contextmanager
def outputs_of(modules: Mapping[str, nn.Module], *, stop: bool = False) -> Iterator[dict[str, Tensor]]:
    """Record the output of each module, by name, while the context is open.

    Args:
        modules: what to look at.
        stop: end the pass (raise `Stopped`) as soon as every module has answered; open `stop_once_complete` around the call.
    """
    seen: dict[str, Tensor] = {}
    with contextlib.ExitStack() as stack:
        for name, module in modules.items():
            _closing(stack, module.register_forward_hook(_output_recorder(seen, name, len(modules) if stop else 0)))
        yield seen


@contextlib.contextmanager
def stop_once_complete() -> Iterator[None]:
    """Swallow the `Stopped` with which a complete recording ends the pass; every other error goes through."""
    with contextlib.suppress(Stopped):
        yield


def projections(attention: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The modules of a diffusers attention layer whose outputs are its final queries and keys."""
    parts: list[nn.Module] = []
    for norm, linear in (("norm_q", "to_q"), ("norm_k", "to_k")):
        module = getattr(attention, norm, None)
        parts.append(module if isinstance(module, nn.Module) else getattr(attention, linear))
    return parts[0], parts[1]


def split_heads(x: Tensor, heads: int) -> Float[Tensor, "H n d"]:
    """Part a projection of one image, (1, n, H·d) or already (1, H, n, d), into float32 heads."""
    if x.shape[0] != 1 or x.ndim not in (3, 4):
        raise ShapeError(f"Got a projection of shape {tuple(x.shape)}. Accepted is (1, n, H·d) or (1, H, n, d). Pass one image at a time.")
    if x.ndim == 4:
        return x[0].float()
    return x[0].unflatten(-1, (heads, -1)).transpose(0, 1).float().contiguous()


def _closing(stack: contextlib.ExitStack, handle: RemovableHandle) -> None:
    stack.callback(handle.remove)


def _input_recorder(seen: dict[str, Tensor], name: str) -> Any:
    def record(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = [*args, *kwargs.values()]
        seen[name] = next(value for value in given if isinstance(value, Tensor)).detach()

    return record


def _output_recorder(seen: dict[str, Tensor], name: str, complete_at: int) -> Any:
    def record(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        seen[name] = first.detach()
        if complete_at and len(seen) == complete_at:
            raise Stopped

    return record
