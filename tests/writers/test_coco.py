from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as theirs
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nerveseg.errors import ImageError, OutputError
from nerveseg.image import load_image
from nerveseg.segmentation import Segmentation
from nerveseg.words import Label
from nerveseg.writers import coco, panoptic, save_all

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools' arrays
NAMES = ("cat", "naïve 🐈", "x, y", "background")


def result(ids, background=None, name="street.jpg"):
    ids = torch.as_tensor(np.asarray(ids, dtype=np.int64))
    image = load_image(Image.new("RGB", (ids.shape[1], ids.shape[0])), name=name)
    return Segmentation(ids, torch.ones(4, 1, 1), tuple(Label(name, (name,)) for name in NAMES), image, background=background)


def noise(seed):
    ids = np.random.default_rng(seed).integers(0, 5, (17, 23))
    ids[ids == 4] = 255
    ids[4:12, 5:15] = 0
    ids[6:9, 7:10] = 3
    return ids


def images(background=None):
    return {f"sub/{seed}": result(noise(seed), background, f"{seed}.jpg") for seed in range(3)}


def index(path):
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        return COCO(str(path))


@pytest.mark.parametrize("each", ["part", "label"])
@pytest.mark.parametrize("background", [None, 3])
def test_pycocotools_reads_the_same_pixels_areas_and_boxes(tmp_path, each, background):
    made = images(background)
    save_all(made.items(), tmp_path, "coco", each=each)
    found = index(tmp_path / "instances.json")
    assert [category["name"] for category in found.loadCats(found.getCatIds())] == list(NAMES[: 3 if background else 4])
    assert sorted(found.anns) == list(range(1, len(found.anns) + 1))
    for (stem, one), (number, image) in zip(made.items(), sorted(found.imgs.items()), strict=True):
        assert image == {"id": number, "file_name": f"{stem}.jpg", "width": 23, "height": 17}
        ids = np.full((17, 23), -1)
        for entry in found.loadAnns(found.getAnnIds(imgIds=[number], iscrowd=False)):
            mask = found.annToMask(entry).astype(bool)
            assert entry["area"] == mask.sum()
            assert entry["bbox"] == theirs.toBbox(entry["segmentation"]).tolist()
            assert (ids[mask] == -1).all()
            ids[mask] = entry["category_id"] - 1
        wanted = one.segmentation.numpy()
        wanted = np.where((wanted == 255) | (wanted == background), -1, wanted)
        np.testing.assert_array_equal(ids, wanted)


def test_their_score_of_a_file_against_itself_is_full(tmp_path):
    save_all(images().items(), tmp_path, "coco", each="label")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = index(tmp_path / "instances.json")
        score = COCOeval(truth, truth.loadRes([{**entry, "score": 1.0} for entry in truth.anns.values()]), "segm")
        score.evaluate()
        score.accumulate()
        score.summarize()
    assert score.stats[0] == 1.0


def test_the_background_on_request(tmp_path):
    made = result(noise(0), background=3)
    save_all([made], tmp_path, "coco", background=True)
    told = json.loads((tmp_path / "instances.json").read_text())
    assert [category["name"] for category in told["categories"]] == list(NAMES)
    ((_, found),) = coco.read(tmp_path)
    np.testing.assert_array_equal(found.ids, made.segmentation.numpy())


def test_ignored_pixels_are_told_from_the_background(tmp_path):
    made = result([[3, 255], [0, 3]], background=3)
    save_all([made], tmp_path, "coco")
    assert len(json.loads((tmp_path / "instances.json").read_text())["annotations"]) == 1
    ((stem, found),) = coco.read(tmp_path)
    assert (stem, found.ids.tolist()) == ("street", [[3, 255], [0, 3]])


def test_the_file_is_plain_ascii_with_an_entry_a_line(tmp_path):
    save_all(images().items(), tmp_path, "coco")
    text = (tmp_path / "instances.json").read_bytes()
    assert text.isascii()
    assert sum(line.startswith(b'{"area"') for line in text.splitlines()) == len(json.loads(text)["annotations"])


@pytest.mark.parametrize("name", ["instances.json", "run.json"])
@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"images": [], "annotations": [{"image_id": 5}]}'])
def test_reading_what_was_not_written_is_refused(tmp_path, name, content):
    save_all([result(noise(0))], tmp_path, "coco")
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_text(content)
    with pytest.raises(ImageError):
        list(coco.read(tmp_path))


def test_reading_another_format_is_refused(tmp_path):
    save_all([result(noise(0))], tmp_path, "panoptic")
    with pytest.raises(ImageError, match="panoptic"):
        list(coco.read(tmp_path))


def panoptic_ids(folder, entry):
    colours = np.asarray(Image.open(folder / "panoptic" / entry["file_name"]).convert("RGB")).astype(int)
    return colours[..., 0] + 256 * colours[..., 1] + 256 * 256 * colours[..., 2]


@pytest.mark.parametrize("things", ["", "cat", "*"])
@pytest.mark.parametrize("background", [None, 3])
def test_panoptic_segments_are_the_pixels_of_their_numbers(tmp_path, things, background):
    made = images(background)
    save_all(made.items(), tmp_path, "panoptic", things=things)
    told = json.loads((tmp_path / "panoptic.json").read_text())
    wanted = {"": [], "cat": [0], "*": [0, 1, 2] + [3] * (background is None)}[things]
    assert [category["id"] - 1 for category in told["categories"] if category["isthing"]] == wanted
    for entry, image, (stem, one) in zip(told["annotations"], told["images"], made.items(), strict=True):
        numbers = panoptic_ids(tmp_path, entry)
        assert (entry["image_id"], entry["file_name"], image["file_name"]) == (image["id"], f"{stem}.png", f"{stem}.jpg")
        assert set(np.unique(numbers)) - {0} == {segment["id"] for segment in entry["segments_info"]}
        ids = np.full(numbers.shape, 255)
        for segment in entry["segments_info"]:
            mask = numbers == segment["id"]
            rows, columns = np.nonzero(mask)
            assert (segment["area"], segment["iscrowd"]) == (mask.sum(), 0)
            assert segment["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            ids[mask] = segment["category_id"] - 1
        np.testing.assert_array_equal(ids, one.segmentation.numpy())
        labels = [segment["category_id"] - 1 for segment in entry["segments_info"]]
        assert all(labels.count(label) == 1 for label in set(labels) - set(wanted))


@pytest.mark.parametrize("things", ["", "*"])
def test_panoptic_comes_back_whatever_is_a_thing(tmp_path, things):
    made = images()
    save_all(made.items(), tmp_path, "panoptic", things=things)
    for stem, found in panoptic.read(tmp_path):
        np.testing.assert_array_equal(found.ids, made[stem].segmentation.numpy())


def test_more_than_255_segments_use_the_second_colour(tmp_path):
    ids = np.zeros((40, 40), dtype=int)
    ids[::2, ::2] = 1
    made = result(ids)
    save_all([made], tmp_path, "panoptic", things="*")
    (entry,) = json.loads((tmp_path / "panoptic.json").read_text())["annotations"]
    assert panoptic_ids(tmp_path, entry).max() == 401 == len(entry["segments_info"])
    ((_, found),) = panoptic.read(tmp_path)
    np.testing.assert_array_equal(found.ids, ids)


def test_a_thing_that_is_no_label_is_refused(tmp_path):
    with pytest.raises(OutputError, match="horse"):
        save_all([result(noise(0))], tmp_path, "panoptic", things="cat, horse")


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_reading_a_broken_panoptic_file_is_refused(tmp_path, content):
    save_all([result(noise(0))], tmp_path, "panoptic")
    path = tmp_path / "panoptic.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ImageError):
        list(panoptic.read(tmp_path))
