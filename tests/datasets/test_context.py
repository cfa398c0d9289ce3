"""Pascal Context: miniatures of VOC 2010 and of the maps of 459 labels, all 459 in one map, against the published numbers by name."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from nerveseg import datasets
from nerveseg.datasets import IGNORE, _context, _prepare, _verify, classes, context59, context60
from nerveseg.errors import DataError

# Numbers among the 459 labels, retyped from the data set's labels.txt by name, in another order than ours: VOC's twenty first.
_TABLE = """
aeroplane 2, bicycle 23, bird 25, boat 31, bottle 34, bus 45, car 59, cat 65, chair 72, cow 98, table 397, dog 113, horse 207,
motorbike 258, person 284, potted plant 308, sheep 347, sofa 368, train 416, tv monitor 427,
bag 9, bed 18, bench 22, book 33, building 44, cabinet 46, ceiling 68, cloth 80, computer 85, cup 104, door 115, fence 144,
floor 158, flower 159, food 162, grass 187, ground 189, keyboard 220, light 232, mountain 259, mouse 260, curtain 105,
platform 296, sign 355, plate 295, road 324, rock 326, shelves 349, sidewalk 354, sky 360, snow 366, bedclothes 19, track 415,
tree 420, truck 424, wall 440, water 445, window 454, wood 458
"""
_NUMBERS = {name: int(number) for name, number in (each.strip().rsplit(" ", 1) for each in _TABLE.split(","))}
_ALL = np.arange(1, 460, dtype=np.uint16).reshape(27, 17)  # every label once
_NAMES = ("2008_000002", "2009_000006", "2010_001606")


def _add(made: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    made.addfile(info, BytesIO(content))


def _mat(values: np.ndarray, key: str = "LabelMap") -> bytes:
    out = BytesIO()
    savemat(out, {key: values}, do_compression=True)
    return out.getvalue()


def _jpeg(height: int, width: int) -> bytes:
    out = BytesIO()
    Image.new("RGB", (width, height), (90, 120, 150)).save(out, format="JPEG")
    return out.getvalue()


def _maps() -> dict[str, np.ndarray]:
    unlabelled = _ALL.copy()
    unlabelled[:5] = 0  # pixels without any label
    return {"2008_000002": _ALL, "2009_000006": _ALL.T.astype(np.float64), "2010_001606": unlabelled, "2008_000008": _ALL[:3]}


def _archives(folder: Path, maps: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "VOCtrainval_03-May-2010.tar", "w") as made:
        for stem, values in _maps().items():
            _add(made, f"VOCdevkit/VOC2010/Annotations/{stem}.xml", b"<annotation/>")
            _add(made, f"VOCdevkit/VOC2010/JPEGImages/{stem}.jpg", _jpeg(*values.shape))
        _add(made, "VOCdevkit/VOC2010/ImageSets/Main/val.txt", "".join(f"{stem}\n" for stem in _NAMES).encode())
        _add(made, "VOCdevkit/VOC2010/ImageSets/Main/train.txt", b"2008_000008\n")
        _add(made, "VOCdevkit/VOC2010/ImageSets/Main/aeroplane_val.txt", b"2008_000002 -1\n")
    with tarfile.open(folder / "trainval.tar.gz", "w:gz") as made:
        _add(made, "labels.txt", b"1: accordion\n2: aeroplane\n")
        for stem, content in maps.items():
            _add(made, f"trainval/{stem}.mat", content)


@pytest.fixture
def archives(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "archives"
    _archives(folder, {stem: _mat(values) for stem, values in _maps().items()})
    for module in (context59, context60):  # a miniature has not the digest of the published archive
        monkeypatch.setattr(module, "archives", tuple(replace(each, md5=None) for each in module.archives))
    return folder


def test_the_table_has_fifty_nine_names_in_the_order_of_the_alphabet():
    assert len(_NUMBERS) == 59
    names = classes.read("context60", count=60, background=True).names
    assert names[0] == "background"
    plain = [name.replace(" ", "") for name in names[1:]]
    assert plain == sorted(plain)
    assert sorted(_NUMBERS) == sorted(names[1:])
    assert classes.read("context59").names == names[1:]


def test_every_label_becomes_its_class_pixel_by_pixel(tmp_path, archives):
    sixty = _prepare.prepare("context60", tmp_path / "data", archives_from=archives)
    nine = datasets.open("context59", tmp_path / "data")
    assert [item.id for item in sixty.items] == [item.id for item in nine.items] == list(_NAMES)
    names = sixty.names.names
    called = {number: name for name, number in _NUMBERS.items()}
    seen = set()
    for which, source in enumerate(_maps()[stem] for stem in _NAMES):
        (image, of_sixty), of_nine = sixty.read(sixty.items[which]), nine.mask(nine.items[which])
        assert image.size == of_sixty.shape == of_nine.shape == source.shape
        for row in range(source.shape[0]):
            for column in range(source.shape[1]):
                name = called.get(int(source[row, column]), "background")
                assert names[of_sixty[row, column]] == name
                if name == "background":
                    assert of_nine[row, column] == IGNORE
                else:
                    assert nine.names.names[of_nine[row, column]] == name
                seen.add(name)
    assert seen == set(names)
    made = tmp_path / "data/VOCdevkit/VOC2010"
    assert (made / "ImageSets/SegmentationContext/val.txt").read_text().split() == list(_NAMES)
    assert not (made / "JPEGImages/2008_000008.jpg").exists()  # train's
    assert not (made / "Annotations").exists()
    report = _verify.verify(sixty, partial=True)
    assert report.good
    assert report.absent == ()
    assert report.pixels.sum() == sum(_maps()[stem].size for stem in _NAMES)
    assert _verify.verify(nine, partial=True).ignored == report.pixels[0]


def test_cliper_leaves_one_image_out(tmp_path, archives):
    _prepare.prepare("context59", tmp_path, archives_from=archives)
    assert [item.id for item in datasets.open("context59", tmp_path, protocol="cliper").items] == list(_NAMES[:2])
    assert context60.published("sclip") == {"val": 5105, "train": 4998}
    assert context60.published("cliper")["val"] == 5104


def test_ready_masks_of_mmseg_are_read_as_they_are(tmp_path):
    home = tmp_path / "VOC2010"
    for folder in ("JPEGImages", "SegmentationClassContext", "ImageSets/SegmentationContext"):
        (home / folder).mkdir(parents=True)
    values = np.arange(60, dtype=np.uint8).reshape(6, 10)
    (home / "JPEGImages/2008_000002.jpg").write_bytes(_jpeg(6, 10))
    Image.fromarray(values).save(home / "SegmentationClassContext/2008_000002.png")
    (home / "ImageSets/SegmentationContext/val.txt").write_text("2008_000002\n")
    data = datasets.open("context60", tmp_path)
    np.testing.assert_array_equal(data.read(data.items[0])[1], values)
    Image.fromarray(values + 1).save(data.items[0].mask)  # 60 is no class
    with pytest.raises(DataError, match=r"2008_000002\.png with the value 60"):
        data.mask(data.items[0])


def test_files_that_lie_unpacked_need_no_archive(tmp_path, archives):
    root = tmp_path / "data"
    with tarfile.open(archives / "VOCtrainval_03-May-2010.tar") as packed:
        packed.extractall(root, filter="data")
    with tarfile.open(archives / "trainval.tar.gz") as packed:
        packed.extractall(root / "VOCdevkit/VOC2010", filter="data")
    data = _prepare.prepare("context60", root, split="train")
    assert [item.id for item in data.items] == ["2008_000008"]
    assert (data.mask(data.items[0]) == _prepare.prepare("context60", root, split="train").mask(data.items[0])).all()
    (root / "VOCdevkit/VOC2010/trainval/2009_000006.mat").unlink()
    assert not context60.unpacked(root, "val")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_mat(np.full((27, 17), 460, np.uint16)), r"2009_000006\.mat with the value 460"),
        (_mat(_ALL, "Labels"), "without a LabelMap"),
        (_mat(_ALL + 0.5), "ids from 0 to 459"),
        (_mat(_ALL)[:90], "cannot be read"),
        (b"not a map at all", "cannot be read"),
        (None, r"no map .*2009_000006\.mat"),
    ],
    ids=["460", "another name", "halves", "cut", "no map", "missing"],
)
def test_a_bad_map_is_named(tmp_path, archives, content, said):
    maps = {stem: _mat(values) for stem, values in _maps().items()}
    maps["2009_000006"] = content
    _archives(archives, {stem: each for stem, each in maps.items() if each is not None})
    with pytest.raises(DataError, match=said):
        _prepare.prepare("context60", tmp_path / "data", archives_from=archives)


def test_another_list_of_as_many_names_is_refused(tmp_path):
    names = tuple(f"2008_{number:06d}" for number in range(5105))
    with pytest.raises(DataError, match="not those of Pascal Context's val"):
        _context._check_val(names, tmp_path / "val.txt")
    _context._check_val(names[:-1], tmp_path / "val.txt")


def test_what_is_missing_is_said_with_the_command(tmp_path):
    with pytest.raises(DataError, match="datasets prepare context59 --root"):
        datasets.open("context59", tmp_path)
    (tmp_path / "VOCdevkit/VOC2010").mkdir(parents=True)
    with pytest.raises(DataError, match="SegmentationClassContext"):
        datasets.open("context60", tmp_path)
