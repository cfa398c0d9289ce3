"""The tables of a report: Table 1's shape, the measures of each data set, differences, classes, and how each run was made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from nerveseg.bench.published import CERTAINTIES, Published
from nerveseg.bench.report.bootstrap import Interval
from nerveseg.bench.report.fields import BENCHMARKS, Field, Report, names_list, told
from nerveseg.bench.report.folder import BESIDE, EMBEDDED, Run
from nerveseg.bench.report.table import Cell, Notes, Table, number

__all__ = ["averages", "benchmarks", "classes", "columns", "differences", "grouped", "made", "measures", "tables"]

_SEVEN = tuple(BENCHMARKS)[:7]


def tables(report: Report) -> Iterator[Table]:
    """Every table of a report, in order."""
    if any(run.data in BENCHMARKS for run in report.runs):
        yield benchmarks(report)
    for field in report.fields:
        yield measures(report, field)
        if field.paired:
            yield differences(report, field)
        if report.per_class:
            yield classes(report, field)
    yield made(report)


def columns(report: Report) -> tuple[str, ...]:
    """The benchmarks of the main table: the paper's seven, empty where not run, and Cityscapes where it was run."""
    city = any(run.data == "cityscapes" for run in report.runs)
    return tuple(BENCHMARKS) if city else _SEVEN


def averages(report: Report) -> dict[str, tuple[str, ...]]:
    """Averages of the main table: head → the data sets that a row must have all of.

    Those over all columns and over the paper's seven; and, where our rows have not all of them, over what they have in common.
    """
    shown = columns(report)
    found = {f"Avg {len(part)}": part for part in (_SEVEN, shown)}
    rows = list(grouped(report).values())
    common = tuple(data for data in shown if rows and all(data in row for row in rows))
    if len(common) > 1 and common not in found.values():
        found[f"Avg {' '.join(BENCHMARKS[data] for data in common)}"] = common
    return found


def grouped(report: Report) -> dict[tuple[str, ...], dict[str, Run]]:
    """Our rows of the main table: runs of one recipe under the same settings, by data set.

    Two on one data set stay two rows; the second's key ends in its folder.
    """
    rows: dict[tuple[str, ...], dict[str, Run]] = {}
    for run in report.runs:
        if run.data not in BENCHMARKS:
            continue
        facts = (run.protocol, names_list(run), *(run.identity.get(fact) for fact in ("offer", "seed", "dtype")))
        key = (run.name, "; ".join((*map(str, facts), *(f"{kind} {ref}" for kind, ref in run.weights.items()))))
        if run.data in rows.get(key, {}):
            key = (*key, str(run.folder))
        rows.setdefault(key, {})[run.data] = run
    return rows


def benchmarks(report: Report) -> Table:
    """Table 1's shape: benchmarks × systems, mIoU in percent, post-processing, averages, and where each row comes from."""
    shown, means, notes = columns(report), averages(report), Notes()
    first = next(run for run in report.runs if run.data in BENCHMARKS)
    rows = [_published_row(row, shown, means, first, notes) for row in report.published]
    for key, row in grouped(report).items():
        called, _, *twin = key
        name = f"{called} [{twin[0]}]" if twin else called
        rows.append(_our_row(report, name, row, shown, means, first, notes))
    head = ("System", "Networks", "Post.", *(BENCHMARKS[data] for data in shown), *means, "Source")
    about = (
        f"mIoU in percent. Ours: protocol {first.protocol}, names list {names_list(first)}, unless a footnote says otherwise. An average "
        "stands where a row has all of its benchmarks. Post.: post-processing of masks."
    )
    right = frozenset(range(3, 3 + len(shown) + len(means)))
    return Table("Benchmarks", head, tuple(rows), right, notes.listed, about)


def _published_row(row: Published, shown: Sequence[str], means: Mapping[str, Sequence[str]], first: Run, notes: Notes) -> tuple[Cell, ...]:
    texts = ["trained for segmentation"] if row.trained else []
    if row.protocol not in (first.protocol, "not stated"):
        own = "a protocol of its own" if row.protocol == "own" else f"protocol {row.protocol}, not {first.protocol}"
        texts.append(f"{own}: not to be compared")
    texts += [row.note] if row.note else []
    scores = [
        Cell(
            number(row.scores.get(data)),
            notes.marks([said] if data in row.scores and (said := CERTAINTIES[row.certainty_of(data)]) else []),
        )
        for data in shown
    ]
    post = "not stated" if row.post == "not stated" else "–" if row.post == "none" else row.post
    return (
        Cell(f"{row.system}, {row.venue}", notes.marks(texts), "published"),
        Cell("–" if row.backbone == "not stated" else row.backbone),
        Cell(post),
        *scores,
        *(_mean(row.scores, part, notes, row.average if tuple(part) == _SEVEN else None) for part in means.values()),
        Cell(f"published: {row.source}", (), "published"),
    )


def _our_row(
    report: Report, name: str, row: Mapping[str, Run], shown: Sequence[str], means: Mapping[str, Sequence[str]], first: Run, notes: Notes
) -> tuple[Cell, ...]:
    runs = list(row.values())
    said = {run.data: told(run, first, report.changes[run.folder]) for run in runs}
    every = [text for text in said[runs[0].data] if all(text in texts for texts in said.values())]
    scores = {run.data: run.metrics.miou for run in runs}
    cells = [Cell(number(scores.get(data)), notes.marks([text for text in said.get(data, []) if text not in every])) for data in shown]
    return (
        Cell(name, notes.marks(every), "strong"),
        Cell(runs[0].backbone),
        Cell("–" if runs[0].post == "none" else runs[0].post),
        *cells,
        *(_mean(scores, part, notes, None) for part in means.values()),
        Cell(f"this report, {len(runs)} run" + ("s" if len(runs) > 1 else "")),
    )


def _mean(scores: Mapping[str, float], part: Sequence[str], notes: Notes, printed: float | None) -> Cell:
    if not all(data in scores for data in part):
        return Cell("–")
    value = sum(scores[data] for data in part) / len(part)
    odd = printed is not None and abs(printed - value) > 0.051
    return Cell(number(value), notes.marks([f"the mean of this row; its source prints {printed:.1f}"] if odd else []))


def measures(report: Report, field: Field) -> Table:
    """Everything that is measured on one data set."""
    notes, first = Notes(), field.runs[0]
    rows: list[tuple[Cell, ...]] = []
    for run, interval in zip(field.runs, field.intervals, strict=True):
        found, sure = run.metrics, run.calibration
        values = (found.pixel_accuracy, found.mean_accuracy, found.weighted_iou, 100 * sure.ece, 100 * sure.risk_area)
        texts = told(run, first, report.changes[run.folder])
        rows.append(
            (
                Cell(report.labels[run.folder], notes.marks(texts), "strong"),
                Cell("–" if run.post == "none" else run.post),
                Cell(f"{number(found.miou, 2)} {_ends(interval)}"),
                *(Cell(number(value)) for value in values),
                Cell(str(len(run.items))),
                Cell(number(run.pace, 2)),
            )
        )
    head = ("Recipe", "Post.", "mIoU [95 %]", "Pixel acc.", "Mean acc.", "fw IoU", "ECE", "Risk area", "Images", "s / image")
    about = (
        f"Percent. Intervals: {report.draws} bootstrap draws of images, seed {report.seed}. fw IoU: each class weighted by its pixels. "
        "ECE: expected calibration error. Risk area: share of wrong pixels, averaged over coverage by confidence; of both, less is better. "
        "Seconds: of the work on an image; reading goes on ahead and is not in them."
    )
    return Table(field.title, head, tuple(rows), frozenset(range(2, 10)), notes.listed, about)


def differences(report: Report, field: Field) -> Table:
    """Paired differences on one data set."""
    notes = Notes()
    rows = tuple(
        (
            Cell(report.labels[pair.run.folder], (), "strong"),
            Cell(report.labels[pair.against.folder], notes.marks(pair.differ)),
            Cell(f"{pair.difference.value:+.2f}"),
            Cell(_ends(pair.difference, "+")),
            Cell("yes" if pair.difference.clear else "no"),
            Cell(str(len(pair.run.items))),
        )
        for pair in field.paired
    )
    about = (
        f"mIoU of the first less that of the second, in points; paired bootstrap over the same images, {report.draws} draws, "
        f"seed {report.seed}. Clear: 0 lies outside the interval."
    )
    head = ("Recipe", "against", "Difference", "95 %", "Clear", "Images")
    return Table(f"Differences: {field.title}", head, rows, frozenset((2, 3, 5)), notes.listed, about)


def classes(report: Report, field: Field) -> Table:
    """IoU of every class, a column a run, and the difference to the run that the report is held against."""
    first, notes = field.runs[0], Notes()
    pairs = [pair for pair in field.paired if pair.run.classes == pair.against.classes]
    true = first.confusion.true
    whole = max(1, int(true.sum()))
    rows = [
        (
            Cell(str(place)),
            Cell(name),
            Cell(f"{100 * true[place] / whole:.2f}"),
            *(Cell(number(run.metrics.iou[place])) for run in field.runs),
            *(Cell(_signed(pair.run.metrics.iou[place] - pair.against.metrics.iou[place])) for pair in pairs),
        )
        for place, name in enumerate(first.classes)
    ]
    means = [Cell(number(run.metrics.miou), (), "strong") for run in field.runs]
    steps = [Cell(_signed(pair.difference.value), (), "strong") for pair in pairs]
    rows.append((Cell(""), Cell("mean", (), "strong"), Cell(""), *means, *steps))
    heads = [*(report.labels[run.folder] for run in field.runs)]
    gaps = [f"{report.labels[pair.run.folder]} − {report.labels[pair.against.folder]}" for pair in pairs]
    about = "IoU in percent; a dash where the protocol leaves the class out. Share: of the pixels that count, by the true masks"
    about += "." if all(run.items == first.items for run in field.runs) else f" of {report.labels[first.folder]}; images differ."
    if any(run.classes != first.classes for run in field.runs):
        about += f" Names are those of {report.labels[first.folder]}."
    head = ("id", "Class", "Share %", *heads, *gaps)
    return Table(f"Classes: {field.title}", head, tuple(rows), frozenset({0, *range(2, len(head))}), notes.listed, about)


def made(report: Report) -> Table:
    """How each run was made, so that it can be made again."""
    facts: Mapping[str, Callable[[Run], str]] = {
        "Names": lambda run: run.names,
        "Recipe digest": lambda run: str(run.identity["recipe"]["digest"])[:12],
        "Weights": lambda run: (
            "; ".join(f"{kind} {run.weights[kind]} {digest[:12]}" for kind, digest in run.identity["weights"].items()) or "–"
        ),
        "Precision": lambda run: str(run.identity.get("dtype", "–")),
        "Seed": lambda run: "the recipe's" if run.identity.get("seed") is None else str(run.identity["seed"]),
        "Seconds an image": _stages,
        "Machine": _machine,
        "Versions": lambda run: ", ".join(f"{name} {found}" for name, found in dict(run.about.get("versions", {})).items() if found) or "–",
    }
    rows = tuple(
        (
            Cell(report.labels[run.folder], (), "strong"),
            Cell(f"{run.data}, {run.split}, {run.protocol}"),
            Cell(str(run.about.get("command") or "–"), (), "code"),
            *(Cell(read(run)) for read in facts.values()),
        )
        for run in report.runs
    )
    called = f"Rows called “{EMBEDDED}” ran on the small pair of networks that comes with the package; they say nothing of published ones."
    about = called if any(run.embedded for run in report.runs) else ""
    return Table("How each run was made", ("Recipe", "Data", "Command", *facts), rows, frozenset(), (), about)


def _stages(run: Run) -> str:
    if not run.seconds:
        return "–"
    inner = ", ".join(f"{stage} {taken:.2f}" for stage, taken in run.seconds.items() if stage not in BESIDE)
    beside = ", ".join(f"{stage} {taken:.2f}" for stage, taken in run.seconds.items() if stage in BESIDE and stage != "work")
    return f"{run.pace:.2f}" + (f": {inner}" if inner else "") + (f"; beside it {beside}" if beside else "")


def _machine(run: Run) -> str:
    hardware = dict(run.about.get("hardware", {}))
    parts = (hardware.get("processor") or hardware.get("machine"), f"{hardware['cores']} cores" if hardware.get("cores") else "")
    threads = run.about.get("threads")
    return ", ".join(str(part) for part in (*parts, run.about.get("device"), f"{threads} threads" if threads else "") if part) or "–"


def _ends(interval: Interval, sign: str = "") -> str:
    return f"[{interval.low:{sign}.2f}, {interval.high:{sign}.2f}]" if interval.low == interval.low else "[–]"


def _signed(value: float) -> str:
    return "–" if value != value else f"{value:+.1f}"
