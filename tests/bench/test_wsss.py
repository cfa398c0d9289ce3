"""Pseudo-masks: what is written and scored equals a plain loop, labels of every origin, and runs that go on."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from nerveseg import datasets
from nerveseg import recipe as recipes
from nerveseg.bench import image_labels, wsss
from nerveseg.bench.image_labels import Tagger
from nerveseg.bench.job import Job
from nerveseg.bench.wsss import PseudoMasks
from nerveseg.datasets import IGNORE, Item
from nerveseg.errors import DataError, OptionError, RunError
from nerveseg.labels import tagclip
from nerveseg.masks.palette import voc_palette
from nerveseg.synthetic.names import NAMES

JOB = Job("mini", "embedded", split="train", limit=3, threads=1)
GIVEN = PseudoMasks(JOB, abstain=0.7, soft=True)
QUICK = {"graph.name": "none", "walk.name": "none"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Masks of three scenes, with an ignore band and soft scores."""
    return wsss.run(GIVEN, tmp_path_factory.mktemp("wsss") / "embedded-train-mini")


def _lines(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text("utf-8").splitlines()]


def iou_by_hand(pairs, classes, average):
    """mIoU of (truth, guess) maps in plain loops; ``None`` in a truth does not count."""
    both, true, guessed = [0] * classes, [0] * classes, [0] * classes
    for truth, guess in pairs:
        for t, p in zip(truth, guess, strict=True):
            if t is None:
                continue
            true[t] += 1
            guessed[p] += 1
            both[t] += t == p
    found = [
        both[c] / (true[c] + guessed[c] - both[c] + (1e-5 if average == "truth" else 0))
        for c in range(classes)
        if (true[c] if average == "truth" else true[c] + guessed[c])
    ]
    return 100 * sum(found) / len(found)


def test_masks_are_what_the_segmenter_says_of_the_classes_in_the_image(made, mini):
    data = datasets.open("embedded", split="train")
    kept, every, unsure, pixels = [], [], 0, 0
    for item, line in zip(data.items[:3], _lines(made.folder), strict=True):
        image, truth = data.read(item)
        classes = sorted(set(truth.flatten().tolist()))
        assert line["labels"] == classes
        result = mini(image, [data.names.names[index] for index in classes])
        guess = np.array(classes)[result.segmentation.numpy()]
        sure = result.confidence().numpy() >= 0.7
        with Image.open(made.folder / "masks" / f"{item.id}.png") as pil_mask:
            assert pil_mask.mode == "P"
            assert pil_mask.getpalette() == voc_palette().flatten().tolist()
            found = np.asarray(pil_mask)
        assert found.shape == image.size
        assert (found[sure] == guess[sure]).all()
        assert (found[~sure] == 255).all()
        assert line["unsure"] == (~sure).sum()
        unsure, pixels = unsure + int((~sure).sum()), pixels + truth.size
        every.append((truth.flatten().tolist(), guess.flatten().tolist()))
        kept.append(([t if s else None for t, s in zip(every[-1][0], sure.flatten(), strict=True)], every[-1][1]))
        soft = load_file(made.folder / "scores" / f"{item.id}.safetensors")
        assert soft["scores"].dtype == torch.float16
        assert soft["ids"].tolist() == classes
        torch.testing.assert_close(soft["scores"], result.segmentation_scores.half())
    assert 0 < unsure < pixels
    assert made.metrics["unsure"] == pytest.approx(100 * unsure / pixels, abs=1e-9)
    assert made.metrics["miou"] == pytest.approx(iou_by_hand(kept, data.classes, "union"), abs=1e-9)
    assert made.metrics["miou_all"] == pytest.approx(iou_by_hand(every, data.classes, "union"), abs=1e-9)
    assert made.metrics["miou"] > made.metrics["miou_all"]
    assert made.metrics["label_precision"] == made.metrics["label_recall"] == 100.0
    names = (made.folder / "names.txt").read_text("utf-8").splitlines()
    assert names == list(data.names.names)


def test_the_folder_goes_on_and_other_masks_are_refused(made):
    before = {name: (made.folder / name).read_bytes() for name in ("results.jsonl", "metrics.json")}
    again = wsss.run(GIVEN, made.folder)
    assert (again.summary.done, again.summary.skipped) == (0, 3)
    assert before == {name: (made.folder / name).read_bytes() for name in before}
    with pytest.raises(RunError, match="abstain"):
        wsss.run(PseudoMasks(JOB, abstain=0.2, soft=True), made.folder)


def test_pseudo_masks_open_as_a_data_set_beside_their_images(made, tmp_path):
    data = datasets.open("embedded", split="train")
    (tmp_path / "images").mkdir()
    for item in data.items[:3]:
        Image.fromarray(data.image(item).pixels).save(tmp_path / "images" / f"{item.id}.png")
    (tmp_path / "masks").symlink_to(made.folder / "masks")
    (tmp_path / "names.txt").write_bytes((made.folder / "names.txt").read_bytes())
    found = datasets.open("folder", tmp_path)
    assert found.names.names == data.names.names
    _, mask = found.read(found.items[0])
    assert (mask == IGNORE).sum() == _lines(made.folder)[0]["unsure"]


def test_one_class_without_a_background_takes_the_whole_image(mini):
    worker = wsss.Worker(GIVEN, "nowhere")
    worker._state = {"segmenter": mini}
    data = datasets.open("embedded")
    guess, confidence, scores, ids = worker._segment(data.image(data.items[0]), (7,), data)
    assert set(guess.flatten()) == {7}
    assert confidence.min() == 1
    assert (scores.shape[0], ids) == (1, [7])


# Pascal VOC in miniature.


@pytest.fixture
def voc(tmp_path, pair):
    """Three images of VOC train: two classes, one class, none."""
    home = tmp_path / "data" / "VOCdevkit" / "VOC2012"
    stems = {"2007_000001": [0, 1, 15, 255], "2007_000002": [0, 8], "2007_000003": [0, 255]}
    for seed, (stem, values) in enumerate(stems.items()):
        pair(home / f"JPEGImages/{stem}.jpg", home / f"SegmentationClass/{stem}.png", values, size=(32, 40), palette=True, seed=seed)
    (home / "ImageSets/Segmentation").mkdir(parents=True)
    (home / "ImageSets/Segmentation/train.txt").write_text("\n".join(stems) + "\n")
    return tmp_path / "data"


def _job(voc, **more):
    return Job("mini", "voc21", str(voc), split="train", protocol="cliper", settings=QUICK, threads=1, **more)


@pytest.mark.filterwarnings("ignore:.*was not trained on")
def test_the_command_on_the_layout_of_voc(voc, run, tmp_path):
    quick = [part for knob, value in QUICK.items() for part in ("--set", f"{knob}={value}")]
    command = ("bench", "wsss", "-r", "mini", "-d", "voc21", "--root", voc, "-o", "out", *quick)
    result = run(*command, "--json")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["folder"] == "out/voc21-train-mini"
    assert (said["pictures"], said["without_labels"], said["missing"]) == (3, 1, 0)
    assert said["protocol"] == "cliper"
    folder = tmp_path / said["folder"]
    assert sorted(path.name for path in (folder / "masks").iterdir()) == ["2007_000001.png", "2007_000002.png"]
    first, second, none = _lines(folder)
    assert (first["labels"], second["labels"], none["labels"]) == ([1, 15], [8], [])
    assert "confusion" not in none
    assert sum(pixels for *_, pixels in first["confusion"]) == 32 * 40 * 3 // 4  # 255 does not count
    values = np.unique(np.asarray(Image.open(folder / "masks" / "2007_000001.png")))
    assert set(values.tolist()) <= {0, 1, 15}
    assert {t for t, *_ in first["confusion"]} == {0, 1, 15}
    assert said["unsure"] == 0
    assert said["miou"] == said["miou_all"]
    shown = run(*command)
    assert f"{said['miou']:.2f}" in shown.stdout


@pytest.mark.filterwarnings("ignore:.*was not trained on")
def test_labels_from_a_file_and_no_masks_at_all(voc, tmp_path):
    for mask in (voc / "VOCdevkit/VOC2012/SegmentationClass").iterdir():
        mask.unlink()
    (tmp_path / "labels.txt").write_text("2007_000001 person; Aeroplane\n2007_000002.jpg tv monitor\n\n2007_000003\n")
    made = wsss.run(PseudoMasks(_job(voc), labels=str(tmp_path / "labels.txt"), score=False), tmp_path / "out")
    assert [line["labels"] for line in _lines(made.folder)] == [[1, 15], [20], []]
    assert "miou" not in made.metrics
    assert len(list((made.folder / "masks").iterdir())) == 2


def test_files_of_labels(voc, tmp_path):
    data = datasets.open("voc21", voc, split="train")
    path = tmp_path / "labels.txt"
    path.write_text("2007_000001 14 0\n2007_000002 19\n2007_000003\n")
    assert image_labels.read(path, data, data.items) == {"2007_000001": (1, 15), "2007_000002": (20,), "2007_000003": ()}
    without = datasets.open("voc20", voc, split="train")
    assert image_labels.read(path, without, without.items[:1]) == {"2007_000001": (0, 14)}
    for text, words in (
        ("2007_000001 unicorn\n", "'unicorn' in line 1"),
        ("2007_000001 background\n", "'background'"),
        ("2007_000001 20\n", "0 to 19"),
        ("2007_000001 0\n2007_000001 1\n", "twice"),
        ("2007_000001 0\n", "no line for '2007_000002'"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=words):
            image_labels.read(path, data, data.items)
    with pytest.raises(DataError, match="cannot be read"):
        image_labels.read(tmp_path / "none.txt", data, data.items)


@pytest.mark.filterwarnings("ignore:.*was not trained on")
def test_the_layout_of_coco_train(pair, tmp_path):
    home = tmp_path / "coco2014"
    for number, values in ((9, [0, 1, 80, 255]), (25, [0, 3])):
        stem = f"COCO_train2014_{number:012d}"
        pair(home / f"train2014/{stem}.jpg", home / f"coco_seg_anno/{number:012d}.png", values, size=(32, 40), seed=number)
    job = Job("mini", "coco_object", str(tmp_path), split="train", protocol="cliper", settings=QUICK, threads=1)
    made = wsss.run(PseudoMasks(job), wsss.folder_of(PseudoMasks(job), tmp_path / "out"))
    assert made.folder.name == "coco_object-train-mini"
    assert [line["labels"] for line in _lines(made.folder)] == [[1, 80], [3]]
    assert sorted(path.stem for path in (made.folder / "masks").iterdir()) == [f"COCO_train2014_{number:012d}" for number in (9, 25)]
    assert made.metrics["miou"] is not None


# The tagger.


@pytest.fixture(scope="module")
def tagger():
    data = datasets.open("embedded", split="train")
    return Tagger.load(image_labels.tagging("mini"), data, threshold=None, device="cpu", dtype=None, offline=True)


def test_the_tagger_says_what_tagclip_says(tagger):
    data = datasets.open("embedded", split="train")
    image = data.image(data.items[0])
    networks = {"clip": tagger.clip}
    features = tagclip.encode(tagclip.look(image, networks, tagger.options), networks, tagger.options)
    told = {name for name, _ in tagclip.tags(features, tagger.words, networks, tagger.options)}
    assert {data.names.names[index] for index in tagger(image)} == told
    scores = tagclip.class_scores(features, tagger.words, networks, tagger.options).tolist()
    for edge in (0.05, 0.5, 1.0):
        wanted = {c for c, score in enumerate(scores) if score > edge} | {scores.index(max(scores))}
        assert set(Tagger(tagger.clip, tagger.options, tagger.words, tagger.ids, edge)(image)) == wanted


def test_a_run_with_tags(tmp_path):
    job = Job("mini", "embedded", split="train", limit=1, settings=QUICK, threads=1)
    made = wsss.run(PseudoMasks(job, labels="tagger", tag_threshold=0.2), tmp_path / "out")
    (line,) = _lines(made.folder)
    told, true = set(line["labels"]), set(line["true"])
    assert made.metrics["label_precision"] == pytest.approx(100 * len(told & true) / len(told), abs=1e-9)
    assert made.metrics["label_recall"] == pytest.approx(100 * len(told & true) / len(true), abs=1e-9)
    with pytest.raises(RunError, match="threshold"):
        wsss.run(PseudoMasks(job, labels="tagger", tag_threshold=0.3), tmp_path / "out")


def test_a_tagger_needs_a_clip():
    with pytest.raises(OptionError, match="without a CLIP"):
        image_labels.tagging("nerve-iseg")
    assert PseudoMasks(Job("nerve-iseg", "embedded"), labels="tagger").tagging().labels.name == "tagclip"


# Words.


def test_isegs_own_background_words_are_taken_where_the_list_has_none(voc):
    data = datasets.open("voc21", voc, split="train")
    chosen = recipes.load("nerve-iseg")
    asked = wsss.ask(data, (1, 15), chosen)
    assert asked.vocabulary.names == ("aeroplane", "person")
    assert asked.background.strings == ("ground", "land", "grass", "tree", "building", "wall", "sky", "lake", "water")
    assert asked.ids.tolist() == [1, 15, 0]
    assert wsss.ask(data, (1,), recipes.load("mini")).background.strings == ("background",)
    listed = datasets.open("voc21", voc, split="train", class_names="lposs")
    assert wsss.ask(listed, (1,), chosen).background.strings[:3] == ("sky", "wall", "tree")


@pytest.mark.filterwarnings("ignore:.*was not trained on")
def test_the_papers_recipe_runs_on_the_embedded_pair(voc, tmp_path):
    small = {"weights.diffusion": "embedded:diffusion", "labels.size": 128, "graph.size": 128, "labels.layers": [], "labels.heads": []}
    job = Job("nerve-iseg", "voc21", str(voc), split="train", protocol="cliper", limit=1, settings=small, threads=1)
    made = wsss.run(PseudoMasks(job, soft=True), tmp_path / "out")
    assert (made.summary.done, made.metrics["pictures"]) == (1, 1)
    soft = load_file(made.folder / "scores" / "2007_000001.safetensors")
    assert soft["ids"].tolist() == [1, 15, 0]
    assert tuple(soft["scores"].shape) == (3, 32, 40)


# The page, and the student.


def test_what_the_page_shows_runs(run):
    text = (Path(__file__).parents[2] / "docs" / "pseudo-masks.md").read_text("utf-8")
    (command,) = re.findall(r"^```bash\nnerveseg (.+)\n```", text, re.MULTILINE)
    result = run(*command.replace("--limit 20", "--limit 1").split(), *(f"--set={knob}={value}" for knob, value in QUICK.items()))
    assert result.exit_code == 0, result.stderr


@pytest.fixture(scope="module")
def student():
    path = Path(__file__).parents[2] / "examples" / "student.py"
    spec = importlib.util.spec_from_file_location("student", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_students_classes_are_stuffs_and_kinds_of_things(student):
    named = ["dog", "ladybug", "apple", "sunflower", "car", "ship", "chair", "candle", "grass", "road"]
    ids = np.array([[*(NAMES.index(name) for name in named), 255]])
    wanted = ["animal", "animal", "food", "food", "vehicle", "vehicle", "object", "object", "grass", "road"]
    found = student.grouped(ids.astype(np.uint8))[0].tolist()
    assert [student.CLASSES[index] for index in found[:-1]] == wanted
    assert found[-1] == 255


def test_a_student_learns_what_its_masks_say(student):
    """Left half one class, right half another, told by colour; 255 is no target."""
    image = np.zeros((72, 72, 3), np.uint8)
    image[:, 36:] = 200
    mask = np.where(np.arange(72)[None] < 36, 3, 7).repeat(72, 0).astype(np.uint8)
    mask[:8] = 255
    learnt = student.train([(image, mask)], steps=30, seed=0)
    with torch.inference_mode():
        guess = learnt(student.scaled(image[None]))[0].argmax(0).numpy()
    assert (guess[8:] == mask[8:]).mean() > 0.9
    again = student.train([(image, mask)], steps=2, seed=0)
    other = student.train([(image, mask)], steps=2, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), other.state_dict().values(), strict=True))


def test_masks_are_scored_where_they_say_something(student):
    truth = np.array([[0, 0, 5, 5]], np.uint8)
    told = np.array([[0, 255, 5, 0]], np.uint8)
    image = np.zeros((1, 4, 3), np.uint8)
    found = student.agreement([(image, told)], [(image, truth)])
    assert found.true.toarray().sum() == 3
    assert found.both.toarray()[0, [0, 5]].tolist() == [1, 1]


# Bad input.


def test_bad_settings_and_folders(tmp_path, run):
    with pytest.raises(OptionError, match="abstain"):
        PseudoMasks(JOB, abstain=1.5)
    with pytest.raises(RunError):
        wsss.finish(tmp_path)
    result = run("bench", "wsss", "-r", "mini", "-d", "embedded", "--labels", "nowhere.txt", "-o", "out")
    assert result.exit_code == 1
    assert "nowhere.txt" in result.stderr
    assert not (tmp_path / "out").exists()
    assert run("bench", "wsss", "-r", "mini", "-d", "nothing").exit_code == 2


def test_masks_of_one_name_are_refused(tmp_path):
    data = datasets.open("embedded")
    items = tuple(Item(name, tmp_path / name / "a.jpg", tmp_path / name / "a.png") for name in ("x", "y"))
    with pytest.raises(DataError, match="one name"):
        wsss._check(data, items)
