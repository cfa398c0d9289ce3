"""A backbone: a folder with ``palette.json``, names and their colours. It embeds a word as its colour."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Palette:
    """Unit vectors of three numbers for names."""

    colors: dict[str, list[float]]
    device: torch.device

    def text(self, strings, templates) -> Tensor:
        """(s, 3): the direction of each name's colour; grey where the palette has no such name. Colours need no sentence around them."""
        rows = [self.colors.get(string, [1.0, 1.0, 1.0]) for string in strings]
        return F.normalize(torch.tensor(rows, dtype=torch.float32, device=self.device), dim=-1)

    def unknown(self, strings) -> tuple[str, ...]:
        """Those of the strings that the palette does not have."""
        return tuple(string for string in strings if string not in self.colors)

    def truncated(self, strings, templates) -> tuple[str, ...]:
        """None: no name is too long."""
        return ()


def load(folder: Path, *, device, dtype) -> Palette:
    """Read the palette."""
    return Palette(json.loads((folder / "palette.json").read_text("utf-8")), torch.device(device))
