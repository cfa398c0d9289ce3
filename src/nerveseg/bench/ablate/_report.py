"""Make the table and the figure of an ablation: rules are chosen on one part of the images, scores are read on the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nerveseg import registry
from nerveseg.bench.ablate._run import CHOOSE, SCORE
from nerveseg.bench.holdout import few
from nerveseg.bench.protocol import protocol
from nerveseg.bench.report.bootstrap import Interval, difference, miou
from nerveseg.bench.report.tallies import Tallies, Tally
from nerveseg.errors import RunError
from nerveseg.reprs import brief
from nerveseg.runs import plan, results

__all__ = ["Outcome", "Row", "figure", "outcome", "table"]

_KIND = "nerveseg-ablate-1"


@dataclass(frozen=True)
class Row:
    """One variant, by the rule that served it best on images that are not scored.

    Attributes:
        name: of the variant, or of the group that it is the best of.
        variant: the variant itself, where it stands for a group; else "".
        rule: that was chosen, with its knobs.
        miou: on the scored images.
        gain: over the reference, paired by images; None for the reference.
        at: place on the figure's axis; None: a bar.
    """

    name: str
    variant: str
    rule: str
    miou: float
    gain: Interval | None
    at: float | None


@dataclass(frozen=True)
class Outcome:
    """An ablation that was run.

    Attributes:
        kind: registry name.
        identity: of its run, see `nerveseg.bench.job.identity`.
        rows: in the ablation's order.
        reference: name of the row that the others are compared with.
        chosen: images that rules were chosen on.
        scored: images that were scored.
        command: that made it.
    """

    kind: str
    identity: Mapping[str, Any]
    rows: tuple[Row, ...]
    reference: str
    chosen: int
    scored: int
    command: str = ""

    __repr__ = brief


@dataclass
class _Collected:
    """Pixels of one variant by one rule on both parts of the images."""

    classes: int
    parts: dict[str, Tally] = field(default_factory=dict)

    def add(self, part: str, found: list[list[int]]) -> None:
        self.parts.setdefault(part, Tally(self.classes)).add(np.array(found, np.int64).reshape(-1, 3))

    def tallies(self, part: str) -> Tallies:
        return self.parts[part].done()


def outcome(folder: str | Path) -> Outcome:
    """Read a finished ablation.

    Raises:
        RunError: not finished, or another kind of job.
    """
    made = plan.read(folder)
    if made.identity.get("kind") != _KIND:
        raise RunError(f"Got {folder}, the folder of another kind of job. Accepted is one of `nerveseg ablate`. Choose it.")
    with results.understood(folder):
        return _outcome(folder, made)


def _outcome(folder: str | Path, made: plan.Plan) -> Outcome:
    identity = made.identity
    average = protocol(identity["data"]["protocol"]).average
    found, about, images = _collect(folder, int(identity["data"]["classes"]))
    if SCORE not in images:
        raise RunError(f"Got {folder} without a scored image. Accepted is one or more. Run it with images to score.")
    module = registry.load("ablations", identity["ablation"])
    judged = CHOOSE if CHOOSE in images else SCORE  # without images to choose on each variant has one rule
    best: dict[str, tuple[float, str]] = {}
    for name, rules in found.items():
        marks = {rule: miou(kept.tallies(judged), average=average) for rule, kept in rules.items()}
        rule = max(marks, key=lambda one: -math.inf if math.isnan(marks[one]) else marks[one])
        best[name] = (marks[rule], rule)
    shown = list(_shown(found, about, best))
    tallies = {title: found[variant][best[variant][1]].tallies(SCORE) for title, variant in shown}
    rows = []
    for title, variant in shown:
        own = tallies[title]
        gain = None if title == module.reference else difference(own, tallies[module.reference], average=average)
        rows.append(
            Row(title, "" if title == variant else variant, best[variant][1], miou(own, average=average), gain, about[variant].get("at"))
        )
    command = str(made.about.get("command", ""))
    return Outcome(identity["ablation"], identity, tuple(rows), module.reference, images.get(CHOOSE, 0), images[SCORE], command)


def table(given: Outcome) -> str:
    """Markdown: variant, rule, mIoU, difference to the reference with its 95 % interval; below it what it was measured on."""
    module = registry.load("ablations", given.kind)
    lines = [f"| {module.title} | rule | mIoU | − {given.reference}, 95 % |", "|---|---|---|---|"]
    for row in given.rows:
        name = f"{row.name} ({row.variant})" if row.variant else row.name
        gain = "–" if row.gain is None else f"{row.gain.value:+.1f} [{row.gain.low:+.1f}, {row.gain.high:+.1f}]"
        lines.append(f"| {name} | {row.rule} | {row.miou:.1f} | {gain} |")
    data, names = given.identity["data"], given.identity["names"]
    weights = ", ".join(f"{kind} {digest[:12]}" for kind, digest in given.identity["weights"].items())
    where = f"{given.scored} images of {data['name']} {data['split']}"
    under = f"{data['protocol']} protocol, names {names['origin']} {names['digest']}"
    how = f"recipe `{given.identity['recipe']['name']}` on {where} ({under}), rules chosen on {given.chosen} others; weights {weights}"
    lines += ["", f"The paper: {module.claim} Here: {how}."]
    if said := few(given.scored):
        lines += ["", f"Only {said}."]
    if given.command:
        lines += ["", f"`{given.command}`"]
    return "\n".join(lines) + "\n"


def figure(given: Outcome, path: str | Path) -> None:
    """Draw the table: a curve where the ablation has an axis, else bars; whiskers are 95 % of the difference to the reference."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    module = registry.load("ablations", given.kind)
    drawn = Figure(figsize=(7.2, 1.2 + 0.34 * len(given.rows)), layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.add_subplot()
    if module.axis:
        drawn.set_size_inches(7.2, 4.2)
        _curve(axes, given, module.axis)
    else:
        _bars(axes, given)
    axes.set_title(module.title, loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    drawn.savefig(Path(path), dpi=150)


def _curve(axes: Any, given: Outcome, label: str) -> None:
    points = [row for row in given.rows if row.at is not None]
    flat = [row for row in given.rows if row.at is None]
    places = range(len(points))
    axes.errorbar(places, [row.miou for row in points], yerr=_whiskers(points), fmt="o-", color="#2b6cb0", capsize=3)
    axes.set_xticks(list(places), ["∞" if row.name == given.reference else f"{row.at:g}" for row in points])
    for row, style in zip(flat, ("--", ":", "-."), strict=False):
        axes.axhline(row.miou, linestyle=style, color="#718096", label=row.name)
    axes.set_xlabel(label)
    axes.set_ylabel("mIoU")
    if flat:
        axes.legend(frameon=False)


def _bars(axes: Any, given: Outcome) -> None:
    rows = given.rows
    places = range(len(rows))
    colours = ["#2b6cb0" if row.name == given.reference else "#a0aec0" for row in rows]
    axes.barh(places, [row.miou for row in rows], xerr=_whiskers(rows), color=colours, ecolor="#4a5568", capsize=2, height=0.7)
    axes.set_yticks(list(places), [row.name for row in rows])
    axes.invert_yaxis()
    for place, row in zip(places, rows, strict=True):
        axes.text(0.5, place, f"{row.miou:.1f}", va="center", ha="left", color="white", fontsize=8)
    axes.set_xlabel("mIoU (whiskers: 95 % of the difference to the blue bar)")


def _whiskers(rows: Sequence[Row]) -> list[list[float]]:
    known = [row.gain or Interval(0.0, 0.0, 0.0) for row in rows]
    return [[max(0.0, gain.value - gain.low) for gain in known], [max(0.0, gain.high - gain.value) for gain in known]]  # few images


def _collect(folder: str | Path, classes: int) -> tuple[dict[str, dict[str, _Collected]], dict[str, dict[str, Any]], dict[str, int]]:
    found: dict[str, dict[str, _Collected]] = {}
    about: dict[str, dict[str, Any]] = {}
    images: dict[str, int] = {}
    for line in results.read(folder):
        part = line["item"].partition("/")[0]
        images[part] = images.get(part, 0) + 1
        for name, entry in line["variants"].items():
            about[name] = entry["about"]
            for rule, counts in entry["rules"].items():
                found.setdefault(name, {}).setdefault(rule, _Collected(classes)).add(part, counts)
    return found, about, images


def _shown(
    found: Mapping[str, Any], about: Mapping[str, Mapping[str, Any]], best: Mapping[str, tuple[float, str]]
) -> Iterator[tuple[str, str]]:
    """(title, variant) of every row: of a group its best, or its worst and then all where it says so, by the images of the choice."""
    done: set[str] = set()
    for name in found:
        group = about[name].get("group")
        if group is None:
            yield name, name
        elif group not in done:
            done.add(group)
            members = [other for other in found if about[other].get("group") == group]
            pick = min if about[name].get("worst") else max
            yield group, pick(members, key=lambda one: best[one][0])
            if about[name].get("worst"):
                yield from ((other, other) for other in members)
