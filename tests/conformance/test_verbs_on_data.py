"""Every verb of the harness on every data set, in miniature: it works, or says in our words what to do instead."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from nerveseg import datasets, registry
from nerveseg import recipe as recipes
from nerveseg.bench import tune as tuning
from nerveseg.cli._app import app
from nerveseg.segmenter import Segmenter

KINDS = registry.names("ablations")
FORMATS = ("md", "html", "csv", "json", "png")
CASES = {
    **{name: (name,) for name in datasets.names() if name != "folder"},
    "folder of 8": ("folder",),
    "folder of 16": ("folder",),
    "folder, all": ("folder", "--split", "all"),
    "folders": ("folder",),
    "folders, train": ("folder", "--split", "train"),
    "folders, all": ("folder", "--split", "all"),
}
"""What it is called → the data set, and how its split is named."""

_ROOTS = {"folder of 16": "folder-16", "folders": "folders", "folders, train": "folders", "folders, all": "folders"}
_SPLIT = {"folder of 8": "all", "folder of 16": "all", "folder, all": "all", "folders, train": "train", "folders, all": "all"}
_COUNT = {"folder of 16": 16, "folders, all": 16}
_PARTED = ("folder of 8", "folder of 16", "folder, all", "folders, all")
_GRID = ({"walk.alpha": (0.5,)},)
_DRAWN = ("voc21", "embedded", "folder of 8", "folders, all")  # plots are the same for all
_ABLATED = [
    *((case, "names") for case in CASES),  # the one kind that depends on the data set's classes
    *((case, kind) for case in ("embedded", "folder of 8") for kind in KINDS if kind != "names"),
    *((case, "heads") for case in CASES if case.startswith("folder") and case != "folder of 8"),
]


def _coarse(path: Path) -> None:
    """Give a mask a few large things, where it has all values pixel by pixel: every thing is clicked at."""
    with Image.open(path) as image:
        image.load()
    if image.mode in ("L", "P"):
        values = np.array(image)
        coarse = Image.fromarray(np.resize(np.repeat(np.unique(values)[:3], 240), values.shape))
        if image.mode == "P":
            coarse.putpalette(image.getpalette())
        coarse.save(path)


@pytest.fixture(scope="module")
def run(mini, tmp_path_factory, miniature):
    """``run("tune", …)`` → the result, in a folder with every data set; one set of networks for all."""
    home = tmp_path_factory.mktemp("data")
    for name in miniature.LAYOUTS:
        for split, count in (("val", 8), ("train", 2)) if name != "folder" else (("val", 8),):
            miniature.write(name, home / name, count=count, split=split)
    miniature.write("folder", home / "folder-16", count=16)
    (home / "folder-16" / "images" / "photo.tga").touch()
    for part in ("val", "train"):
        miniature.write("folder", home / f"folders-{part}", count=8)
        for what in ("images", "masks"):
            (home / "folders" / what).mkdir(parents=True, exist_ok=True)
            (home / f"folders-{part}" / what).rename(home / "folders" / what / part)
    (home / "folders-val" / "names.txt").rename(home / "folders" / "names.txt")
    for path in home.rglob("*.png"):
        _coarse(path)

    encode, kept = Segmenter.encode, {}

    def once(self, image, **given):
        name = (image.sha256, *(str(table) for table in (self.recipe.labels.options, self.recipe.graph and self.recipe.graph.options)))
        if name not in kept:
            kept[name] = encode(self, image, **given)
        return dataclasses.replace(kept[name], image=image, recipe=self.recipe)

    def from_pretrained(recipe="nerve", **_):
        return dataclasses.replace(mini, recipe=recipes.load(recipe), _texts={})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Segmenter, "from_pretrained", from_pretrained)
        patch.setattr(Segmenter, "encode", once)  # the data sets have the same images
        patch.setattr(tuning, "tune", partial(tuning.tune, rounds=_GRID))
        patch.chdir(home)
        patch.setenv("COLUMNS", "200")
        yield lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


def on(case: str, verb: str = "") -> list[str]:
    """Options that name a case's data set."""
    data, *split = CASES[case]
    named = ["--data", data] if verb != "datasets" else [data]
    root = [] if data == "embedded" else ["--root", _ROOTS.get(case, data)]
    knobs = [] if verb == "datasets" else ["--set", "graph.size=64"]  # few tokens
    return [*named, *root, *split, *knobs]


def limit(case: str) -> list[str]:
    return ["--limit", "8"] if case == "embedded" else []


def fine(result, case: str = "") -> None:
    assert result.exit_code == 0, (result.stderr, result.exception)
    assert "Traceback" not in result.stderr
    if case == "folder of 16":
        assert "1 .tga" in result.stderr  # every verb says what of a folder it left out


def refused(result, words: str) -> None:
    assert result.exit_code == 2, (result.stdout, result.stderr, result.exception)
    assert re.fullmatch(rf"error: Got .*{words}.*Accepted .*\n", result.stderr), result.stderr


def lines(place: Path) -> list[dict]:
    return [json.loads(line) for line in place.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def ran(run):
    """``ran(case)`` → the folder of a finished run of `bench run`."""
    done: dict[str, Path] = {}

    def one(case: str) -> Path:
        if case not in done:
            fine(run("bench", "run", "-r", "mini", *on(case), "--limit", 2, "-o", f"bench {case}"), case)
            (done[case],) = Path(f"bench {case}").iterdir()
        return done[case]

    return one


@pytest.mark.parametrize("case", CASES)
def test_bench_run(case, run, ran):
    place = ran(case)
    made, found = (json.loads((place / name).read_text("utf-8")) for name in ("run.json", "metrics.json"))
    assert (found["pictures"], found["missing"]) == (2, 0)
    assert 0 <= found["miou"] <= 100
    assert made["identity"]["data"]["split"] == found["split"] == _SPLIT.get(case, "test" if case == "embedded" else "val")
    table = list(csv.reader(io.StringIO((place / "confusion.csv").read_text("utf-8"))))
    assert len(table) == len(made["identity"]["names"]["classes"]) + 1


@pytest.mark.parametrize(
    ("case", "form"), [(case, form) for case in CASES for form in FORMATS if form not in ("png", "html") or case in _DRAWN]
)
def test_bench_report(case, form, run, ran):
    place = ran(case)
    out = f"{place.name} {case}.{form}"
    fine(run("bench", "report", place, "-o", out, "--per-class", "--draws", 100))
    content = Path(out).read_bytes()
    if form == "png":
        assert content.startswith(b"\x89PNG")
        return
    text = content.decode()
    scored = json.loads((place / "metrics.json").read_text("utf-8"))["miou"]
    if form in ("csv", "json"):
        rows = list(csv.DictReader(io.StringIO(text))) if form == "csv" else json.loads(text)
        ours = [row for row in rows if row["kind"] == "ours" and row["measure"] == "miou"]
        assert [(row["data"], float(row["value"])) for row in ours] == [(CASES[case][0], pytest.approx(scored))]
    else:
        assert f"{scored:.1f}" in text
    assert CASES[case][0] in text.replace("\\", "")


@pytest.mark.parametrize(("case", "kind"), _ABLATED)
def test_ablate(case, kind, run):
    out = Path(f"ablate {case}")
    fine(run("ablate", kind, *on(case), "--limit", 2, "--choose", 1, "-o", out), case)
    (place,) = out.glob(f"{kind}-*")
    assert (place / "table.md").read_text("utf-8").count("\n|") > 3
    assert (place / "figure.png").read_bytes().startswith(b"\x89PNG")
    items = [line["item"] for line in lines(place / "results.jsonl")]
    parts = {part: {item.partition("/")[2] for item in items if item.startswith(part)} for part in ("choose", "score")}
    assert len(parts["choose"]) == 1
    assert len(parts["score"]) == (1 if case in _PARTED else 2)
    if case in _PARTED:
        assert not parts["choose"] & parts["score"]


@pytest.mark.parametrize("case", CASES)
def test_tune(case, run):
    out = Path(f"tune {case}")
    result = run("tune", *on(case), *limit(case), "-o", out)
    fine(result, case)
    count = _COUNT.get(case, 8) // 2
    assert f"{count} images not looked at: " in result.stdout
    assert f"{count} images are few" in result.stderr
    seen, *checks = ({line["item"] for line in lines(out / name / "results.jsonl")} for name in ("round-1", "check-before", "check-after"))
    assert len(seen) == count
    assert checks[0] == checks[1]
    assert not seen & checks[0]
    assert (out / "recipe.toml").is_file() == ("no recipe was written" not in result.stderr)


@pytest.mark.parametrize("case", CASES)
def test_calibrate(case, run):
    out = Path(f"calibrated {case}.toml")
    result = run("calibrate", *on(case), *limit(case), "-o", out)
    fine(result, case)
    count = _COUNT.get(case, 8) // 2
    assert f"on {count} images that had no say" in result.stdout
    assert f"{count} images are few" in result.stderr
    assert out.is_file() == ("no recipe was written" not in result.stderr)


@pytest.mark.parametrize("case", CASES)
def test_bench_clicks(case, run):
    out = Path(f"clicks {case}")
    # The first scenes of the embedded world hold no thing that is worth a click.
    fine(run("bench", "clicks", *on(case), "--limit", 3 if case == "embedded" else 1, "--cap", 1, "-o", out), case)
    (place,) = out.iterdir()
    assert (place / "table.md").is_file()


@pytest.mark.parametrize("case", CASES)
def test_bench_wsss(case, run):
    out = Path(f"wsss {case}")
    fine(run("bench", "wsss", "-r", "mini", *on(case), "--limit", 1, "--protocol", "sclip", "-o", out), case)
    (place,) = out.iterdir()
    assert len(list((place / "masks").rglob("*.png"))) == 1


@pytest.mark.parametrize("case", CASES)
def test_datasets_verify(case, run):
    if case == "embedded":
        refused(run("datasets", "verify", "embedded"), "drawn")
        return
    result = run("datasets", "verify", *on(case, "datasets"), "--partial", "--json")
    fine(result, case)
    assert json.loads(result.stdout)["items"] == _COUNT.get(case, 8)


@pytest.mark.parametrize("name", datasets.names())
def test_datasets_list_prepare_and_names(name, run):
    fine(run("datasets", "list", "--root", name))
    if name in ("embedded", "folder"):
        refused(run("datasets", "prepare", name, "--root", name), "nothing is downloaded")
    checked = run("names", "check", name, "--json")
    if name == "folder":
        refused(checked, "a folder of yours")
        fine(run("names", "check", "folder/names.txt", "--json"))
        return
    fine(checked)
    assert json.loads(checked.stdout)["classes"] == registry.load("datasets", name).count
