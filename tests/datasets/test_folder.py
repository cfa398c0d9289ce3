"""Any images and masks: stems, splits, backgrounds, masks of 8 and of 16 bits."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nerveseg import datasets
from nerveseg.datasets import IGNORE
from nerveseg.datasets._prepare import prepare
from nerveseg.datasets._verify import verify
from nerveseg.errors import DataError, OptionError


@pytest.fixture
def root(tmp_path):
    """Three classes, two images, in the folder itself and in a split."""
    (tmp_path / "names.txt").write_text("background; wall\ncat; kitten\ndog\n")
    for part in ("", "val"):
        for what in ("images", "masks"):
            (tmp_path / what / part).mkdir(parents=True, exist_ok=True)
        for stem in "ba":
            add(tmp_path, stem, part=part)
    return tmp_path


def add(root, stem, values=None, *, part="", ending="jpg"):
    values = np.array([[0, 1, 2], [255, 1, 0]], np.uint8) if values is None else values
    Image.fromarray(np.zeros((*values.shape, 3), np.uint8)).save(root / "images" / part / f"{stem}.{ending}")
    Image.fromarray(values).save(root / "masks" / part / f"{stem}.png")


def test_it_is_read_as_it_lies(root):
    data = datasets.open("folder", root)
    assert [item.id for item in data.items] == ["a", "b"]
    assert (data.split, data.background, data.names.names) == ("all", True, ("background", "cat", "dog"))
    assert data.names.labels[0].strings == ("background", "wall")
    assert data.read(data.items[0])[1].tolist() == [[0, 1, 2], [IGNORE, 1, 0]]
    report = verify(data)
    assert report.good
    assert report.pixels.tolist() == [4, 4, 2]
    assert report.ignored == 2


def test_a_split_is_a_folder_of_both(root):
    data = datasets.open("folder", root, split="val")
    assert (data.split, len(data)) == ("val", 2)
    assert data.items[0].image == root / "images/val/a.jpg"
    assert data.about["masks"] == "masks/val"
    with pytest.raises(DataError, match=r"Got no folder .*images/test"):
        datasets.open("folder", root, split="test")


def test_folders_are_splits_where_there_are_no_files(root):
    for what in ("images", "masks"):
        for path in (root / what).iterdir():
            if path.is_file():
                path.unlink()
    assert datasets.open("folder", root).split == "val"  # the only one
    assert datasets.splits_of("folder", root) == ("val",)
    for what in ("images", "masks"):
        (root / what / "test").mkdir()
    add(root, "a", part="test")
    assert datasets.open("folder", root).split == "val"  # of several the one that is scored
    assert [item.id for item in datasets.open("folder", root, split="all").items] == ["test/a", "val/a", "val/b"]
    for what in ("images", "masks"):
        (root / what / "val").rename(root / what / "day")
        (root / what / "test").rename(root / what / "night")
    with pytest.raises(DataError, match=r"folders day, night and no split.*Name it with --split day"):
        datasets.open("folder", root)


def test_class_0_is_a_class_where_the_names_say_so(root):
    (root / "other.txt").write_text("tree\ncat\ndog\n")
    data = datasets.open("folder", root, class_names=root / "other.txt")
    assert (data.background, data.names.origin) == (False, str(root / "other.txt"))


def test_masks_of_16_bits(tmp_path):
    for what in ("images", "masks"):
        (tmp_path / what).mkdir()
    (tmp_path / "names.txt").write_text("\n".join(f"class {number}" for number in range(300)))
    add(tmp_path, "a", np.array([[0, 255, 299, 65535]], np.uint16))
    data = datasets.open("folder", tmp_path)
    assert data.read(data.items[0])[1].tolist() == [[0, 255, 299, IGNORE]]
    add(tmp_path, "a", np.array([[300]], np.uint16))
    with pytest.raises(DataError, match=r"masks/a\.png with the value 300"):
        data.read(data.items[0])
    add(tmp_path, "a", np.array([[3]], np.uint8))
    with pytest.raises(DataError, match=r"Got 300 names and masks of 8 bits .* Write the masks with 16 bits"):
        datasets.open("folder", tmp_path)


def test_an_image_or_mask_alone_is_named_when_it_is_read(root):
    (root / "masks" / "a.png").unlink()
    (root / "images" / "b.jpg").unlink()
    report = verify(datasets.open("folder", root))
    assert [problem.item for problem in report.problems] == ["a", "b"]
    assert "Got no mask" in report.problems[0].message
    assert "Got no image" in report.problems[1].message


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: (root / "names.txt").unlink(), r"Got no names .*names\.txt"),
        (lambda root: (root / "names.txt").write_text("# nothing\n"), r"Got no name in .*names\.txt"),
        (lambda root: add(root, "a", ending="png"), r"images/a\.jpg and .*images/a\.png, which have one stem"),
        (lambda root: Image.new("L", (3, 2)).save(root / "masks/c.jpg"), r"masks/c\.jpg, a format that changes values or numbers"),
        (lambda root: (root / "masks").rename(root / "labels"), r"Got no folder .*masks"),
    ],
)
def test_bad_folders_are_refused(root, spoil, said):
    spoil(root)
    with pytest.raises(DataError, match=said):
        datasets.open("folder", root)


def test_there_is_nothing_to_prepare(root):
    with pytest.raises(OptionError, match="of which nothing is downloaded"):
        prepare("folder", root)
    with pytest.raises(DataError, match="Got no folder"):
        datasets.open("folder")
