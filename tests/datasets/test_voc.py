"""VOC21 and VOC20: miniatures of the published archive and of the masks by others, from prepare to a perfect score."""

from __future__ import annotations

import io
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from nerveseg import datasets
from nerveseg.datasets import IGNORE, _voc, voc20, voc21
from nerveseg.datasets._prepare import prepare
from nerveseg.datasets._verify import verify
from nerveseg.errors import DataError

_VAL, _TRAIN, _MORE = ("2007_000033", "2007_000042"), ("2007_000032",), ("2008_000002",)
_HOME = "VOCdevkit/VOC2012"


def colours():
    """The published palette: bits 0, 3, 6 of the id are the high bits of red, 1, 4, 7 those of green, 2, 5 of blue."""
    out = np.zeros((256, 3), np.uint8)
    for index in range(256):
        for bit in range(8):
            out[index, bit % 3] |= ((index >> bit) & 1) << (7 - bit // 3)
    return out


def mask_of(seed, size):
    """Ids 0 … 20 with a rim of 255, every class in it."""
    values = np.random.default_rng(seed).permutation(np.arange(size[0] * size[1]) % 21).reshape(size).astype(np.uint8)
    values[0] = 255
    return values


def png(values, palette=None):
    out, image = io.BytesIO(), Image.fromarray(values)
    if palette is not None:
        image = Image.frombytes("P", image.size, values.tobytes())
        image.putpalette(palette.ravel().tolist())
    image.save(out, "PNG")
    return out.getvalue()


def jpg(size, seed):
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(out, "JPEG")
    return out.getvalue()


SIZE = (12, 14)


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """A folder with both archives, as they are published, of four images."""
    folder = tmp_path / "from"
    folder.mkdir()
    content = {
        "Annotations/2007_000032.xml": b"<annotation/>",
        "ImageSets/Segmentation/val.txt": "\n".join(_VAL).encode() + b"\n",
        "ImageSets/Segmentation/train.txt": "\n".join(_TRAIN).encode() + b"\n",
        "ImageSets/Main/cat_val.txt": b"",
    }
    for seed, name in enumerate((*_VAL, *_TRAIN, *_MORE)):
        content[f"JPEGImages/{name}.jpg"] = jpg(SIZE, seed)
        if name not in _MORE:
            content[f"SegmentationClass/{name}.png"] = png(mask_of(seed, SIZE), colours())
            content[f"SegmentationObject/{name}.png"] = png(mask_of(seed + 9, SIZE), colours())
    with tarfile.open(folder / "VOCtrainval_11-May-2012.tar", "w") as tape:
        tape.addfile(directory("VOCdevkit/"))
        for name, raw in content.items():
            info = tarfile.TarInfo(f"{_HOME}/{name}")
            info.size = len(raw)
            tape.addfile(info, io.BytesIO(raw))
    with zipfile.ZipFile(folder / "SegmentationClassAug.zip", "w") as zipped:
        zipped.writestr("SegmentationClassAug/", b"")
        zipped.writestr("__MACOSX/SegmentationClassAug/._2007_000032.png", b"junk")
        for seed, name in enumerate((*_VAL, *_TRAIN, *_MORE)):
            zipped.writestr(f"SegmentationClassAug/{name}.png", png(mask_of(seed, SIZE)))  # grey
    loose = tuple(replace(archive, bytes=None, sha256=None) for archive in _voc.ARCHIVES)
    for module in (voc20, voc21):
        monkeypatch.setattr(module, "archives", loose)
    return folder


def directory(name):
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    return info


@pytest.mark.parametrize("name", ["voc21", "voc20"])
def test_from_archive_to_ids(tmp_path, archives, name):
    data = prepare(name, tmp_path / "data", archives_from=archives)
    assert [item.id for item in data.items] == list(_VAL)
    assert data.about["masks"] == f"{_HOME}/SegmentationClass"
    for seed, item in enumerate(data.items):
        image, mask = data.read(item)
        assert image.size == SIZE
        for found, stored in zip(mask.ravel().tolist(), mask_of(seed, SIZE).ravel().tolist(), strict=True):
            if stored == 255 or (name == "voc20" and stored == 0):
                assert found == IGNORE
            else:
                assert found == (stored if name == "voc21" else stored - 1)


def test_only_what_the_split_needs_is_unpacked(tmp_path, archives):
    prepare("voc21", tmp_path, archives_from=archives)
    home = tmp_path / _HOME
    assert sorted(path.stem for path in (home / "JPEGImages").iterdir()) == sorted(_VAL)
    assert sorted(path.stem for path in (home / "SegmentationClass").iterdir()) == sorted(_VAL)
    assert not (home / "Annotations").exists()
    assert not (home / "SegmentationObject").exists()
    assert len(prepare("voc21", tmp_path, archives_from=archives, split="train")) == 1
    assert len(list((home / "JPEGImages").iterdir())) == 3


def test_the_protocol_cliper_reads_the_masks_by_others_where_they_are_whole(tmp_path, archives):
    prepare("voc21", tmp_path, archives_from=archives)
    theirs = datasets.open("voc21", tmp_path, protocol="cliper")
    assert theirs.about["masks"] == f"{_HOME}/SegmentationClassAug"
    ours = datasets.open("voc21", tmp_path)
    for item, other in zip(ours.items, theirs.items, strict=True):
        assert item.id == other.id
        np.testing.assert_array_equal(ours.mask(item), theirs.mask(other))  # palette and grey, the same ids
    (tmp_path / _HOME / "SegmentationClassAug" / f"{_VAL[0]}.png").unlink()  # the edition that lacks some
    assert datasets.open("voc21", tmp_path, protocol="cliper").about["masks"] == f"{_HOME}/SegmentationClass"


def test_train_aug_is_every_mask_that_is_not_of_val(tmp_path, archives):
    data = prepare("voc20", tmp_path, archives_from=archives, split="train_aug")
    assert [item.id for item in data.items] == [*_TRAIN, *_MORE]
    assert {item.mask.parent.name for item in data.items} == {"SegmentationClassAug"}
    assert verify(data, partial=True).good
    lists = tmp_path / _HOME / "ImageSets/Segmentation"
    (lists / "train_aug.txt").write_text(f"/JPEGImages/{_MORE[0]}.jpg /SegmentationClassAug/{_MORE[0]}.png\n")
    assert [item.id for item in datasets.open("voc20", tmp_path, split="train_aug").items] == list(_MORE)


def test_train_aug_without_its_masks_says_what_is_missing(tmp_path, archives):
    (archives / "SegmentationClassAug.zip").unlink()
    with pytest.raises(DataError, match=r"SegmentationClassAug\. Accepted .* Get SegmentationClassAug\.zip, put it beside VOCtrainval"):
        prepare("voc21", tmp_path, archives_from=archives, split="train_aug")
    assert len(prepare("voc21", tmp_path, archives_from=archives)) == 2  # val does without


@pytest.mark.parametrize("place", ["VOCdevkit/VOC2012", "VOC2012"])
def test_layouts_on_disk_are_taken_as_they_are(tmp_path, archives, place):
    prepare("voc21", tmp_path / "made", archives_from=archives)
    root = tmp_path / "mine"
    (root / place).parent.mkdir(parents=True)
    (tmp_path / "made" / _HOME).rename(root / place)
    assert verify(datasets.open("voc21", root), partial=True).good
    assert len(prepare("voc21", root)) == 2  # all is there: nothing is downloaded


def test_what_is_missing_is_named_with_the_command(tmp_path, archives):
    with pytest.raises(DataError, match=r"VOCdevkit/VOC2012 or .*VOC2012\. .*nerveseg datasets prepare voc21 --root"):
        datasets.open("voc21", tmp_path)
    prepare("voc21", tmp_path, archives_from=archives)
    (tmp_path / _HOME / "ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(DataError, match=r"Got no list .*val\.txt.*prepare voc21 --root .* --split val"):
        datasets.open("voc21", tmp_path)


def test_the_published_numbers():
    assert voc21.published("sclip") == {"val": 1449, "train": 1464, "train_aug": 10582}
