"""What verify finds: counts by hand, every kind of wrong file, EXIF, and the published number."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nerveseg import datasets
from nerveseg.datasets import IGNORE
from nerveseg.datasets._verify import verify


@pytest.fixture
def root(tmp_path):
    """Forty pairs of random masks of 3 classes."""
    (tmp_path / "names.txt").write_text("cat\ndog\nowl\n")
    for what in ("images", "masks"):
        (tmp_path / what).mkdir()
    random = np.random.default_rng(0)
    for number in range(40):
        values = random.choice(
            np.array([0, 1, 2, 255], np.uint8), (16, 24), p=[0.5, 0.3 if number % 2 else 0, 0.1, 0.1 if number % 2 else 0.4]
        )
        Image.fromarray(values).save(tmp_path / "masks" / f"{number:02d}.png")
        Image.fromarray(random.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{number:02d}.jpg")
    return tmp_path


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("quick", [False, True])
def test_counts_are_those_of_a_plain_loop(root, workers, quick):
    data = datasets.open("folder", root)
    said = []
    report = verify(data, workers=workers, quick=quick, said=lambda *step: said.append(step))
    pixels, items, ignored = [0, 0, 0], [0, 0, 0], 0
    for item in data.items:
        mask = data.mask(item)
        for index in range(3):
            pixels[index] += sum(value == index for value in mask.ravel().tolist())
            items[index] += any(value == index for value in mask.ravel().tolist())
        ignored += sum(value == IGNORE for value in mask.ravel().tolist())
    assert (report.pixels.tolist(), report.items.tolist(), report.ignored) == (pixels, items, ignored)
    assert report.good
    assert (report.files, report.published, report.absent, report.turned) == (40, None, (), ())
    assert said == [("reading folder", done, 40) for done in range(1, 41)]


def test_every_wrong_file_is_named_in_the_order_of_the_list(root):
    masks, images = root / "masks", root / "images"
    (masks / "03.png").unlink()
    Image.new("L", (5, 5)).save(masks / "07.png")
    Image.new("RGB", (24, 16)).save(masks / "11.png")
    (images / "19.jpg").write_bytes((images / "19.jpg").read_bytes()[:-200])
    Image.fromarray(np.full((16, 24), 9, np.uint8)).save(masks / "30.png")
    (masks / "31.png").write_bytes(b"no image")
    report = verify(datasets.open("folder", root), workers=3)
    found = {problem.item: problem.message for problem in report.problems}
    assert list(found) == ["03", "07", "11", "19", "30", "31"]
    for item, said in (
        ("03", "Got no mask"),
        ("07", "its mask"),
        ("11", "colour mode RGB"),
        ("19", "damaged or cut short"),
        ("30", "the value 9"),
        ("31", "cannot be read"),
    ):
        assert said in found[item]
        assert f"{item}." in found[item]
    assert "19" not in [problem.item for problem in verify(datasets.open("folder", root), quick=True).problems]
    assert "07" in [problem.item for problem in verify(datasets.open("folder", root), quick=True).problems]


def test_images_with_an_exif_orientation_are_reported(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (24, 16)).save(root / "images/05.jpg", exif=exif)  # stored 16 × 24, as its mask
    Image.new("RGB", (16, 24)).save(root / "images/06.jpg", exif=exif)  # shown 16 × 24, as its mask
    for quick in (False, True):
        report = verify(datasets.open("folder", root), quick=quick)
        assert report.good
        assert report.turned == (("05", True), ("06", False))


def test_classes_without_a_pixel_are_told(root):
    for path in (root / "masks").iterdir():
        values = np.asarray(Image.open(path)).copy()
        values[values == 1] = 0
        Image.fromarray(values).save(path)
    assert verify(datasets.open("folder", root)).absent == ("dog",)


def test_scenes_are_counted_too():
    data = datasets.open("embedded")
    few = type(data)(**{**vars(data), "items": data.items[:3]})
    report = verify(few)
    assert report.good
    assert report.pixels.sum() == sum(data.mask(item).size for item in few.items)


def test_a_split_is_counted_against_what_is_published(tmp_path):
    home = tmp_path / "VOCdevkit/VOC2012"
    for place in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (home / place).mkdir(parents=True)
    (home / "ImageSets/Segmentation/val.txt").write_text("a\n")
    Image.new("RGB", (3, 2)).save(home / "JPEGImages/a.jpg")
    Image.new("P", (3, 2)).save(home / "SegmentationClass/a.png")
    data = datasets.open("voc21", tmp_path)
    (problem,) = verify(data).problems
    assert problem.item is None
    assert "Got 1 images in val of voc21. Accepted are the 1,449 that are published." in problem.message
    assert f"nerveseg datasets prepare voc21 --root {tmp_path} --split val" in problem.message
    assert verify(data, partial=True).good
