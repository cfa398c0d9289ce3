"""The plots of a report, by matplotlib without pyplot: no window, no global state, the same bytes for the same runs.

One figure a data set: mIoU against seconds, reliability, risk over coverage, and below them IoU class by class of two runs.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nerveseg.bench.calibration import BINS, Calibration
from nerveseg.bench.report.fields import Field, Report
from nerveseg.bench.report.folder import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["BARS", "LINES", "every", "one_figure", "reliability", "two"]

LINES = 8
"""Runs that the plots of a data set show; a title says how many more there are."""

BARS = 40
"""Classes that have bars; with more, those in which the two runs differ most, or the worst of a single run."""

_INK, _SOFT, _FAINT = "#1d2733", "#66727f", "#d8dde3"
_HUES = ("#2f6fa8", "#d97b29", "#3f8f5b", "#8a5aa8", "#b8434e", "#5b8f9b", "#9a7b2f", "#66727f")
_MARKERS = "osD^vPX*"
_WIDE, _TOP, _BAR, _SIDES = 12.0, 4.4, 0.26, 1.6  # inches: width, upper row, a class, what is above and below the bars
_PAIR = 10.5  # inches: width of two plots beside each other
_LEAST = 0.01  # percent of the pixels, below which a bin is not drawn
_DPI = 130
_STYLE: dict[Any, Any] = {
    "font.size": 11,  # 15 pixels where a page of 1280 shows it
    "font.family": "DejaVu Sans",
    "text.color": _INK,
    "text.parse_math": False,  # names are names, dollar signs included
    "axes.edgecolor": _SOFT,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.8,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "legend.frameon": False,
    "legend.fontsize": 10,
}


@dataclass(frozen=True)
class _Bars:
    """IoU class by class of one run or two: the classes chosen and in order, their names, and the hues that the runs have above."""

    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    title: str
    hues: tuple[int, ...]


def every(report: Report) -> tuple[tuple[str, bytes], ...]:
    """(what it shows, PNG) for each data set of a report."""
    return tuple((f"Plots: {field.title}", _png([field], report)) for field in report.fields)


def one_figure(report: Report) -> bytes:
    """All data sets of a report in one PNG, one below the other."""
    return _png(report.fields, report)


def reliability(found: Mapping[str, Calibration], title: str, remark: str = "") -> bytes:
    """A PNG of some calibrations on the same pixels beside each other: is a confidence right as often as it says, and where do pixels lie.

    Args:
        found: name → calibration, at most `LINES`.
        title: what was measured, and, at the right, in how many images.
        remark: see ``title``.
    """
    from matplotlib.figure import Figure

    with _styled():
        figure = Figure(figsize=(_PAIR, _TOP))
        figure.text(0.06, 1 - 0.3 / _TOP, title, size=13, weight="bold", va="center")
        figure.text(0.985, 1 - 0.3 / _TOP, remark, color=_SOFT, va="center", ha="right")
        both = figure.add_gridspec(1, 2, left=0.06, right=0.985, top=1 - 0.85 / _TOP, bottom=0.6 / _TOP, wspace=0.2)
        _reliability(figure.add_subplot(both[0]), list(found.values()), list(found))
        _spread(figure.add_subplot(both[1]), list(found.values()), list(found))
        return _bytes(figure)


def two(field: Field) -> tuple[Run, ...]:
    """The runs whose classes are drawn: the pair that was compared, else the two that were given first, else the only one."""
    if field.paired:
        return (field.paired[0].run, field.paired[0].against)
    return field.runs[:2]


def _png(fields: Sequence[Field], report: Report) -> bytes:
    from matplotlib.figure import Figure

    with _styled():
        bars = [_bars(field, report) for field in fields]
        heights = [_TOP + _SIDES + _BAR * len(part.names) * (1 + 0.35 * (len(part.values) - 1)) for part in bars]
        figure = Figure(figsize=(_WIDE, sum(heights)))
        parts = figure.subfigures(len(fields), 1, height_ratios=heights, squeeze=False)[:, 0]
        for part, field, chosen, tall in zip(parts, fields, bars, heights, strict=True):
            _draw(part, field, report, chosen, tall)
        return _bytes(figure)


@contextmanager
def _styled() -> Iterator[None]:
    from matplotlib import rc_context

    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a name in a script that the font has not
        yield


def _bytes(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return out.getvalue()


def _draw(part: SubFigure, field: Field, report: Report, bars: _Bars, tall: float) -> None:
    shown = field.runs[:LINES]
    left = len(field.runs) - LINES
    more = f"   ·   {left} more run{'s are' if left > 1 else ' is'} not drawn" if left > 0 else ""
    images = " to ".join(str(count) for count in sorted({len(run.items) for run in field.runs})[:: max(1, len(field.runs) - 1)][:2])
    part.text(0.035, 1 - 0.28 / tall, field.title, size=13, weight="bold", va="center")
    part.text(0.985, 1 - 0.28 / tall, f"{images} images{more}", color=_SOFT, va="center", ha="right")
    top, middle, bottom = 1 - 0.85 / tall, 1 - (_TOP - 0.35) / tall, 1 - (_TOP + 0.75) / tall
    upper = part.add_gridspec(1, 3, left=0.065, right=0.985, top=top, bottom=middle, wspace=0.3)
    labels = [report.labels[run.folder] for run in shown]
    _speed(part.add_subplot(upper[0]), field, shown, labels)
    _reliability(part.add_subplot(upper[1]), [run.calibration for run in shown], labels)
    _risk(part.add_subplot(upper[2]), shown, labels)
    longest = max(map(len, bars.names))
    lower = part.add_gridspec(1, 1, left=min(0.33, 0.03 + 0.0086 * longest), right=0.985, top=bottom, bottom=0.62 / tall)
    _classes(part.add_subplot(lower[0]), bars, [_short(report.labels[run.folder], 60) for run in two(field)])


def _speed(axes: Axes, field: Field, shown: Sequence[Run], labels: Sequence[str]) -> None:
    axes.set_title("mIoU against seconds (bars: 95 %)")
    axes.set_xlabel("seconds of work on an image")
    axes.set_ylabel("mIoU, %")
    timed = [place for place, run in enumerate(shown) if math.isfinite(run.pace) and run.pace > 0]
    if not timed:
        axes.text(0.5, 0.5, "no journal is left, so no times", transform=axes.transAxes, ha="center", color=_SOFT)
        axes.set_xticks([])
        return
    paces = [shown[place].pace for place in timed]
    for place in timed:
        interval, pace = field.intervals[place], shown[place].pace
        ends = [[max(0.0, interval.value - interval.low)], [max(0.0, interval.high - interval.value)]]
        axes.errorbar(
            pace, interval.value, yerr=ends, fmt=_MARKERS[place], color=_HUES[place], markersize=7, capsize=3, elinewidth=1.1,
            label=_short(labels[place], 28),
        )  # fmt: skip
    axes.set_xscale("log")
    _log_ticks(axes, min(paces), max(paces))
    _room(axes, [field.intervals[place].low for place in timed], [field.intervals[place].high for place in timed])
    axes.grid(visible=True, which="major", color=_FAINT, linewidth=0.6)
    axes.legend(loc="upper left", bbox_to_anchor=(0, 1.0), borderaxespad=0.3)


def _log_ticks(axes: Axes, low: float, high: float) -> None:
    """Plain numbers, fewer of them on a longer axis, with half an octave of room."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    left, right = low / 1.6, high * 1.6
    decades = math.log10(right / left)
    steps = (1, 2, 5) if decades < 1.6 else (1, 3) if decades < 2.6 else (1,)
    powers = range(math.floor(math.log10(left)) - 1, math.ceil(math.log10(right)) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps if left <= step * 10.0**power <= right]
    axes.set_xlim(left, right)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _room(axes: Axes, lows: Sequence[float], highs: Sequence[float]) -> None:
    """Room for the legend above the points."""
    known = [value for value in (*lows, *highs) if math.isfinite(value)] or [0.0, 100.0]
    low, high = min(known), max(known)
    span = max(high - low, 4.0)
    axes.set_ylim(max(0.0, low - 0.2 * span), high + (0.25 + 0.13 * len(lows)) * span)
    bottom, top = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if bottom <= tick <= min(top, 100)])


def _reliability(axes: Axes, shown: Sequence[Calibration], labels: Sequence[str]) -> None:
    axes.plot([0, 1], [0, 1], color=_SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
    for place, sure in enumerate(shown):
        there = sure.pixels > 0
        size = sure.pixels[there] / max(1, sure.pixels.sum())
        x, y = sure.confidence[there] / sure.pixels[there], sure.right[there] / sure.pixels[there]
        axes.plot(x, y, color=_HUES[place], linewidth=1.3, label=f"{_short(labels[place], 22)}: ECE {100 * sure.ece:.1f} %")
        axes.scatter(x, y, s=8 + 130 * np.sqrt(size), color=_HUES[place], marker=_MARKERS[place], alpha=0.75, linewidths=0)
    axes.set_title("Reliability (larger: more pixels)")
    axes.set_xlabel("mean confidence of a bin")
    axes.set_ylabel("share of it that is right")
    axes.set_xlim(-0.02, 1.03)
    axes.set_ylim(-0.02, 1.06 + 0.085 * len(shown))
    axes.set_yticks(np.arange(0, 1.01, 0.2))
    axes.grid(visible=True, color=_FAINT, linewidth=0.6)
    axes.legend(loc="upper left", borderaxespad=0.2)


def _spread(axes: Axes, shown: Sequence[Calibration], labels: Sequence[str]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    edges = np.linspace(0, 1, BINS + 1)
    for place, (sure, label) in enumerate(zip(shown, labels, strict=True)):
        share = 100 * sure.pixels / max(1, sure.pixels.sum())
        mean = sure.confidence.sum() / max(1, sure.pixels.sum())
        axes.stairs(share, edges, baseline=_LEAST, color=_HUES[place], fill=True, alpha=0.14)
        axes.stairs(share, edges, baseline=_LEAST, color=_HUES[place], linewidth=1.3, label=f"{_short(label, 34)}: mean {mean:.2f}")
    axes.set_title("Where the pixels lie")
    axes.set_xlabel("confidence")
    axes.set_ylabel("share of the pixels in a bin, %")
    axes.set_xlim(-0.02, 1.03)
    axes.set_yscale("log")  # most pixels are in the last bin, and the plot is about the others
    axes.set_ylim(_LEAST, 400 * 2 ** len(shown))
    axes.yaxis.set_major_locator(FixedLocator([0.01, 0.1, 1, 10, 100]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(visible=True, color=_FAINT, linewidth=0.6)
    axes.legend(loc="upper left", borderaxespad=0.2)


def _risk(axes: Axes, shown: Sequence[Run], labels: Sequence[str]) -> None:
    highest = 0.0
    for place, run in enumerate(shown):
        points = run.calibration.risk_coverage
        coverage, risk = [point[1] for point in points], [100 * point[2] for point in points]
        highest = max([highest, *risk])
        label = f"{_short(labels[place], 22)}: area {100 * run.calibration.risk_area:.1f}"
        axes.plot(coverage, risk, color=_HUES[place], linewidth=1.3, marker=_MARKERS[place], markersize=3.5, label=label)
    axes.set_title("Risk over coverage, surest first")
    axes.set_xlabel("share of pixels that are kept")
    axes.set_ylabel("of these, wrong, %")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, max(highest, 1e-3) * (1.15 + 0.1 * len(shown)))
    axes.grid(visible=True, color=_FAINT, linewidth=0.6)
    axes.legend(loc="upper left", borderaxespad=0.2)


def _bars(field: Field, report: Report) -> _Bars:
    runs = two(field)
    named = runs[0].classes
    iou = np.stack([run.metrics.iou for run in runs])
    known = np.flatnonzero(~np.isnan(iou).all(0))
    gap = np.nan_to_num(iou[0] - iou[-1]) if len(runs) > 1 else -np.nan_to_num(iou[0])
    chosen = known
    title = "IoU by class, %"
    if len(known) > BARS:
        chosen = known[np.argsort(-(np.abs(gap[known]) if len(runs) > 1 else gap[known]), kind="stable")[:BARS]]
        title += f": the {BARS} of {len(known)} classes " + ("in which the two differ most" if len(runs) > 1 else "that it knows least")
    order = chosen[np.argsort(-gap[chosen] if len(runs) > 1 else gap[chosen], kind="stable")]
    title += ", the first run's gains above, its losses below" if len(runs) > 1 else ""
    names = tuple(_short(named[place], 36) for place in order) or ("no class",)
    values = tuple(tuple(float(value) for value in np.nan_to_num(row[order])) or (0.0,) for row in iou)
    places = tuple(field.runs.index(run) for run in runs)
    return _Bars(names, values, title, places if max(places) < LINES else tuple(range(len(runs))))


def _classes(axes: Axes, bars: _Bars, labels: Sequence[str]) -> None:
    places = np.arange(len(bars.names))
    end = min(100, max(20, 10 * math.ceil(max(map(max, bars.values)) / 10)))
    tall = 0.8 / len(bars.values)
    for row, (values, label) in enumerate(zip(bars.values, labels, strict=True)):
        at = places + (row - (len(bars.values) - 1) / 2) * tall
        axes.barh(at, values, height=tall * 0.92, color=_HUES[bars.hues[row]], label=label)
        for where, value in zip(at, values, strict=True):
            axes.text(value + 0.004 * end, where, f"{value:.0f}", va="center", size=9, color=_SOFT)
    axes.set_yticks(places, bars.names)
    axes.tick_params(axis="y", length=0, labelcolor=_INK, labelsize=10)
    axes.set_ylim(len(bars.names) - 0.4, -0.6)
    axes.set_xlim(0, 1.04 * end)
    axes.set_xticks(range(0, end + 1, 10 if end > 30 else 5))
    axes.grid(visible=True, axis="x", color=_FAINT, linewidth=0.6)
    axes.set_title(bars.title, pad=22)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)


def _short(name: str, longest: int) -> str:
    """A long name, its end kept: that is where folders differ."""
    if len(name) <= longest:
        return name
    kept = (longest - 1) // 2
    return f"{name[: longest - 1 - kept].rstrip()}…{name[-kept:].lstrip()}"
