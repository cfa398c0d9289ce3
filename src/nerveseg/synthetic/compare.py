"""Every recipe that the embedded pair can carry, on the embedded world; and the walk of `mini` on top of every label source.

A recipe is carried over by giving it the pair's weights and what follows from them: no sentences around words, images as the pair was
trained on them, the scale that its CLIP learnt, no windows, the graph of `mini` at its own layers. Everything else is the method's. Each
runs in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import hashlib
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nerveseg import recipe as recipes
from nerveseg import registry
from nerveseg.errors import RecipeError
from nerveseg.image import load_image
from nerveseg.recipe import Recipe
from nerveseg.segmenter import Segmenter
from nerveseg.synthetic import scenes
from nerveseg.synthetic.names import NAMES
from nerveseg.synthetic.score import Counts, counted, interval, labels_of, miou

__all__ = ["Result", "carried", "measure", "run", "suits", "tables", "with_walk", "without_walk"]

_WEIGHTS = {"clip": "embedded:clip", "diffusion": "embedded:diffusion"}
_KNOBS: Mapping[str, Any] = {"short_side": 0, "window": 0, "scale": 20.0, "size": 160, "fit": "aspect", "t": 20}
# Layers and heads that are named by their place in Stable Diffusion have none in a U-Net of two levels: all of them, then.
_ATTENTION: Mapping[str, Any] = {"layers": (), "heads": (), "own": (-1,), "tokens": "all"}
_OFTEN = 25  # scenes between two times that what was measured is kept
_DIGITS = 12  # of a recipe's digest
_RECIPES = "mini"  # whose graph, transition and walk stand for NERVE's


@dataclass(frozen=True, eq=False)
class Result:
    """What one recipe did.

    Attributes:
        counts: pixels by name, scene by scene.
        seconds: median of an image, networks included.
        peak: resident memory in MiB at its highest, weights and libraries included.
    """

    counts: Counts
    seconds: float
    peak: float


def carried(name: str) -> Recipe | None:
    """A packaged recipe on the embedded pair; None where it needs a network that the pair has not."""
    chosen = recipes.load(name)
    if not set(chosen.needs) <= set(_WEIGHTS):
        return None
    if name == _RECIPES:
        return chosen
    settings: dict[str, Any] = {f"weights.{kind}": _WEIGHTS[kind] for kind in chosen.needs}
    settings["words.templates"] = "none"
    for part, stage in (("labels", chosen.labels), ("graph", chosen.graph)):
        if stage is not None:
            fields = {field.name for field in registry.knobs(stage.module.Options)}
            settings |= {f"{part}.{knob}": value for knob, value in _KNOBS.items() if knob in fields}
            if part == "labels":
                settings |= {f"labels.{knob}": value for knob, value in _ATTENTION.items() if knob in fields}
            elif "layers" in fields:
                settings["graph.layers"] = _layers(stage.options.layers)
    return chosen.changed(settings)


def _layers(asked: tuple[Any, ...]) -> tuple[Any, ...]:
    """Layers by depth from the end: paths of Stable Diffusion's finest level name layers that the pair numbers otherwise."""
    return tuple(-1 - place for place in range(len(asked))) if any(isinstance(layer, str) for layer in asked) else asked


def without_walk(source: str) -> Recipe:
    """A label source alone, with a plain arg max, on the embedded pair."""
    fields = {field.name for field in registry.knobs(registry.load("labels", source).Options)}
    base = recipes.load(_RECIPES, {"labels.name": source, "graph.name": "none", "walk.name": "none"})
    return base.changed({f"labels.{knob}": value for knob, value in {**_KNOBS, **_ATTENTION}.items() if knob in fields})


def with_walk(source: str) -> Recipe:
    """The same under the graph, transition and walk of `mini`."""
    alone, mini = without_walk(source), recipes.load(_RECIPES)
    tables = {part: mini.table.get(part, {}) for part in ("graph", "transition", "kernel", "walk")}
    return alone.changed({f"{part}.{knob}": value for part, table in tables.items() for knob, value in table.items()})


def measure(kind: str, name: str, count: int, split: str = "test", keep: Path | None = None) -> Result:
    """Run one recipe over scenes of a split, in this process, on one thread.

    Args:
        kind: "recipe", or "alone" and "walked" for a label source.
        name: of the recipe or the label source.
        count: scenes.
        split: of the embedded world.
        keep: folder of what was measured so far; a scene that is there is not measured again.
    """
    torch.set_num_threads(1)
    chosen = {"recipe": carried, "alone": without_walk, "walked": with_walk}[kind](name)
    if chosen is None:
        raise RecipeError(f"Got the recipe {name!r}, which needs more than the embedded pair. Accepted is one that does not. Leave it out.")
    digest = hashlib.sha256(f"{split} {chosen.to_toml()}".encode()).hexdigest()[:_DIGITS]
    kept = None if keep is None else keep / f"{kind}-{name}-{digest}.npz"
    rows, seconds, peak = _read(kept)
    if len(rows) < count:
        segmenter = Segmenter.from_pretrained(chosen, device="cpu")
        for index in range(len(rows), count):
            scene = scenes.render(split, index)
            labels = labels_of(scene, split, index)
            shot = load_image(scene.image.copy())
            started = time.perf_counter()
            result = segmenter(shot, labels)
            seconds.append(time.perf_counter() - started)
            rows.append(counted(np.array([NAMES.index(name) for name in labels])[result.segmentation.numpy()], scene.mask))
            if kept is not None and (index % _OFTEN == _OFTEN - 1 or index == count - 1):
                _write(kept, rows, seconds, max(peak, _peak()))
        peak = max(peak, _peak())
    return Result(Counts(*np.moveaxis(np.stack(rows[:count]), 1, 0)), statistics.median(seconds[:count]), peak)


def _read(kept: Path | None) -> tuple[list[NDArray[np.int64]], list[float], float]:
    if kept is None or not kept.is_file():
        return [], [], 0.0
    with np.load(kept) as file:
        return list(file["rows"]), file["seconds"].tolist(), float(file["peak"])


def _write(kept: Path, rows: list[NDArray[np.int64]], seconds: list[float], peak: float) -> None:
    draft = kept.with_suffix(".part.npz")
    np.savez_compressed(draft, rows=np.stack(rows), seconds=np.array(seconds), peak=np.array(peak))
    draft.replace(kept)


def _peak() -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def run(
    count: int = 200,
    *,
    part: str | None = None,
    workers: int = 1,
    keep: Path | None = None,
    said: Callable[[str], None] = lambda _: None,
) -> str:
    """Measure and give the tables, in Markdown.

    Args:
        count: test scenes.
        part: "recipes" or "sources"; None: both.
        workers: recipes at a time, one process each; seconds are comparable only at 1.
        keep: folder of what was measured so far, made if it is not there: the same call goes on there.
        said: called with each recipe's name when it is done.
    """
    jobs: list[tuple[str, str]] = []
    if part != "sources":
        jobs += [("recipe", name) for name in recipes.list_recipes() if carried(name) is not None]
    if part != "recipes":
        jobs += [(kind, source) for source in registry.names("labels") if suits(source) for kind in ("alone", "walked")]
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    found: dict[tuple[str, str], Result] = {}
    with ProcessPoolExecutor(workers, get_context("spawn"), max_tasks_per_child=1) as pool:
        waiting = {job: pool.submit(measure, *job, count, keep=keep) for job in jobs}
        for job, future in waiting.items():
            found[job] = future.result()
            said(" ".join(job))
    return f"{tables(found)}\n{count} test scenes, one thread.\n"


def suits(source: str) -> bool:
    """Whether the pair has what a label source reads, and it reads anything at all."""
    needs = registry.load("labels", source).needs
    return bool(needs) and set(needs) <= set(_WEIGHTS)


def tables(found: Mapping[tuple[str, str], Result]) -> str:
    """Recipes by mIoU, then label sources by mIoU under the walk, in Markdown."""
    parts = {"recipe": _recipes_table, "walked": _sources_table}
    return "\n".join(line for kind, make in parts.items() if any(one == kind for one, _ in found) for line in [*make(found), ""])


def _recipes_table(found: Mapping[tuple[str, str], Result]) -> list[str]:
    rows = {name: result for (kind, name), result in found.items() if kind == "recipe"}
    lines = ["| recipe on the embedded pair | mIoU, 95 % | seconds an image | peak MiB |", "|---|---|---|---|"]
    for name in sorted(rows, key=lambda name: -miou(rows[name].counts)):
        low, high = interval(rows[name].counts)
        mean = f"{miou(rows[name].counts):.1f} [{low:.1f}, {high:.1f}]"
        lines.append(f"| {name} | {mean} | {rows[name].seconds:.2f} | {rows[name].peak:.0f} |")
    return lines


def _sources_table(found: Mapping[tuple[str, str], Result]) -> list[str]:
    sources = [name for kind, name in found if kind == "walked"]
    lines = ["| label source | alone | with NERVE's walk | gain, 95 % |", "|---|---|---|---|"]
    for source in sorted(sources, key=lambda name: -miou(found["walked", name].counts)):
        alone, walked = found["alone", source].counts, found["walked", source].counts
        low, high = interval(walked, alone)
        gain = miou(walked) - miou(alone)
        lines.append(f"| {source} | {miou(alone):.1f} | {miou(walked):.1f} | {gain:+.1f} [{low:+.1f}, {high:+.1f}] |")
    return lines
