"""What the scenes look like, for `nerveseg.backbones.familiar`: nothing is trained, statistics of scenes are taken."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from nerveseg.backbones import familiar
from nerveseg.image import LoadedImage, load_image
from nerveseg.synthetic import scenes

__all__ = ["train"]

_SEEN, _HELD_BACK = 3000, 1500
_FEWEST = 200  # scenes, however little time there is
_FIRST = 1_000_000  # index of the first scene: others than the networks were trained on
_LOG = logging.getLogger(__name__)


def train(run: Path, minutes: float) -> None:
    """Write ``images-run/images.safetensors`` of scenes of the train split, its bound of those of the val split.

    Args:
        run: the folder that ``nerveseg synthetic train`` works in.
        minutes: until the scenes that there are by then will do; 4,500 take about two.
    """
    folder = run / "pictures-run"
    folder.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * minutes
    seen = list(_scenes("train", _FIRST, _SEEN, until))
    found = familiar.fit(seen, list(_scenes("val", 0, _HELD_BACK, until)))
    found.save(folder)
    _LOG.info("images-run of %d scenes: nothing is further than %.3f", len(seen), found.bound)


def _scenes(split: str, first: int, count: int, until: float) -> Iterator[LoadedImage]:
    for index in range(count):
        if index >= _FEWEST and time.monotonic() > until:
            return
        yield load_image(Image.fromarray(scenes.render(split, first + index).image))
