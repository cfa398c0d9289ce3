"""Choose the device and the dtype that networks run in."""

from __future__ import annotations

import torch

from nerveseg.errors import OptionError

__all__ = ["device_and_dtype"]


def device_and_dtype(device: str | torch.device | None, dtype: str | torch.dtype | None) -> tuple[torch.device, torch.dtype]:
    """Choose where and how precisely the networks run.

    Raises:
        OptionError: a device that is not there, or a dtype other than float32, float16, bfloat16.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:
        raise OptionError(f"Got device = {str(device)!r}. Accepted is a device of this machine. Leave it out to have it chosen.") from error
    known = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    kind = (torch.float16 if place.type == "cuda" else torch.float32) if dtype is None else known.get(str(dtype).removeprefix("torch."))
    if kind is None:
        raise OptionError(f"Got dtype = {str(dtype)!r}. Accepted are {', '.join(known)}. Choose one of them.")
    return place, kind
