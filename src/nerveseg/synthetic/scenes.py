"""Scenes of the embedded world: things over stuffs, with an exact mask and a caption.

``render(split, index)`` is a pure function: the same arguments give the same bytes on every machine with the same NumPy and Pillow. The
three splits share no random stream, because the split is part of the seed's spawn key.

There are two worlds. The first (`nerveseg.synthetic.first`) is flat: glyphs on textures. The second (`nerveseg.synthetic.second`) is
nearer to images: light and shadow, colours and patterns, several of one kind, things that hide others, more stuffs, blur and compression.
"""

from __future__ import annotations

import numpy as np

from nerveseg.errors import OptionError
from nerveseg.synthetic import first, second
from nerveseg.synthetic.scene import Scene

__all__ = ["SPLITS", "WORLDS", "Scene", "render"]

SPLITS: tuple[str, ...] = ("train", "val", "test")
WORLDS = {1: first, 2: second}
_SEED = 2511_08248


def render(split: str, index: int, size: tuple[int, int] | None = None, things: tuple[int, int] | None = None, *, world: int = 1) -> Scene:
    """Render scene ``index`` of a split.

    Args:
        split: "train", "val" or "test".
        index: any number from 0; equal numbers give equal scenes.
        size: (height, width) in pixels; None draws one of the world's own sizes.
        things: fewest and most kinds of thing; fewer are left where there is no room. None: the world's own, 1 to 4 in the first.
        world: 1 or 2; equal numbers of the two are different scenes.
    """
    if split not in SPLITS:
        raise OptionError(f"Got the split {split!r}. Accepted are {', '.join(SPLITS)}. Choose one of them.")
    if world not in WORLDS:
        raise OptionError(f"Got world = {world!r}. Accepted are {', '.join(map(str, WORLDS))}. Choose one of them.")
    key = (SPLITS.index(split), index) if world == 1 else (SPLITS.index(split), index, world)
    rng = np.random.default_rng(np.random.SeedSequence(_SEED, spawn_key=key))
    drawing = WORLDS[world]
    drawn = drawing.SIZES[int(rng.integers(len(drawing.SIZES)))]
    return drawing.draw(rng, size or drawn, things or drawing.COUNT, training=split == "train")
