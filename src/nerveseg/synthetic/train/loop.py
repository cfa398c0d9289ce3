"""The loop that every part of the embedded pair is trained in: bounded in minutes, resumable, reported as JSON lines."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nerveseg.synthetic import scenes

__all__ = ["Ema", "images", "learning_rate", "train", "words_of"]

_log = logging.getLogger(__name__)
_CHECKPOINT_SECONDS = 300.0


class Ema:
    """An exponential moving average of a module's weights, which is what is shipped."""

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.updates = 0
        self.average = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def update(self, module: nn.Module) -> None:
        """Move the average towards the weights; early updates move it further."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in module.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[name].lerp_(value.detach(), 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"average": self.average, "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a checkpoint's state."""
        self.average, self.updates = dict(state["average"]), int(state["updates"])


def learning_rate(peak: float, progress: float, step: int, warmup: int = 200) -> float:
    """Linear warm-up in steps, then a cosine to a fiftieth of the peak at ``progress`` = 1."""
    return peak * min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


def images(first: int, count: int, size: tuple[int, int], things: tuple[int, int], world: int = 1) -> list[scenes.Scene]:
    """``count`` training scenes from number ``first`` on; only their images, captions and names may reach a loss."""
    return [scenes.render("train", first + i, size, things, world=world) for i in range(count)]


def words_of(batch: list[scenes.Scene]) -> tuple[Tensor, list[str], list[tuple[str, ...]]]:
    """Pixels (B, 3, H, W) in [0, 1], captions, and the names that the captions hold."""
    pixels = torch.from_numpy(np.stack([scene.image for scene in batch])).permute(0, 3, 1, 2).float() / 255
    return pixels, [scene.caption for scene in batch], [scene.names for scene in batch]


def train(
    folder: Path,
    state: Mapping[str, Any],
    step: Callable[[int, float], dict[str, float]],
    minutes: float,
    watch: Callable[[], dict[str, float]] | None = None,
    watch_minutes: float = 10.0,
) -> int:
    """Run ``step(number, progress)`` until ``minutes`` of training are spent in all, over every resumption.

    Args:
        folder: where ``checkpoint.pt`` and ``log.jsonl`` live; a checkpoint that is there is resumed.
        state: everything with ``state_dict`` that a resumption needs.
        step: one optimisation step; its numbers are averaged into the log.
        minutes: training time in all; watching, checkpointing and what other processes take of the processor are not counted.
        watch: numbers worth watching that are not the loss; called every ``watch_minutes`` of training and at the end.
        watch_minutes: see ``watch``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spent, number = _resume(folder / "checkpoint.pt", state)
    watched, saved = spent, time.monotonic()
    sums: dict[str, list[float]] = {}
    while spent < minutes * 60:
        started, busy = time.monotonic(), time.process_time()
        for name, value in step(number, spent / (minutes * 60)).items():
            sums.setdefault(name, []).append(value)
        # Of one thread on a shared machine the processor's time counts, of several the clock's.
        spent += min(time.monotonic() - started, time.process_time() - busy)
        number += 1
        if number % 100 == 0:
            _write(folder, {"step": number, "minutes": spent / 60, **{k: float(np.mean(v)) for k, v in sums.items()}})
            sums = {}
        if watch and spent - watched > watch_minutes * 60:
            _write(folder, {"step": number, "minutes": spent / 60, **watch()})
            watched = spent
        if time.monotonic() - saved > _CHECKPOINT_SECONDS:
            _save(folder / "checkpoint.pt", state, spent, number)
            saved = time.monotonic()
    _save(folder / "checkpoint.pt", state, spent, number)
    if watch:
        _write(folder, {"step": number, "minutes": spent / 60, **watch()})
    return number


def _resume(path: Path, state: Mapping[str, Any]) -> tuple[float, int]:
    if not path.exists():
        return 0.0, 0
    kept = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in state.items():
        part.load_state_dict(kept[name])
    return float(kept["spent"]), int(kept["number"])


def _save(path: Path, state: Mapping[str, Any], spent: float, number: int) -> None:
    parts = {name: part.state_dict() for name, part in state.items()}
    temporary = path.with_suffix(".part")
    torch.save({**parts, "spent": spent, "number": number}, temporary)
    temporary.replace(path)


def _write(folder: Path, row: Mapping[str, float]) -> None:
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps({k: round(float(v), 5) for k, v in row.items()}) + "\n")
    _log.info("%s %s", folder.name, row)


def cycle(choices: tuple[Any, ...], seed: int) -> Iterator[Any]:
    """Draw from ``choices`` for ever."""
    rng = np.random.default_rng(seed)
    while True:
        yield choices[int(rng.integers(len(choices)))]
