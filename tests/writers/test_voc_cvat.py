from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from nerveseg.errors import ImageError, OutputError
from nerveseg.image import load_image
from nerveseg.masks.palette import voc_palette
from nerveseg.segmentation import Segmentation
from nerveseg.words import Label
from nerveseg.writers import cvat, save_all, voc

NAMES = ("cat", "naïve 🐈", "x, y")
IDS = [[0, 1, 2, 2], [0, 255, 1, 2]]


def result(ids=IDS, names=NAMES, background=None, name="street.jpg"):
    ids = torch.as_tensor(np.asarray(ids, dtype=np.int64))
    colours = np.random.default_rng(0).integers(0, 256, (*ids.shape, 3), dtype=np.uint8)
    labels = tuple(Label(name, (name,)) for name in names)
    return Segmentation(ids, torch.ones(len(names), 1, 1), labels, load_image(Image.fromarray(colours), name=name), background=background)


@pytest.mark.parametrize(
    ("names", "background", "values", "zero"),
    [
        (NAMES, None, [[1, 2, 3, 3], [1, 255, 2, 3]], "background"),
        (("cat", "dog", "rest"), 2, [[1, 2, 0, 0], [1, 255, 2, 0]], "rest"),
        (("background", "cat", "dog"), None, [[0, 2, 3, 3], [0, 255, 2, 3]], "background"),
    ],
)
def test_voc_is_mode_P_with_ids_larger_by_one_and_the_background_0(tmp_path, names, background, values, zero):
    made = result(names=names, background=background)
    save_all([("a/b", made)], tmp_path, "voc", split="val")
    with Image.open(tmp_path / "SegmentationClass" / "a" / "b.png") as image:
        assert image.mode == "P"
        assert np.asarray(image).tolist() == values
        assert image.getpalette() == voc_palette().ravel().tolist()
    assert (tmp_path / "ImageSets/Segmentation/val.txt").read_text() == "a/b\n"
    lines = (tmp_path / "labelmap.txt").read_text("utf-8").splitlines()
    colours = voc_palette()
    ignored = "ignored:224,224,192::"
    rest = [
        f"{name}:{','.join(map(str, colours[index + 1].tolist()))}::"
        for index, name in enumerate(names)
        if name not in (zero, "background")
    ]
    assert lines == ["# label:color_rgb:parts:actions", f"{zero}:0,0,0::", *rest, ignored]
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["id_shift"] == 1
    ((_, found),) = voc.read(tmp_path)
    assert found.ids.tolist() == IDS
    assert found.labels == names


def test_voc_names_ignored_pixels_only_where_there_are_some(tmp_path):
    save_all([result([[0, 1]])], tmp_path, "voc")
    assert "ignored" not in (tmp_path / "labelmap.txt").read_text()


def test_voc_images_on_request(tmp_path):
    made = result()
    files = save_all([made], tmp_path, "voc", images=True)
    assert tmp_path / "JPEGImages" / "street.jpg" in files
    with Image.open(tmp_path / "JPEGImages" / "street.jpg") as pil_image:
        assert (pil_image.format, pil_image.size, pil_image.mode) == ("JPEG", (4, 2), "RGB")
        assert np.abs(np.asarray(pil_image).astype(int) - made.image.pixels).mean() < 60  # noise
    assert not list((tmp_path / "JPEGImages").glob(".*"))


@pytest.mark.parametrize("writer", ["voc", "cvat"])
def test_254_labels_beside_the_background_are_the_most(tmp_path, writer):
    names = tuple(f"thing {number}" for number in range(255))
    ids = np.arange(256).reshape(16, 16) % 255
    made = result(ids, names, background=254)
    save_all([made], tmp_path / "a", writer)
    ((_, found),) = {"voc": voc, "cvat": cvat}[writer].read(tmp_path / "a")
    np.testing.assert_array_equal(found.ids, ids)
    with pytest.raises(OutputError, match="255 labels"):
        save_all([result(ids, names)], tmp_path / "b", writer)


@pytest.mark.parametrize("writer", ["voc", "cvat"])
@pytest.mark.parametrize("stem", ["#1", "a\nb", " a", "a\udcff"])
def test_a_stem_that_a_list_cannot_hold_is_refused(tmp_path, writer, stem):
    with pytest.raises(OutputError, match="Rename"):
        save_all([(stem, result())], tmp_path, writer)


@pytest.mark.parametrize("damage", ["gone", "text", "grey"])
def test_reading_a_broken_mask_is_refused(tmp_path, damage):
    save_all([result()], tmp_path, "voc")
    path = tmp_path / "SegmentationClass" / "street.png"
    if damage == "grey":
        Image.new("L", (4, 2)).save(path)
    else:
        path.unlink() if damage == "gone" else path.write_text("text")
    with pytest.raises(ImageError):
        list(voc.read(tmp_path))


def colours_of(folder, kind, stem="street"):
    with zipfile.ZipFile(folder / "cvat.zip") as archive, archive.open(f"{kind}/{stem}.png") as file:
        image = Image.open(file)
        assert image.mode == "RGB"
        return np.asarray(image).tolist()


def test_cvat_has_its_members_in_order_and_no_time(tmp_path):
    save_all([("a/1", result()), ("a/ü", result())], tmp_path, "cvat")
    with zipfile.ZipFile(tmp_path / "cvat.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            *("SegmentationClass/a/1.png", "SegmentationObject/a/1.png", "SegmentationClass/a/ü.png", "SegmentationObject/a/ü.png"),
            *("ImageSets/Segmentation/default.txt", "labelmap.txt"),
        ]
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.read("ImageSets/Segmentation/default.txt").decode() == "a/1\na/ü\n"
        assert archive.read("labelmap.txt").decode().splitlines() == [
            "# label:color_rgb:parts:actions",
            *("background:0,0,0::", "cat:128,0,0::", "naïve 🐈:0,128,0::", "x, y:128,128,0::"),
        ]
    assert [(label["name"], label["color"]) for label in json.loads((tmp_path / "labels.json").read_text("utf-8"))] == [
        *(("cat", "#800000"), ("naïve 🐈", "#008000"), ("x, y", "#808000")),
    ]


def test_cvat_masks_are_in_the_colours_of_labels_and_objects(tmp_path):
    ids = [[0, 1, 0, 2], [0, 2, 255, 2]]
    red, green, brown, blue, black = [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [0, 0, 0]
    save_all([result(ids)], tmp_path, "cvat")
    classes = [[red, green, red, brown], [red, brown, black, brown]]
    assert colours_of(tmp_path, "SegmentationClass") == classes
    assert colours_of(tmp_path, "SegmentationObject") == classes  # one a label: numbers as values
    save_all([result(ids)], tmp_path, "cvat", each="part")
    assert colours_of(tmp_path, "SegmentationClass") == classes
    violet = [128, 0, 128]  # the fifth
    assert colours_of(tmp_path, "SegmentationObject") == [[red, brown, green, blue], [red, violet, black, blue]]


def test_cvat_leaves_the_background_black_and_knows_ignored_pixels(tmp_path):
    made = result([[2, 255], [0, 1]], ("cat", "dog", "background"), background=2)
    save_all([made], tmp_path, "cvat")
    assert colours_of(tmp_path, "SegmentationClass")[0] == [[0, 0, 0], [0, 0, 0]]
    ((_, found),) = cvat.read(tmp_path)
    assert found.ids.tolist() == [[2, 255], [0, 1]]


def test_of_more_than_255_parts_the_smallest_are_one_object_a_label(tmp_path):
    ids = np.zeros((60, 60), dtype=int)
    ids[::2, ::2] = 1  # 900 parts of a pixel
    ids[20:30, 20:30] = 2
    save_all([result(ids)], tmp_path, "cvat", each="part")
    colours = np.array(colours_of(tmp_path, "SegmentationObject")).reshape(-1, 3)
    known = [tuple(colour) for colour in voc_palette().tolist()]
    numbers = np.array([known.index(tuple(colour)) for colour in colours.tolist()])
    counts = np.bincount(numbers)
    assert numbers.min() == 1
    assert numbers.max() <= 255
    for number in np.unique(numbers):
        assert len(set(ids.ravel()[numbers == number])) == 1
    assert sorted(counts)[-1] == (ids == 0).sum()
    assert sum(counts == 1) == 250
    ((_, found),) = cvat.read(tmp_path)
    np.testing.assert_array_equal(found.ids, ids)


def test_a_mask_that_is_gone_cannot_be_zipped(tmp_path):
    part = cvat.part(result(), tmp_path, "a", cvat.Options())
    (tmp_path / "SegmentationClass" / "a.png").unlink()
    with pytest.raises(OutputError):
        cvat.finish([part], tmp_path, cvat.Options())
    assert not list(tmp_path.glob("*.zip"))


def test_reading_a_broken_zip_is_refused(tmp_path):
    save_all([result()], tmp_path, "cvat")
    (tmp_path / "cvat.zip").write_bytes(b"PK")
    with pytest.raises(ImageError):
        list(cvat.read(tmp_path))
