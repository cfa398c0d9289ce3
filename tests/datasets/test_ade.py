"""ADE20K-150: a miniature of the archive, every value of the masks, and masks that went through a table before."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nerveseg import datasets
from nerveseg.datasets import IGNORE, _prepare, _verify, ade20k
from nerveseg.errors import DataError


def _png(values: np.ndarray, kind: str = "PNG") -> bytes:
    out = BytesIO()
    Image.fromarray(values).save(out, format=kind)
    return out.getvalue()


def _image(height: int, width: int) -> bytes:
    return _png(np.full((height, width, 3), 128, np.uint8), "JPEG")


_ALL = np.append(np.arange(151), 0).astype(np.uint8).reshape(8, 19)  # 0 "other", 1 wall … 150 flag


@pytest.fixture
def archive(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "archives"
    folder.mkdir()
    home = "ADEChallengeData2016"
    with zipfile.ZipFile(folder / f"{home}.zip", "w") as made:
        made.writestr(f"{home}/objectInfo150.txt", "Idx\tRatio\tTrain\tVal\tName\n")
        for place, kind, values in (("validation", "val", _ALL), ("validation", "val", _ALL[::-1]), ("training", "train", _ALL.T)):
            number = 1 + sum(kind in name for name in made.namelist() if name.endswith(".png"))
            made.writestr(f"{home}/images/{place}/ADE_{kind}_{number:08d}.jpg", _image(*values.shape))
            made.writestr(f"{home}/annotations/{place}/ADE_{kind}_{number:08d}.png", _png(np.ascontiguousarray(values)))
    # the miniature has neither the size nor the digest of the published archive
    monkeypatch.setattr(ade20k, "archives", tuple(replace(each, bytes=None, sha256=None) for each in ade20k.archives))
    return folder


def test_from_the_archive_to_ids(tmp_path, archive):
    data = _prepare.prepare("ade20k", tmp_path / "data", archives_from=archive)
    assert [item.id for item in data.items] == ["ADE_val_00000001", "ADE_val_00000002"]
    assert (data.classes, data.background) == (150, False)
    image, mask = data.read(data.items[0])
    assert image.size == mask.shape == _ALL.shape
    for row in range(_ALL.shape[0]):
        for column in range(_ALL.shape[1]):
            stored = int(_ALL[row, column])
            assert mask[row, column] == (IGNORE if stored == 0 else stored - 1)
    # the published numbers 1, 13, 100 and 150
    assert [data.names.names[index - 1] for index in (1, 13, 100, 150)] == ["wall", "person", "buffet", "flag"]
    assert [path.name for path in (tmp_path / "data/ADEChallengeData2016/images").iterdir()] == ["validation"]
    report = _verify.verify(data, partial=True)
    assert report.good
    assert report.pixels.tolist() == [2] * 150
    assert report.ignored == 2 * 2
    (short,) = _verify.verify(data).problems
    assert "Got 2 images in val of ade20k. Accepted are the 2,000" in short.message


def test_the_other_split_and_mmsegs_folder(tmp_path, archive):
    data = _prepare.prepare("ade20k", tmp_path / "data" / "ade", archives_from=archive, split="train")
    assert [item.id for item in data.items] == ["ADE_train_00000001"]
    again = datasets.open("ade20k", tmp_path / "data", split="train", protocol="cliper")  # root/ade/ADEChallengeData2016
    np.testing.assert_array_equal(again.mask(again.items[0]), data.mask(data.items[0]))


def test_masks_that_went_through_a_table_are_refused(tmp_path, archive):
    data = _prepare.prepare("ade20k", tmp_path, archives_from=archive)
    once = np.where(_ALL == 0, 255, _ALL - 1).astype(np.uint8)
    path = data.items[1].mask
    path.write_bytes(_png(once))
    with pytest.raises(DataError, match=r"ADE_val_00000002\.png with the value 255"):
        data.mask(data.items[1])


def test_what_is_missing_is_said_with_the_command(tmp_path):
    with pytest.raises(DataError, match="datasets prepare ade20k --root"):
        datasets.open("ade20k", tmp_path)
    (tmp_path / "ADEChallengeData2016/images/validation").mkdir(parents=True)
    (tmp_path / "ADEChallengeData2016/annotations/validation").mkdir(parents=True)
    with pytest.raises(DataError, match=r"without a \.jpg"):
        datasets.open("ade20k", tmp_path)
    with pytest.raises(DataError, match="Accepted are val, train"):
        datasets.open("ade20k", tmp_path, split="test")


def test_an_archive_of_another_size_is_refused(tmp_path, archive, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"967,382,037 bytes that are published"):
        _prepare.prepare("ade20k", tmp_path / "data", archives_from=archive)


def test_what_is_unpacked_whole_needs_no_archive(tmp_path, archive):
    root = tmp_path / "data"
    data = _prepare.prepare("ade20k", root, archives_from=archive)
    again = _prepare.prepare("ade20k", root)
    assert [item.id for item in again.items] == [item.id for item in data.items]
    data.items[1].mask.unlink()
    assert not ade20k.unpacked(root, "val")
    assert not ade20k.unpacked(root, "train")
