"""The image at the head of the README: one bundled scene on its way from image to masks.

    python examples/flow_figure.py [docs/assets/flow.png] [--scene rabbit-and-apple]

Made with the embedded pair, so it changes with the weights; run it again when they do.
"""

from __future__ import annotations

import argparse
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch
from PIL import Image

from nerveseg.masks.draw import paint
from nerveseg.masks.palette import wheel
from nerveseg.recipe import load
from nerveseg.segmenter import Labelling, Segmenter
from nerveseg.synthetic import bundled
from nerveseg.words.vocabulary import Vocabulary

INK, SOFT = "#1d2733", "#66727f"
STYLE: dict[Any, Any] = {"font.size": 9.5, "text.color": INK, "axes.titlesize": 10.5, "axes.titlecolor": INK, "axes.titlelocation": "left"}


def main() -> None:
    """Segment the scene and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=Path(__file__).parents[1] / "docs" / "assets" / "flow.png")
    parser.add_argument("--scene", default="rabbit-and-apple", choices=[scene.name for scene in bundled.scenes()])
    given = parser.parse_args()
    scene = next(scene for scene in bundled.scenes() if scene.name == given.scene)
    segmenter = Segmenter.from_pretrained("mini", device="cpu")
    encoding = segmenter.encode(scene.path)
    inside = segmenter.label(encoding, Vocabulary.parse(scene.labels))
    result = segmenter.decode(encoding, scene.labels)
    with rc_context(STYLE):
        figure = drawn(encoding.image.pixels, scene.labels, inside, result.segmentation.numpy())
        figure.savefig(draft := io.BytesIO(), dpi=150, facecolor="white")
    # 256 colours are a third of the bytes, and nothing is lost to the eye.
    Image.open(draft).convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT).save(given.out, optimize=True)
    print(f"{given.out}: {inside.grid[0]} × {inside.grid[1]} tokens, {result.walk.steps if result.walk else 0} steps")


def drawn(pixels: np.ndarray, labels: tuple[str, ...], inside: Labelling, ids: np.ndarray) -> Figure:
    """Five panels: the image, G, where walks stop, P, and the masks; below them the words."""
    figure = Figure(figsize=(12.4, 3.15))
    axes = figure.subplots(1, 5, gridspec_kw={"left": 0.008, "right": 0.992, "top": 0.85, "bottom": 0.13, "wspace": 0.16})
    colours = wheel(len(labels))
    maps = [columns[:, :-1].argmax(1).unflatten(0, inside.grid).numpy() for columns in (inside.G, inside.P)]
    extent = (0, pixels.shape[1], pixels.shape[0], 0)
    axes[0].imshow(pixels)
    axes[1].imshow(colours[maps[0]], extent=extent, interpolation="nearest")
    row, (x, y) = one_row(inside, maps[1], pixels.shape[:2])
    axes[2].imshow(pixels, alpha=0.4)
    axes[2].imshow(row, extent=extent, interpolation="nearest", cmap="magma", alpha=0.8)
    axes[2].plot([x], [y], marker="+", color="white", markersize=9, markeredgewidth=1.6)
    axes[3].imshow(colours[maps[1]], extent=extent, interpolation="nearest")
    axes[4].imshow(np.asarray(paint(pixels, ids, len(labels), alpha=0.5)))
    titles = ("image", "words → G", "graph → S", "walk → P", "masks")
    notes = ("", "dense CLIP, patch by patch", "where the walk from + stops", "(1 − α)(I − αS)⁻¹ G", "at the image's own size")
    for ax, title, note in zip(axes, titles, notes, strict=True):
        framed(ax, title, note)
    for left, right in itertools.pairwise(axes):
        ends = ((left.get_position().x1 + 0.004, 0.48), (right.get_position().x0 - 0.004, 0.48))
        figure.add_artist(FancyArrowPatch(*ends, transform=figure.transFigure, arrowstyle="-|>", mutation_scale=9, color=SOFT))
    there = [place for place in range(len(labels)) if (ids == place).any()]
    legend = [Patch(color=colours[place] / 255, label=labels[place]) for place in there]
    absent = ", ".join(label for place, label in enumerate(labels) if place not in there)
    figure.legend(handles=legend, loc="lower left", bbox_to_anchor=(0.002, 0.005), ncols=len(legend), frameon=False, handlelength=1.0)
    figure.text(0.992, 0.055, f"asked for and not found: {absent}" if absent else "", ha="right", color=SOFT)
    return figure


def one_row(inside: Labelling, labelled: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, tuple[float, float]]:
    """Where the walk from the middle of the largest but two label's region stops, its root for the eye, and that token's place."""
    chosen = int(np.argsort(np.bincount(labelled.ravel()))[-3])
    places = np.argwhere(labelled == chosen)
    token = places[((places - places.mean(0)) ** 2).sum(1).argmin()]
    index = int(token[0]) * inside.grid[1] + int(token[1])
    walk = load("mini").walk
    if inside.S is None or walk is None:
        raise SystemExit("The recipe has no graph, so there is nothing to walk on.")
    # A row of (1 - α)(I - αS)⁻¹ solves a system with Sᵀ; n is small, so S is written out.
    alpha = walk.options.alpha
    system = torch.eye(inside.S.n) - alpha * inside.S.to_dense().T
    start = torch.zeros(inside.S.n, 1)
    start[index] = 1 - alpha
    row = torch.linalg.solve(system, start).clamp_min(0).view(inside.grid)
    step = (size[0] / inside.grid[0], size[1] / inside.grid[1])
    return torch.sqrt(row).numpy(), ((token[1] + 0.5) * step[1], (token[0] + 0.5) * step[0])


def framed(ax: Axes, title: str, note: str) -> None:
    """A panel without ticks, with a title and a line below it."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(title, pad=17, fontweight="bold")
    ax.text(0, 1.025, note, transform=ax.transAxes, color=SOFT, fontsize=8.5)
    for spine in ax.spines.values():
        spine.set_edgecolor("#d8dde3")


if __name__ == "__main__":
    main()
