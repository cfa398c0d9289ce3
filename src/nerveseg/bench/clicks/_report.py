"""Make the table and the figure of a run of clicks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from nerveseg.bench.clicks._run import KIND, NEW, VARIANTS
from nerveseg.errors import RunError
from nerveseg.reprs import brief
from nerveseg.runs import plan, results

__all__ = ["Outcome", "figure", "outcome", "table"]

_DRAWS = 2000
_GOALS = (80.0, 90.0)


@dataclass(frozen=True, eq=False)
class Outcome:
    """A run of clicks.

    Attributes:
        identity: of its run.
        command: that made it.
        images: how many.
        before: IoU of the thing at each image's largest error.
        after: variant → the same after one click there.
        things: variant → thing by thing, IoU before and after each click; what ended early keeps its last.
        new: thing by thing, IoU of a label without words before and after each click.
        cap: most clicks at a thing.
    """

    identity: Mapping[str, Any]
    command: str
    images: int
    before: Float64[np.ndarray, " p"]
    after: Mapping[str, Float64[np.ndarray, " p"]]
    things: Mapping[str, Float64[np.ndarray, "t c"]]
    new: Float64[np.ndarray, "l n"]
    cap: int

    __repr__ = brief


def outcome(folder: str | Path) -> Outcome:
    """Read a finished run.

    Raises:
        RunError: not finished, or another kind of job.
    """
    made = plan.read(folder)
    if made.identity.get("kind") != KIND:
        raise RunError(f"Got {folder}, the folder of another kind of job. Accepted is one of `nerveseg bench clicks`. Choose it.")
    with results.understood(folder):
        return _outcome(folder, made)


def _outcome(folder: str | Path, made: plan.Plan) -> Outcome:
    lines = list(results.read(folder))
    cap = int(made.identity["cap"])
    firsts = [line["first"] for line in lines if line["first"][0] is not None]
    things = [variants for line in lines for variants in line["things"].values()]
    if not firsts or not things:
        raise RunError(f"Got {folder}, in which no thing was clicked. Accepted are images with things. Take more of them.")
    return Outcome(
        made.identity,
        str(made.about.get("command", "")),
        len(lines),
        np.array([first[2] for first in firsts], np.float64),
        {name: np.array([first[3][name] for first in firsts], np.float64) for name in VARIANTS},
        {name: _filled([thing[name] for thing in things], cap) for name in VARIANTS},
        _filled([marks for line in lines for marks in line["new"].values()], NEW),
        cap,
    )


def table(given: Outcome) -> str:
    """Markdown: the first click, clicks to 80 and 90, and labels by clicks alone."""
    before = float(np.median(given.before))
    lines = [
        f"| clicks | median IoU at the largest error: before | after one click | gain, 95 % | clicks to 80 | clicks to 90 "
        f"| not at 90 after {given.cap} | median IoU of all things after 0, 1, 3, 5, {given.cap} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in VARIANTS:
        marks, after = given.things[name], given.after[name]
        low, high = _spread(given.before, after)
        steps = ", ".join(f"{float(np.median(marks[:, at])):.1f}" for at in (0, 1, 3, 5, given.cap) if at < marks.shape[1])
        counts = [float(clicks_to(marks, goal).mean()) for goal in _GOALS]
        missed = 100 * float((marks.max(1) < _GOALS[-1]).mean())
        lines.append(
            f"| {name} | {before:.1f} | {float(np.median(after)):.1f} | {float(np.median(after)) - before:+.1f} [{low:+.1f}, {high:+.1f}] "
            f"| {counts[0]:.2f} | {counts[1]:.2f} | {missed:.0f} % | {steps} |"
        )
    own = given.new
    lines += [
        "",
        "| a label by clicks alone, both | " + " | ".join(f"{at} click{'s' * (at != 1)}" for at in range(1, own.shape[1])) + " |",
        "|---|" + "---|" * (own.shape[1] - 1),
        "| median IoU | " + " | ".join(f"{float(np.median(own[:, at])):.1f}" for at in range(1, own.shape[1])) + " |",
        "| reached IoU 50 so far | "
        + " | ".join(f"{100 * float((own[:, : at + 1].max(1) >= 50).mean()):.0f} %" for at in range(1, own.shape[1]))
        + " |",
    ]
    data = given.identity["data"]
    weights = ", ".join(f"{kind} {digest[:12]}" for kind, digest in given.identity["weights"].items())
    where = f"{given.images} images of {data['name']} {data['split']}"
    counted = f"{len(given.before)} of them with a thing at the largest error, {len(given.things['both'])} things in all"
    lines += ["", f"Recipe `{given.identity['recipe']['name']}` on {where}, {counted}; weights {weights}."]
    if given.command:
        lines += ["", f"`{given.command}`"]
    return "\n".join(lines) + "\n"


def clicks_to(marks: Float64[np.ndarray, "t c"], goal: float) -> Float64[np.ndarray, " t"]:
    """Clicks until a thing first reaches an IoU; those that never do count as the cap."""
    there = marks >= goal
    return np.where(there.any(1), there.argmax(1), marks.shape[1] - 1).astype(np.float64)


def figure(given: Outcome, path: str | Path) -> None:
    """Draw mean IoU against clicks, for things with words and for a label without."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    drawn = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.add_subplot()
    for (name, marks), colour in zip(given.things.items(), ("#718096", "#dd6b20", "#2b6cb0"), strict=True):
        axes.plot(range(marks.shape[1]), marks.mean(0), "o-", markersize=3, color=colour, label=name)
    axes.plot(range(given.new.shape[1]), given.new.mean(0), "s--", markersize=3, color="#2f855a", label="a label by clicks alone, both")
    axes.set_xlabel("clicks")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("mean IoU of things")
    axes.legend(frameon=False)
    axes.set_title("A robot clicks at the centre of the largest error", loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    drawn.savefig(Path(path), dpi=150)


def _filled(marks: Sequence[Sequence[float]], cap: int) -> Float64[np.ndarray, "t c"]:
    return np.array([[*one, *[one[-1]] * (cap + 1 - len(one))] for one in marks], dtype=np.float64).reshape(-1, cap + 1)


def _spread(before: Float64[np.ndarray, " p"], after: Float64[np.ndarray, " p"]) -> tuple[float, float]:
    """95 % of the difference of medians over draws of images."""
    chance = np.random.default_rng(0)
    index = chance.integers(len(before), size=(_DRAWS, len(before)))
    drawn = np.median(after[index], axis=1) - np.median(before[index], axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)
