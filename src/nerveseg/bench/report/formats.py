"""A report as Markdown, as CSV or JSON with one number a line, or as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import re
from collections.abc import Iterator, Sequence

from nerveseg.bench.csv_safe import cell
from nerveseg.bench.report.bootstrap import Interval
from nerveseg.bench.report.fields import Report, told
from nerveseg.bench.report.folder import Run
from nerveseg.bench.report.table import Cell, Table
from nerveseg.bench.report.tables import tables

__all__ = ["COLUMNS", "to_csv", "to_html", "to_json", "to_markdown"]

COLUMNS: tuple[str, ...] = (
    "kind", "system", "networks", "embedded", "post", "data", "split", "protocol", "names", "class", "measure", "value", "low", "high",
    "against", "pictures", "certainty", "source", "notes", "command", "recipe_digest", "folder",
)  # fmt: skip
"""Columns of the CSV."""

_STYLE = """
:root { color-scheme: light; --ink: #1d2733; --soft: #66727f; --faint: #d8dde3; --ours: #eef4fa; }
body { margin: 2rem auto; max-width: 90rem; padding: 0 1.5rem; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: white; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem; }
p { max-width: 60rem; color: var(--soft); margin: .3rem 0 .8rem; }
.wide { overflow-x: auto; max-width: 100%; } table { border-collapse: collapse; font-size: .87rem; }
th, td { padding: .25rem .5rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--faint); }
th { border-bottom: 2px solid var(--ink); white-space: nowrap; }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.published { font-style: italic; color: var(--soft); } .strong { font-weight: 600; } tr.ours { background: var(--ours); }
td, li, p, h2 { overflow-wrap: anywhere; } td { min-width: 4.7rem; } td:first-child { min-width: 8rem; } td.n { min-width: 0; }
code { font-size: .85em; } td.code { min-width: 9rem; } sup { color: var(--soft); }
ol { list-style: none; padding: 0; font-size: .85rem; color: var(--soft); } img { width: 100%; max-width: 1560px; height: auto; }
@media (max-width: 900px) { body { margin: 1rem auto; padding: 0 1rem; } img { width: 60rem; }
  th, td { padding: .25rem .5rem; } .wide { padding-bottom: .3rem; } }
"""


def to_markdown(report: Report) -> str:
    """All tables, one below the other; text is escaped."""
    return "\n\n".join(["# Report", *(_markdown(table) for table in tables(report))]) + "\n"


def to_html(report: Report, images: Sequence[tuple[str, bytes]] = ()) -> str:
    """One file with its style and its images inside; text is escaped, and nothing is fetched or run.

    Args:
        report: what to write.
        images: (what it shows, PNG) of each plot.
    """
    shots = [
        f'<h2>{_escaped(title)}</h2>\n<div class="wide">'
        f'<img alt="{_escaped(title)}" src="data:image/png;base64,{base64.b64encode(data).decode()}"></div>'
        for title, data in images
    ]
    parts = [_html(table) for table in tables(report)]
    body = "\n".join(["<h1>Report</h1>", *parts[:-1], *shots, parts[-1]])
    head = f'<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n<title>Report</title>\n<style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def to_csv(report: Report) -> str:
    """One number a line, with all that belongs to it, ours and published; for programs. Texts as `bench.csv_safe` has them."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in _numbers(report))
    return out.getvalue()


def to_json(report: Report) -> str:
    """The same numbers as the CSV, for programs: a list of objects, one a number; what there is none of is left out."""
    rows = [{name: value for name, value in row.items() if value != ""} for row in _numbers(report)]
    return json.dumps(rows, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _markdown(table: Table) -> str:
    ruler = ["---:" if place in table.right else "---" for place in range(len(table.head))]
    lines = [_line(map(_plain, table.head)), _line(ruler), *(_line(map(_markdown_cell, row)) for row in table.rows)]
    notes = [f"<sup>{letter}</sup> {_plain(text)}" for letter, text in table.notes]
    parts = [f"## {_plain(table.title)}", _plain(table.about), "\n".join(lines), "<br>\n".join(notes)]
    return "\n\n".join(part for part in parts if part)


def _line(cells: Iterator[str] | Sequence[str] | map[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(cell: Cell) -> str:
    if cell.style == "code" and cell.text != "–":
        fence = "`" * (1 + max((len(run) for run in re.findall("`+", cell.text)), default=0))
        text = f"{fence} {cell.text} {fence}" if "`" in cell.text else f"`{cell.text}`"
        text = text.replace("|", r"\|").replace("\n", " ")
    else:
        mark = {"published": "*", "strong": "**"}.get(cell.style, "")
        text = f"{mark}{_plain(cell.text)}{mark}" if cell.text else ""
    return text + (f"<sup>{' '.join(cell.marks)}</sup>" if cell.marks else "")


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    spaced = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", spaced).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _html(table: Table) -> str:
    head = "".join(f"<th{_right(table, place)}>{_escaped(name)}</th>" for place, name in enumerate(table.head))
    rows = "\n".join(
        ('<tr class="ours">' if row[0].style == "strong" else "<tr>")
        + "".join(_html_cell(cell, right=place in table.right) for place, cell in enumerate(row))
        + "</tr>"
        for row in table.rows
    )
    notes = "".join(f"<li><sup>{letter}</sup> {_escaped(text)}</li>" for letter, text in table.notes)
    about = f"<p>{_escaped(table.about)}</p>\n" if table.about else ""
    below = f"\n<ol>{notes}</ol>" if notes else ""
    return (
        f'<h2>{_escaped(table.title)}</h2>\n{about}<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n'
        f"</table></div>{below}"
    )


def _html_cell(cell: Cell, *, right: bool) -> str:
    names = " ".join(name for name in (cell.style, "n" if right else "") if name)
    text = f"<code>{_escaped(cell.text)}</code>" if cell.style == "code" else _escaped(cell.text)
    marks = f"<sup>{' '.join(cell.marks)}</sup>" if cell.marks else ""
    named = f' class="{names}"' if names else ""
    return f"<td{named}>{text}{marks}</td>"


def _right(table: Table, place: int) -> str:
    return ' class="n"' if place in table.right else ""


def _escaped(text: str) -> str:
    return html.escape(text, quote=True)


def _numbers(report: Report) -> Iterator[dict[str, object]]:
    for row in report.published:
        facts = {"kind": "published", "system": row.system, "networks": row.backbone, "post": row.post, "protocol": row.protocol}
        rest = {"source": row.source, "notes": "; ".join(["trained for segmentation"] * row.trained + [row.note] * bool(row.note))}
        for data, score in row.scores.items():
            yield {**facts, "data": data, "measure": "miou", "value": score, "certainty": row.certainty_of(data), **rest}
    for field in report.fields:
        for run, interval in zip(field.runs, field.intervals, strict=True):
            yield from _run_numbers(report, run, field.runs[0], interval)
        for pair in field.paired:
            yield {
                **_facts(report, pair.run),
                "measure": "miou_difference",
                **_between(pair.difference),
                "against": str(pair.against.folder),
                "notes": "; ".join(pair.differ),
            }


def _run_numbers(report: Report, run: Run, first: Run, interval: Interval) -> Iterator[dict[str, object]]:
    facts = {**_facts(report, run), "notes": "; ".join(told(run, first, report.changes[run.folder]))}
    yield {**facts, "measure": "miou", **_between(interval)}
    found, sure = run.metrics, run.calibration
    more = {
        "pixel_accuracy": found.pixel_accuracy,
        "mean_accuracy": found.mean_accuracy,
        "weighted_iou": found.weighted_iou,
        "ece": 100 * sure.ece,
        "risk_area": 100 * sure.risk_area,
        "seconds_a_picture": run.pace,
    }
    for measure, value in more.items():
        yield {**facts, "measure": measure, "value": _finite(value)}
    if report.per_class:
        for name, iou, accuracy in zip(run.classes, found.iou.tolist(), found.accuracy.tolist(), strict=True):
            yield {**facts, "class": name, "measure": "iou", "value": _finite(iou)}
            yield {**facts, "class": name, "measure": "accuracy", "value": _finite(accuracy)}


def _facts(report: Report, run: Run) -> dict[str, object]:
    return {
        "kind": "ours",
        "system": report.labels[run.folder],
        "networks": run.backbone,
        "embedded": "yes" if run.embedded else "no",
        "post": run.post,
        "data": run.data,
        "split": run.split,
        "protocol": run.protocol,
        "names": run.names,
        "pictures": len(run.items),
        "source": "this report",
        "command": run.about.get("command", ""),
        "recipe_digest": run.identity["recipe"]["digest"],
        "folder": str(run.folder),
    }


def _between(interval: Interval) -> dict[str, object]:
    return {"value": _finite(interval.value), "low": _finite(interval.low), "high": _finite(interval.high)}


def _finite(value: float) -> float | str:
    """Full digits; empty where there is no number."""
    return "" if value != value else round(float(value), 10)
