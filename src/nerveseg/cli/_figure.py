"""The figure of `nerveseg explain`. Matplotlib without pyplot: no window, no global state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerveseg.cli._inside import Inside
from nerveseg.cli._places import check_file
from nerveseg.outputs import Inputs

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec

__all__ = ["check", "draw"]

_ENDINGS = (".png", ".svg", ".pdf")
_INK, _SOFT, _FAINT = "#1d2733", "#66727f", "#d8dde3"
_HUES = ("#2f6fa8", "#d97b29", "#3f8f5b", "#8a5aa8")  # one a layer
_WIDE, _EDGE = 14.0, 0.5  # inches
_GAPS = (1.05, 1.05, 0.85, 0.6)  # inches above each row, and below the last
_BETWEEN = 0.12  # of a panel's width, between panels
_NAMES = 24  # labels in the legend; the rest is counted
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "text.color": _INK,
    "axes.edgecolor": _SOFT,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.8,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "svg.hashsalt": "nerveseg",
}


def check(out: Path, read: Inputs, *, overwrite: bool) -> None:
    """Refuse a path that the figure cannot go to, before any work."""
    check_file(out, "-o", read, overwrite=overwrite, endings=_ENDINGS)


def draw(inside: Inside, out: Path) -> None:
    """Draw the figure and write it whole or not at all."""
    from matplotlib import rc_context

    from nerveseg.writers.base import replacing

    with rc_context(_STYLE), replacing(out) as (draft,):
        figure = _figure(inside)
        figure.savefig(draft, format=out.suffix.lower()[1:], dpi=150, facecolor="white", metadata=_undated(out))


def _undated(out: Path) -> dict[str, Any]:
    """Keep the date out, so that the same image gives the same bytes."""
    return {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(out.suffix.lower(), {})


def _figure(inside: Inside) -> Figure:
    from matplotlib.figure import Figure

    height, width = inside.pixels.shape[:2]
    ratio = min(2.0, max(0.4, height / width))
    strip = (_WIDE - 2 * _EDGE) / len(inside.snapshots) * ratio
    heights = (min(4.2, max(2.6, 3.3 * ratio)), strip, 2.5)
    tall = sum(heights) + sum(_GAPS)
    figure = Figure(figsize=(_WIDE, tall))
    rows = [_row(figure, tall, heights, place) for place in range(3)]
    _first_row(figure, rows[0], inside)
    _strip(figure, rows[1], inside)
    _last_row(figure, rows[2], inside)
    head = 1 - 0.4 / tall
    figure.text(_EDGE / _WIDE, head, inside.name, size=14, weight="bold", va="center", parse_math=False)
    told = f"recipe {inside.recipe}   ·   {inside.grid[0]} × {inside.grid[1]} tokens   ·   α = {inside.alpha:g}"
    figure.text(1 - _EDGE / _WIDE, head, told, color=_SOFT, va="center", ha="right", parse_math=False)
    return figure


def _row(figure: Figure, tall: float, heights: Sequence[float], place: int) -> SubplotSpec:
    """One row of the figure, its edges set in inches from the top."""
    top = sum(heights[:place]) + sum(_GAPS[: place + 1])
    edges = {"left": _EDGE / _WIDE, "right": 1 - _EDGE / _WIDE, "top": 1 - top / tall, "bottom": 1 - (top + heights[place]) / tall}
    return figure.add_gridspec(1, 1, **edges)[0]


def _first_row(figure: Figure, row: SubplotSpec, inside: Inside) -> None:
    cells = row.subgridspec(1, 3, wspace=_BETWEEN)
    height, width = inside.pixels.shape[:2]
    _image(figure.add_subplot(cells[0]), inside.pixels, "Image")
    prior = figure.add_subplot(cells[1])
    _image(prior, _colours(inside)[inside.prior], "G: the words alone, one label a token", extent=(0, width, height, 0))
    _heads(figure.add_subplot(cells[2]), inside)


def _strip(figure: Figure, row: SubplotSpec, inside: Inside) -> None:
    from nerveseg.masks.draw import paint

    cells = row.subgridspec(1, len(inside.snapshots), wspace=0.06)
    for place, snapshot in enumerate(inside.snapshots):
        overlay = paint(inside.pixels, snapshot.ids, len(inside.names), alpha=0.62, background=inside.background)
        steps = "∞ steps" if snapshot.steps is None else "1 step" if snapshot.steps == 1 else f"{snapshot.steps} steps"
        axes = figure.add_subplot(cells[place])
        _image(axes, overlay, steps)
        below = "the walk without end" if snapshot.steps is None else f"{100 * snapshot.moved:.1f} % differ from ∞"
        axes.set_xlabel(below, color=_SOFT, size=8, labelpad=4)


def _last_row(figure: Figure, row: SubplotSpec, inside: Inside) -> None:
    cells = row.subgridspec(1, 3, wspace=_BETWEEN)
    _bounds(figure.add_subplot(cells[:2]), inside)
    _legend(figure.add_subplot(cells[2]), inside)


def _image(axes: Axes, pixels: Any, title: str, extent: tuple[float, float, float, float] | None = None) -> None:
    axes.imshow(pixels, interpolation="nearest", extent=extent)
    axes.set_title(title, pad=5)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_color(_FAINT)
    axes.set_anchor("NW")


def _heads(axes: Axes, inside: Inside) -> None:
    places = list(_placed(inside.layers))
    hues = [_HUES[layer % len(_HUES)] for layer, _, _ in places]
    axes.bar([x for _, _, x in places], inside.weights, width=0.78, color=hues)
    mean = 1 / len(inside.weights)
    axes.axhline(mean, color=_INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_xticks([x for _, _, x in places], [str(head + 1) for _, head, _ in places])
    axes.tick_params(length=0)
    axes.set_ylim(0, max(inside.weights) * 1.22)
    axes.set_title("Weights of the attention heads (dashed: plain mean)")  # in words: on the line it would lie on a bar
    for layer, (text, size) in enumerate(inside.layers):
        xs = [x for where, _, x in places if where == layer]
        axes.annotate(
            text, (sum(xs) / size, 0), xycoords=("data", "axes fraction"), xytext=(0, -24), textcoords="offset points", **_under(layer)
        )
    _clean(axes)


def _under(layer: int) -> dict[str, Any]:
    return {"ha": "center", "va": "top", "color": _HUES[layer % len(_HUES)], "size": 8.5, "weight": "bold"}


def _placed(layers: Sequence[tuple[str, int]]) -> Iterator[tuple[int, int, float]]:
    """Layer, head in it, and place on the axis; a gap between layers."""
    x = 0.0
    for layer, (_, size) in enumerate(layers):
        for head in range(size):
            yield layer, head, x
            x += 1.0
        x += 0.7


def _bounds(axes: Axes, inside: Inside) -> None:
    import math
    from itertools import accumulate

    longest = max(snapshot.steps or 0 for snapshot in inside.snapshots)
    steps = range(longest + 1)
    axes.semilogy(
        steps, [min(2.0, 2 * inside.alpha ** (step + 1)) for step in steps], color=_HUES[1], label="truncated walk: bound 2α$^{L+1}$"
    )
    dots = [(snapshot.steps, snapshot.error) for snapshot in inside.snapshots if snapshot.steps is not None and snapshot.error > 0]
    axes.plot(*zip(*dots, strict=True), "o", color=_HUES[1], markersize=5, markerfacecolor="white", label="truncated walk: measured")
    # What was certified once holds for what was reached then: the best so far is what a walk that stops here could give back.
    best = accumulate(inside.certified, min)
    certified = [(step, bound) for step, bound in enumerate(best) if math.isfinite(bound) and bound > 0]
    if certified:
        axes.plot(*zip(*certified, strict=True), "o-", color=_HUES[0], markersize=3.5, label="walk without end (Krylov): certified bound")
    axes.axhline(inside.tolerance, color=_SOFT, linewidth=0.9, linestyle=(0, (4, 3)), label=f"tolerance {inside.tolerance:g}")
    axes.set_xlim(-0.6, longest + 0.6)
    axes.set_xlabel("steps: applications of S")
    axes.set_title("How far the worst token is from the end of the walk: L1 distance from P∞", pad=26)
    axes.grid(visible=True, which="major", color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=8.5, loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncol=4, borderaxespad=0.2, columnspacing=1.6)
    _clean(axes)


def _legend(axes: Axes, inside: Inside) -> None:
    import numpy as np

    final = inside.snapshots[-1].ids
    shares = np.bincount(final.ravel(), minlength=len(inside.names))[: len(inside.names)] / final.size
    order = sorted(range(len(inside.names)), key=lambda at: (-shares[at], at))
    colours = _colours(inside) / 255
    axes.set_axis_off()
    axes.set_title("Labels, and their share of the image at ∞ steps")
    axes.set_xlim(0, 1)
    shown = order[:_NAMES]
    columns = 1 if len(shown) <= 9 else 2
    rows = max(9, -(-len(shown) // columns) + 1)
    axes.set_ylim(rows, 0)
    for place, at in enumerate(shown):
        column, row = divmod(place, rows - 1)
        left, middle = column / columns, row + 0.6
        axes.barh(middle, 0.045, left=left, height=0.62, color=[colours[at]], edgecolor=_SOFT, linewidth=0.5)
        ink = _INK if shares[at] > 0 else _SOFT
        axes.text(left + 0.065, middle, _short(inside.names[at], 30 // columns), va="center", color=ink, parse_math=False)
        axes.text(left + 0.9 / columns, middle, f"{100 * shares[at]:.1f} %", va="center", ha="right", color=ink)
    if len(order) > len(shown):
        axes.text(0, rows - 0.2, f"and {len(order) - len(shown)} more", va="center", color=_SOFT)


def _short(name: str, longest: int) -> str:
    return name if len(name) <= longest else name[: longest - 1].rstrip() + "…"


def _clean(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _colours(inside: Inside) -> np.ndarray:
    from nerveseg.masks.palette import wheel

    return wheel(len(inside.names), background=inside.background)
