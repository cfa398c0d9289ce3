from __future__ import annotations

import csv
import html.parser
import io
import json
import re

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from nerveseg import recipe as recipes
from nerveseg.bench.job import KIND
from nerveseg.bench.report import build, compare, load, plots, to_csv, to_html, to_markdown
from nerveseg.bench.report.tables import averages, benchmarks, grouped
from nerveseg.cli.bench_report import report as verb
from nerveseg.errors import OptionError, RunError
from nerveseg.runs import plan

NAMES = ("grass", "cat", "dog")
GOOD = ([[0, 0, 60], [0, 1, 10], [1, 1, 20], [1, 3, 10]], [[0, 0, 50], [2, 2, 40], [2, 0, 10]])
WORSE = ([[0, 0, 40], [0, 1, 30], [1, 1, 20], [1, 3, 10]], [[0, 0, 50], [2, 2, 30], [2, 0, 20]])
CALIBRATION = ([[9, 30, 10, 14.0], [19, 70, 70, 69.0]], [[19, 100, 90, 98.0]])


@pytest.fixture
def run(tmp_path):
    """``run("voc21", "naclip")`` writes the folder of a finished run of two images, and gives its path."""

    def make(
        data="voc21", recipe="naclip", counts=GOOD, *, at=None, items=("a", "b"), planned=None, split="val", protocol="sclip", names=NAMES,
        origin="official", settings=None, identity=None, seconds=(1.0, 3.0), images=("11", "22"),
    ):  # fmt: skip
        chosen = recipes.load(recipe, settings or {}).for_benchmark(data.replace("_", "-"))
        said = {
            "kind": KIND,
            "recipe": {"name": chosen.name, "digest": chosen.digest, "toml": chosen.to_toml()},
            "data": {"name": data, "split": split, "protocol": protocol, "classes": len(names), "about": {}},
            "names": {"origin": origin, "digest": f"{abs(hash(origin)):016x}"[:16], "classes": list(names)},
            "offer": "listed",
            "weights": {kind: "0123456789abcdef" for kind in chosen.needs if kind in chosen.weights},
            "dtype": "float32",
            "seed": None,
            "limit": None,
            **(identity or {}),
        }
        about = {"command": f"nerveseg bench run -r {recipe} -d {data}", "device": "cpu", "hardware": {"processor": "P", "cores": 2}}
        folder = tmp_path / (at or f"{data}-{recipe}")
        folder.mkdir(parents=True)
        plan.prepare(plan.Plan(tuple(planned or items), said, about), folder)
        rows = zip(items, counts, CALIBRATION, images, strict=True)
        lines = [{"item": i, "picture": p, "size": [10, 10], "confusion": c, "calibration": k} for i, c, k, p in rows]
        (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        times = ({"read": 9.0, "waited": 0.5, "work": taken, "walk": taken / 2} for taken in seconds)
        entries = [{"item": line["item"], "result": {}, "seconds": taken} for line, taken in zip(lines, times, strict=False)]
        (folder / "journal.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        return folder

    return make


@pytest.fixture
def cli(monkeypatch, tmp_path):
    app = typer.Typer()
    app.command()(verb)
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


def _rows(text, title):
    """The cells of one Markdown table, escapes taken away."""
    part = text.split(f"## {title}")[1].split("\n## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("|")]
    return [[re.sub(r"\\(.)", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_scores_are_counted_from_the_lines(run):
    found = load(run())
    # grass: 110 of 110 + 10 + 10; cat: 20 of 30 + 10; dog: 40 of 50
    iou = [110 / 130, 20 / 40, 40 / 50]
    assert found.metrics.iou.tolist() == pytest.approx([100 * part for part in iou], abs=1e-12)
    assert found.metrics.miou == pytest.approx(100 * sum(iou) / 3, abs=1e-12)
    assert found.metrics.pixel_accuracy == pytest.approx(85)
    assert found.calibration.ece == pytest.approx((4 + 7) / 200)  # |10 − 14| and |160 − 167|
    assert found.pace == 2.0  # work alone: reading goes on ahead, and the walk is a part of the work
    assert (found.name, found.embedded, found.post, found.backbone) == ("naclip", False, "none", "clip-b16")
    assert load(run("voc20", protocol="cliper")).metrics.miou == pytest.approx(100 * sum(iou) / 3, abs=1e-4)


def test_table_1_has_its_shape(run):
    seven = ("voc21", "context60", "coco_object", "voc20", "ade20k", "context59", "coco_stuff")
    text = to_markdown(build([*(run(data) for data in seven), run("voc21", "naclip-pamr")], draws=100))
    head, _, *rows = _rows(text, "Benchmarks")
    assert head == ["System", "Networks", "Post.", "V21", "PC60", "C-Obj", "V20", "ADE", "PC59", "C-Stf", "Avg 7", "Source"]
    whole = next(row for row in rows if row[0] == "**naclip**")
    assert whole[2:11] == ["–", *["71.5"] * 8]
    part = next(row for row in rows if row[0] == "**naclip-pamr**")
    assert part[2:11] == ["PAMR", "71.5", *["–"] * 7]  # no average where a benchmark is missing
    (nerve,) = [row for row in rows if "NERVE" in row[0]]
    assert nerve[3:11] == ["69.7", "37.7", "43.3", "90.1", "24.0", "43.4", "28.8", "48.1"]
    assert nerve[-1] == "*published: NERVE paper (arXiv 2511.08248), Table 1*"
    published = [row for row in rows if row[-1].startswith("*published: ")]
    assert len(published) == len(rows) - 2
    # Those that the two recipes are to be held against are there, and a number that was read off a figure is marked.
    (held,) = [row for row in published if "NACLIP repository" in row[-1]]
    assert held[2:4] == ["PAMR", "64.1"]
    (figure,) = [row for row in published if "Trident" in row[-1]]
    letter = re.fullmatch(r"58\.9<sup>(\w+)</sup>", figure[3])[1]
    assert f"<sup>{letter}</sup> read off a figure" in text
    (sclip,) = [row for row in published if row[0].startswith("*SCLIP") and row[2] == "–"]
    letter = re.fullmatch(r"39\.0<sup>(\w+)</sup>", sclip[10])[1]
    assert f"<sup>{letter}</sup> the mean of this row; its source prints 38.2" in text


def test_an_average_is_over_what_our_rows_have_in_common(run):
    found = build([run("voc21"), run("context60"), run("voc21", "sclip"), run("context60", "sclip"), run("voc20", "sclip")], draws=100)
    assert averages(found)["Avg V21 PC60"] == ("voc21", "context60")
    (nerve,) = [row for row in _rows(to_markdown(found), "Benchmarks") if "NERVE" in row[0]]
    assert nerve[11] == "53.7"
    assert "City" not in benchmarks(found).head
    city = build([run("cityscapes")], draws=100, published="all")
    assert "Avg 8" in benchmarks(city).head
    assert len(benchmarks(city).rows) > 55
    assert len(benchmarks(build([run("ade20k")], draws=100, published="none")).rows) == 1


def test_what_is_not_alike_is_told(run):
    usual = run()
    odd = {
        "protocol cliper, not sclip: other masks or another average, not to be compared": run(recipe="sclip", protocol="cliper"),
        "names list lists/mine, not official": run(recipe="clip", origin="lists/mine/cls_voc21.txt"),
        "the first 2 images of voc21 only": run(recipe="gem", identity={"limit": 2}),
        "1 of 3 images of voc21 were skipped": run(recipe="maskclip", planned=("a", "b", "c")),
        "not the recipe clearclip as it ships: labels.scale": run(recipe="clearclip", settings={"labels.scale": 30.0}),
        "split train of voc21, not val, the one that scores are published on": run(recipe="lposs", split="train"),
        "seed: 3, not the recipe's": run(recipe="proxyclip", identity={"seed": 3}),
    }
    if "voc21" not in __import__("nerveseg.datasets", fromlist=["names"]).names():
        odd.pop("split train of voc21, not val, the one that scores are published on")
    text = to_markdown(build([usual, *odd.values()], draws=100)).replace("\\_", "_")
    first = text.split("\n## ")[1]
    for note, folder in odd.items():
        (line,) = [line for line in first.splitlines() if line.startswith(f"| **{folder.name.removeprefix('voc21-')}**")]
        letters = re.findall(r"<sup>([\w ]+)</sup>", line)
        assert any(f"<sup>{letter}</sup> {note}" in first for letter in " ".join(letters).split()), note
    (line,) = [line for line in first.splitlines() if line.startswith("| **naclip**")]
    assert "<sup>" not in line


def test_two_runs_of_one_name_stay_two_rows(run):
    found = build([run(), run(at="again", counts=WORSE)], draws=100)
    assert len(grouped(found)) == 2
    labels = [row[0] for row in _rows(to_markdown(found), "voc21, val")[2:]]
    assert len(set(labels)) == 2
    assert all("voc21-naclip]" in label or "again]" in label for label in labels)


def test_the_embedded_model_is_called_that_everywhere(run):
    mini = run("voc21", "mini")
    found = build([mini, run("embedded", "mini", split="test")], per_class=True, draws=100)
    text = to_markdown(found)
    assert text.count("mini (embedded model)") >= 5
    assert not re.search(r"\*\*mini\*\*", text)
    assert "they say nothing of published ones" in text
    assert "NERVE" in text  # a mini run on VOC has published rows above it, but is held against none of them
    assert {row["embedded"] for row in csv.DictReader(io.StringIO(to_csv(found))) if row["kind"] == "ours"} == {"yes"}
    alone = to_markdown(build([run("embedded", "mini", at="alone", split="test")], draws=100))
    assert "published:" not in alone
    assert "Benchmarks" not in alone


def test_differences_are_paired_and_classes_have_names(run):
    good, worse = run(), run(recipe="sclip", counts=WORSE)
    found = build([good, worse], against=[worse], per_class=True, draws=200, seed=4)
    (pair,) = found.fields[0].paired
    text = to_markdown(found)
    (row,) = _rows(text, "Differences")[2:]
    assert row[:3] == ["**naclip**", "sclip", f"{pair.difference.value:+.2f}"]
    assert row[3] == f"[{pair.difference.low:+.2f}, {pair.difference.high:+.2f}]"
    assert pair.difference.value == pytest.approx(load(good).metrics.miou - load(worse).metrics.miou)
    head, _, *rows = _rows(text, "Classes")
    assert head == ["id", "Class", "Share %", "naclip", "sclip", "naclip − sclip"]
    assert [row[1] for row in rows] == [*NAMES, "**mean**"]
    assert rows[1][3:] == ["50.0", "33.3", "+16.7"]
    assert float(rows[0][2]) + float(rows[1][2]) + float(rows[2][2]) == pytest.approx(100, abs=0.02)
    # The same images in another order pair up all the same.
    turned = run(recipe="clip", counts=WORSE[::-1], items=("b", "a"), images=("22", "11"))
    assert compare(load(good), load(turned), draws=200, seed=4).difference == pair.difference


def test_a_pair_that_is_none_is_refused_and_named(run):
    good = load(run())
    for other, said in (
        (run("voc20"), "the data voc21.*the data voc20"),
        (run(recipe="clip", protocol="cliper"), "the protocol sclip.*the protocol cliper"),
        (run(recipe="gem", split="train"), "the split val.*the split train"),
        (run(recipe="sclip", names=(*NAMES, "sky")), "classes 3.*classes 4"),
        (run(recipe="lposs", items=("a", "c")), r"2 \(with 'b'\).*2 \(without 'b'\)"),
        (run(recipe="maskclip", images=("11", "33")), "the image 'b' of digest 22.*33"),
        (run(recipe="clearclip", counts=([[0, 0, 100]], GOOD[1])), "masks differ"),
    ):
        with pytest.raises(RunError, match=said):
            compare(good, load(other))
    names = run(recipe="proxyclip", origin="lists/cls.txt")
    assert any("names list: official" in text for text in compare(good, load(names), draws=100).differ)
    with pytest.raises(RunError, match="voc20-naclip"):
        build([good.folder], against=[good.folder.parent / "voc20-naclip"], draws=100)
    with pytest.raises(RunError, match="nothing else"):
        build([good.folder], against=[good.folder], draws=100)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"item": "a", "picture": "1", "confusion": [[9, 0, 1]], "calibration": []}', "outside its 3 classes"),
        ('{"item": "a", "picture": "1", "confusion": [[0, 0]], "calibration": []}', "no counts"),
        ('{"item": "a", "picture": "1", "confusion": [[0, 0, -4]], "calibration": []}', "outside"),
        ('{"item": "a", "confusion": [], "calibration": []}', "no picture"),
        ('{"item": "a", "picture": "1", "confusion": [], "calibration": [[20, 1, 1, 1.0]]}', "no calibration"),
        ('{"item": "a", ', "damaged line 1"),
        ("", "no image was scored"),
    ],
)
def test_a_damaged_run_is_named(run, line, said):
    folder = run()
    (folder / "results.jsonl").write_text(line + "\n" if line else "")
    with pytest.raises(RunError, match=said) as caught:
        load(folder)
    assert "voc21-naclip" in str(caught.value)


def test_a_run_that_is_not_finished_or_none_is_named(run, tmp_path):
    folder = run()
    (folder / "results.jsonl").unlink()
    with pytest.raises(RunError, match="finished job"):
        load(folder)
    with pytest.raises(RunError, match="nowhere"):
        load(tmp_path / "nowhere")
    with pytest.raises(RunError, match="another kind"):
        load(run("voc20", identity={"kind": "batch"}))
    with pytest.raises(RunError, match="no run"):
        build([])
    with pytest.raises(OptionError, match="'some'"):
        build([run("ade20k")], published="some")


def test_csv_has_a_number_a_line(run):
    good, worse = run(), run(recipe="sclip", counts=WORSE)
    rows = list(csv.DictReader(io.StringIO(to_csv(build([good, worse], against=[worse], per_class=True, draws=100)))))
    ours = [row for row in rows if row["kind"] == "ours" and row["folder"] == str(good)]
    (miou,) = [row for row in ours if row["measure"] == "miou"]
    assert float(miou["value"]) == pytest.approx(load(good).metrics.miou, abs=1e-9)
    assert float(miou["low"]) <= float(miou["value"]) <= float(miou["high"])
    assert miou["command"] == "nerveseg bench run -r naclip -d voc21"
    assert [row["class"] for row in ours if row["measure"] == "iou"] == list(NAMES)
    assert [row["against"] for row in ours if row["measure"] == "miou_difference"] == [str(worse)]
    published = [row for row in rows if row["kind"] == "published"]
    assert all(row["source"] and row["certainty"] for row in published)


class _Html(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text.append(data)


def test_html_is_one_file_and_escapes(run):
    names = ("<script>alert(1)</script>", 'a "b" & c|d_e', "$x$")
    found = build([run(names=names), run("embedded", "mini", split="test", names=names)], per_class=True, draws=100)
    page = _Html()
    page.feed(to_html(found, plots.every(found)))
    assert "script" not in page.tags
    assert names[0] in page.text
    assert names[1] in page.text
    assert page.tags.count("img") == 2
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert "link" not in page.tags
    text = to_markdown(found)
    assert "<script>" not in text
    assert r"c\|d\_e" in text


def test_plots_are_the_same_bytes_each_time(run):
    found = build([run(), run(recipe="sclip", counts=WORSE), run("embedded", "mini", split="test")], draws=100)
    image = plots.one_figure(found)
    assert image == plots.one_figure(found)
    with Image.open(io.BytesIO(image)) as shown:
        assert shown.width > 1500
        assert np.asarray(shown.convert("L")).std() > 10
    assert len(plots.every(found)) == 2


def test_plots_of_many_runs_classes_and_no_times(run):
    names = tuple(f"class {place} of a rather long name that goes on and on" for place in range(60))
    counts = ([[place, place, 5] for place in range(60)], [[place, (place + 1) % 60, 5] for place in range(0, 60, 2)])
    folders = [
        run(recipe=name, names=names, counts=counts)
        for name in ("naclip", "sclip", "clip", "gem", "maskclip", "clearclip", "lposs", "cliper")
    ]
    late = run(recipe="proxyclip", names=names, counts=counts)
    (late / "journal.jsonl").unlink()
    found = build([*folders, late], draws=100)
    assert found.runs[-1].pace != found.runs[-1].pace
    assert plots.one_figure(found).startswith(b"\x89PNG")
    assert plots.one_figure(build([late], draws=100)).startswith(b"\x89PNG")


def test_the_command_writes_each_format(run, cli, tmp_path):
    good, worse = run(), run(recipe="sclip", counts=WORSE)
    shown = cli(good, worse, "--draws", 100)
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout == to_markdown(build([good, worse], draws=100))
    for name, start in (("a.md", b"# Report"), ("a.csv", b"kind,"), ("a.html", b"<!doctype html>"), ("a.png", b"\x89PNG")):
        result = cli(good, worse, "--against", worse, "--per-class", "--draws", 100, "-o", name)
        assert result.exit_code == 0, result.stderr
        assert result.stdout.strip() == name
        assert (tmp_path / name).read_bytes().startswith(start)
    assert cli(good, "--draws", 100, "-o", "a.md").exit_code == 2
    assert cli(good, "--draws", 100, "-o", "a.md", "--overwrite").exit_code == 0
    assert "Differences" not in (tmp_path / "a.md").read_text()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("-f", "png"), 2, "-o report.png"),
        (("-f", "pdf"), 2, "Accepted are md, csv"),
        (("-o", "a.xlsx"), 2, "Accepted are md, csv"),
        (("-o", "no/a.md"), 2, "folder does not exist"),
        (("--published", "some"), 2, "near, all, none"),
        (("--against", "nowhere"), 1, "nowhere"),
    ],
)
def test_the_command_refuses(run, cli, options, code, said):
    result = cli(run(), *options)
    assert result.exit_code == code
    assert said in result.stderr
