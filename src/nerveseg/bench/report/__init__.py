"""Reports on runs: tables in the shape of the field's, published rows beside ours, intervals over images, plots.

    report = build(["runs/voc21-nerve", "runs/voc21-naclip"], against=["runs/voc21-naclip"])
    text = to_markdown(report)

Modules: `folder` (a run, counted anew from its lines), `tallies` (sparse pixels by image), `bootstrap`, `compare` (what may stand beside
what), `fields` (a report), `table` and `tables`, `formats`, `plots`. Nothing is taken from ``metrics.json``.
"""

from __future__ import annotations

from nerveseg.bench.report.bootstrap import Interval, difference, interval
from nerveseg.bench.report.compare import Paired, compare
from nerveseg.bench.report.fields import Field, Report, build
from nerveseg.bench.report.folder import Run, load
from nerveseg.bench.report.formats import to_csv, to_html, to_json, to_markdown

__all__ = [
    "Field",
    "Interval",
    "Paired",
    "Report",
    "Run",
    "build",
    "compare",
    "difference",
    "interval",
    "load",
    "to_csv",
    "to_html",
    "to_json",
    "to_markdown",
]
