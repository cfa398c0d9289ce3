from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from PIL import Image

from nerveseg.segmenter import Segmenter
from nerveseg.synthetic import bundled, scenes
from nerveseg.synthetic.names import NAMES

WORDS = ("--labels", "dog, cat, grass", "--recipe", "mini")


def test_demo_leaves_an_overlay_and_a_label_map_of_each_scene(run, tmp_path):
    result = run("demo", "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""  # it knows every word it is asked for
    for scene in bundled.scenes():
        assert scene.name in result.stdout
        with Image.open(scene.path) as image, Image.open(tmp_path / "out" / f"{scene.name}.png") as ids:
            assert ids.mode == "P"
            assert ids.size == image.size
        assert (tmp_path / "out" / f"{scene.name}.overlay.png").is_file()
        assert (tmp_path / "out" / "pictures" / scene.path.name).read_bytes() == scene.path.read_bytes()
    assert len(list((tmp_path / "out" / "pictures").iterdir())) == len(bundled.scenes())
    for word in ("label", "share", "confidence", "seconds", "transition", "walk"):
        assert word in result.stdout
    assert run("demo", "-o", "out", "--json").exit_code == 0  # its own older results are replaced


def test_explain_draws_one_figure(run, photo, tmp_path):
    result = run("explain", photo(), *WORDS, "-o", "inside.png", "-b", "auto")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == "inside.png"
    with Image.open("inside.png") as figure:
        assert figure.width > 1500
    again = run("explain", "a.png", *WORDS, "-o", "inside.png", "-b", "auto")
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    before = (tmp_path / "inside.png").read_bytes()
    assert run("explain", "a.png", *WORDS, "-o", "inside.png", "-b", "auto", "--overwrite").exit_code == 0
    assert (tmp_path / "inside.png").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (("-o", "a.bmp"), 2, ".svg"),
        (("-o", "no/where.png"), 2, "folder"),
        (("--set", "walk.name=none"), 2, "nothing walks"),
        (("--set", "walk.name=cliper"), 2, "walk.name=infinite"),
        (("--set", "walk.name=iseg"), 2, "attention heads"),
        (("--set", "walk.alpha=1.5"), 2, "walk.alpha"),
    ],
)
def test_explain_refuses(run, photo, options, code, word):
    result = run("explain", photo(), *WORDS, *options)
    assert result.exit_code == code
    assert word in result.stderr


@pytest.mark.parametrize("verb", ["segment", "explain"])
def test_low_memory_reaches_the_networks(run, photo, monkeypatch, verb):
    load, seen = Segmenter.from_pretrained, []

    def from_pretrained(*given, **options):
        seen.append(options["low_memory"])
        return load(*given, **options)

    monkeypatch.setattr(Segmenter, "from_pretrained", from_pretrained)
    assert run(verb, photo(), *WORDS, "--low-memory").exit_code == 0
    assert seen == [True]


def test_explain_draws_any_label_and_many(run, photo):
    labels = ", ".join(["猫", "$a$_{b}", *(f"thing {number}" for number in range(30))])
    result = run("explain", photo(size=(20, 60)), "--labels", labels, "--recipe", "mini", "-o", "inside.svg", "--set", "walk.alpha=0.5")
    assert result.exit_code == 0, result.stderr


def test_what_explain_shows_is_what_the_walk_says(mini, photo):
    from nerveseg.cli._inside import STEPS, look
    from nerveseg.words import Vocabulary

    encoding = mini.encode(photo())
    inside = look(mini, encoding, Vocabulary.parse(["dog", "grass", "sky"]))
    assert [snapshot.steps for snapshot in inside.snapshots] == [*STEPS, None]
    assert inside.snapshots[-1].moved == 0
    for snapshot in inside.snapshots[:-1]:
        assert snapshot.error <= 2 * inside.alpha ** (snapshot.steps + 1) + 2 * inside.tolerance
    assert [count for _, count in inside.layers] == [5, 5]
    assert len(inside.weights) == 10
    assert inside.certified[-1] <= inside.tolerance
    assert np.array_equal(inside.snapshots[-1].ids, mini.decode(encoding, ["dog", "grass", "sky"]).segmentation.numpy())


def test_doctor_finds_nothing_broken_here(run):
    result = run("doctor", "--json")
    rows = {row["name"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert result.exit_code == 0
    assert rows["torchvision"]["state"] == "good"
    assert rows["embedded:clip"]["state"] == "good"
    assert rows["device"]["text"].startswith(("cpu", "cuda", "mps"))
    shown = run("doctor")
    assert "Nothing is broken" in shown.stdout


def test_doctor_tells_of_weights_that_are_broken(run, monkeypatch):
    from nerveseg.cli import weights

    where = weights.where
    monkeypatch.setattr(weights, "where", lambda name: (None, "missing from this installation") if name == "embedded:clip" else where(name))
    result = run("doctor")
    assert result.exit_code == 1
    assert "Broken: embedded:clip" in result.stdout


def command(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "nerveseg", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=900,
        env={**os.environ, **environment},
    )


def test_doctor_catches_a_broken_torchvision(tmp_path):
    package = tmp_path / "site" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    paths = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    result = command("doctor", cwd=tmp_path, PYTHONPATH=paths, COLUMNS="300")
    assert result.returncode == 1
    assert "pip uninstall -y torchvision" in result.stdout
    assert "nms does not exist" in result.stdout
    assert "Traceback" not in result.stderr


def test_the_command_itself_from_end_to_end(tmp_path):
    scene = bundled.scenes()[0]
    arguments = ("segment", str(scene.path), "--labels", ",".join((*scene.labels, "zeppelin")), "--recipe", "mini", "--json")
    result = command(*arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["size"] == [128, 160]
    # Nothing of the libraries' own talk: bars, advice, warnings.
    assert result.stderr.strip().splitlines() == ["note: 'zeppelin' is a word that the CLIP of 'mini' was not trained on"]


def test_words_that_the_pair_does_not_know_are_told_in_one_line(run, photo):
    result = run("segment", photo(), "--labels", "cat, zebra, zeppelin, zither, zucchini", "--recipe", "mini", "-o", "unknown")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines() == ["note: 'zebra', 'zeppelin' and 2 more are words that the CLIP of 'mini' was not trained on"]


def test_words_of_the_background_are_told_of_where_they_were_given(run, photo):
    arguments = ("segment", photo(), "--labels", "cat, zebra", "--recipe", "mini", "-o")
    result = run(*arguments, "given", "--background", "zeppelin, sky")
    assert result.stderr.splitlines() == ["note: 'zebra' and 'zeppelin' are words that the CLIP of 'mini' was not trained on"]
    assert run(*arguments, "auto", "--background", "auto").stderr.splitlines() == [
        "note: 'zebra' is a word that the CLIP of 'mini' was not trained on"
    ]


def test_the_command_tells_usage_errors_in_one_line(tmp_path):
    result = command("segment", "a.png", "--labels", "dog, dog", "--recipe", "mini", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: Got 'dog' twice")


def test_recipes_are_listed_shown_and_compared(run, tmp_path):
    assert {json.loads(line)["recipe"] for line in run("recipes", "list", "--json").stdout.splitlines()} >= {"mini", "nerve", "nerve-paper"}
    shown = run("recipes", "show", "nerve")
    assert "not yet validated on real weights" in shown.stdout
    full = run("recipes", "show", "mini", "--full")
    assert tomllib.loads(full.stdout)["walk"]["max_steps"] > 0
    (tmp_path / "own.toml").write_text(full.stdout, "utf-8")
    assert "choose the same" in run("recipes", "diff", "mini", "own.toml").stdout
    difference = run("recipes", "diff", "nerve", "nerve-paper").stdout
    assert "walk.name" in difference
    assert "truncated" in difference
    assert run("recipes", "show", "nevre").exit_code == 2


def test_world_render_writes_image_mask_and_names(run, tmp_path):
    result = run("synthetic", "render", "--split", "val", "-i", 5, "-i", 6, "-o", "out", "--size", "48x64")
    assert result.exit_code == 0, result.stderr
    scene = scenes.render("val", 5, (48, 64))
    with Image.open(tmp_path / "out" / "val-00005.mask.png") as mask, Image.open(tmp_path / "out" / "val-00005.png") as image:
        assert np.array_equal(np.asarray(mask), scene.mask)
        assert np.array_equal(np.asarray(image), scene.image)
    words = (tmp_path / "out" / "val-00006.txt").read_text("utf-8").splitlines()
    assert words[0].startswith("# ")
    assert set(words[1:]) <= set(NAMES)


@pytest.mark.parametrize(
    "arguments",
    [("render", "--split", "all"), ("render", "--size", "big"), ("render", "--things", "4"), ("train", "-f", "run", "--part", "unet")],
)
def test_world_refuses(run, arguments):
    result = run("synthetic", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: Got")


def test_world_train_trains_the_parts_in_order_and_exports(run, monkeypatch, tmp_path):
    from nerveseg.synthetic.train import clip, diffusion, export, vae

    done = []

    def part(name):
        def train(folder, minutes):
            done.append((name, round(minutes, 3)))
            (folder / f"{name}-run").mkdir()
            (folder / f"{name}-run" / "checkpoint.pt").touch()

        return train

    for module, name in ((vae, "vae"), (clip, "clip"), (diffusion, "diffusion")):
        monkeypatch.setattr(module, "train", part(name))
    monkeypatch.setattr(export, "export", lambda run, out: done.append(("export", out)))
    first = run("synthetic", "train", "-f", "run", "--minutes", 10, "--part", "clip")
    assert first.exit_code == 0, first.stderr
    assert [name for name, _ in done] == ["clip"]
    (tmp_path / "run" / "clip-run" / "checkpoint.pt").unlink()
    (tmp_path / "run" / "clip-run").rmdir()
    result = run("synthetic", "train", "-f", "run", "--minutes", 10)
    assert result.exit_code == 0, result.stderr
    assert [name for name, _ in done[1:]] == ["vae", "clip", "diffusion", "export"]
    assert sum(minutes for _, minutes in done[1:4]) == pytest.approx(10)
    assert result.stdout.strip().endswith("embedded")


def test_world_score_prints_the_table(run, monkeypatch, tmp_path):
    from nerveseg.synthetic import score

    def measured(recipe, out, *, val, test, workers, said):
        said("first round", 0)
        said("test", 3)
        return f"| {recipe} | {val} | {test} | {out.name} |"

    monkeypatch.setattr(score, "run", measured)
    result = run("synthetic", "score", "--split-size", 4, "--val-size", 2, "-o", "table")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == "| mini | 2 | 4 | table |"
    assert (tmp_path / "table").is_dir()
