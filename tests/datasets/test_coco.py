"""COCO-Stuff and COCO-Object: miniatures of the maps of things and stuff with every value, against the published list by name."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nerveseg import datasets
from nerveseg.datasets import IGNORE, _coco, _prepare, _verify, coco_object, coco_stuff
from nerveseg.errors import DataError


def _numbers(text: str) -> dict[str, int]:
    return {name: int(number) for name, number in (each.strip().rsplit(" ", 1) for each in text.split(","))}


# Numbers in COCO-Stuff's labels.txt; the maps store one less. The eleven have no pixel in any map.
_NOWHERE = _numbers(
    "street sign 12, hat 26, shoe 29, eye glasses 30, plate 45, mirror 66, window 68, desk 69, door 71, blender 83, hair brush 91"
)
_SOME = _numbers(
    "person 1, fire hydrant 11, stop sign 13, giraffe 25, backpack 27, umbrella 28, handbag 31, bottle 44, wine glass 46, bed 65, "
    "dining table 67, toilet 70, tv 72, refrigerator 82, book 84, toothbrush 90"
)
_STUFF = _numbers("banner 92, ceiling-other 102, grass 124, sky-other 157, table 165, wall-brick 171, wood 182")
_STORED = [value for value in range(182) if value + 1 not in _NOWHERE.values()]
_ALL = np.array([*_STORED, *[255] * 5], np.uint8).reshape(11, 16)
_IDS = ("000000000139", "000000000285")


def _bytes(image: Image.Image, kind: str = "PNG") -> bytes:
    out = BytesIO()
    image.save(out, format=kind)
    return out.getvalue()


def _palette(values: np.ndarray) -> Image.Image:
    image = Image.fromarray(values)
    image.putpalette([step % 256 for step in range(768)])
    return image


def _maps() -> dict[str, Image.Image]:
    return {_IDS[0]: Image.fromarray(_ALL), _IDS[1]: _palette(np.ascontiguousarray(_ALL[::-1]))}  # grey, and indexed


def _archives(folder: Path, maps: dict[str, Image.Image], year: str = "val2017") -> None:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{year}.zip", "w") as made:
        for stem, image in maps.items():
            made.writestr(f"{year}/{stem}.jpg", _bytes(Image.new("RGB", image.size, (9, 99, 199)), "JPEG"))
    with zipfile.ZipFile(folder / "stuffthingmaps_trainval2017.zip", "w") as made:
        for stem, image in maps.items():
            made.writestr(f"{year}/{stem}.png", _bytes(image))
        made.writestr("test2017/000000000001.png", b"")


@pytest.fixture
def archives(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "archives"
    _archives(folder, _maps())
    for module in (coco_stuff, coco_object):  # miniatures have neither the size nor the digest of the published archives
        monkeypatch.setattr(module, "archives", tuple(replace(each, bytes=None, sha256=None) for each in module.archives))
    return folder


def _pixels(values: np.ndarray):
    return [(row, column) for row in range(values.shape[0]) for column in range(values.shape[1])]


def _check_stuff(data) -> None:
    image, mask = data.read(data.items[0])
    assert image.size == mask.shape == _ALL.shape
    for at in _pixels(_ALL):
        stored = int(_ALL[at])
        below = sum(number - 1 < stored for number in _NOWHERE.values())
        assert mask[at] == (IGNORE if stored == 255 else stored - below)
    for name, number in {**_SOME, **_STUFF}.items():
        (at,) = [at for at in _pixels(_ALL) if _ALL[at] == number - 1]
        assert data.names.names[mask[at]] == name


def _check_object(data) -> None:
    image, mask = data.read(data.items[0])
    assert image.size == mask.shape == _ALL.shape
    assert int(mask.max()) == 80  # nothing is ignored
    for at in _pixels(_ALL):
        stored = int(_ALL[at])
        below = sum(number - 1 < stored for number in _NOWHERE.values())
        assert mask[at] == (stored - below + 1 if stored <= 90 else 0)
    for name, number in {**_SOME, **dict.fromkeys(_STUFF, 0)}.items():
        at = next(at for at in _pixels(_ALL) if _ALL[at] == (number or _STUFF[name]) - 1)
        assert data.names.names[mask[at]] == (name if number else "background")
    assert (mask[_ALL == 255] == 0).all()


def test_the_maps_hold_171_values_and_no_other():
    assert len(_STORED) == 171
    assert sorted(number - 1 for number in _NOWHERE.values()) == list(_coco.GAPS)


def test_stuff_from_the_archives_to_ids(tmp_path, archives):
    data = _prepare.prepare("coco_stuff", tmp_path / "data", archives_from=archives)
    assert [item.id for item in data.items] == list(_IDS)
    assert (data.classes, data.background) == (171, False)
    assert data.about["masks"] == "coco_stuff164k/annotations/val2017/*_labelTrainIds.png"
    _check_stuff(data)
    np.testing.assert_array_equal(data.mask(data.items[1]), data.mask(data.items[0])[::-1])  # the indexed map
    written = np.asarray(Image.open(data.items[0].mask))
    assert sorted(set(written.ravel().tolist())) == [*range(171), 255]
    report = _verify.verify(data, partial=True)
    assert report.good
    assert report.pixels.tolist() == [2] * 171
    assert report.ignored == 2 * 5


def test_objects_from_the_archives_to_ids(tmp_path, archives):
    data = _prepare.prepare("coco_object", tmp_path / "data", archives_from=archives)
    assert (data.classes, data.background) == (81, True)
    assert data.about["masks"] == "coco_stuff164k/annotations/val2017/*_instanceTrainIds.png"
    _check_object(data)  # both data sets live on one copy of images and maps; the second needs no archive
    _check_stuff(_prepare.prepare("coco_stuff", tmp_path / "data"))
    (tmp_path / f"data/coco_stuff164k/annotations/val2017/{_IDS[1]}.png").unlink()  # as where unpacking was cut off
    assert not coco_stuff.unpacked(tmp_path / "data", "val")


@pytest.mark.parametrize(
    ("maps", "images"),
    [("coco_stuff164k/annotations/val2017", "coco_stuff164k/images/val2017"), ("coco/stuffthingmaps/val2017", "coco/val2017")],
)
def test_published_maps_are_read_where_they_lie(tmp_path, maps, images):
    for folder in (maps, images):
        (tmp_path / folder).mkdir(parents=True)
    for stem, image in _maps().items():
        (tmp_path / maps / f"{stem}.png").write_bytes(_bytes(image))
        (tmp_path / images / f"{stem}.jpg").write_bytes(_bytes(Image.new("RGB", image.size), "JPEG"))
    for name, check in (("coco_stuff", _check_stuff), ("coco_object", _check_object)):
        data = datasets.open(name, tmp_path)
        assert data.about["masks"] == f"{maps}/*.png"
        check(data)


def test_masks_of_mmseg_and_of_cliper_are_taken_first(tmp_path, archives):
    _prepare.prepare("coco_stuff", tmp_path, archives_from=archives)
    numbered = np.arange(176, dtype=np.uint8).reshape(11, 16) % 171
    Image.fromarray(numbered).save(tmp_path / f"coco_stuff164k/annotations/val2017/{_IDS[0]}_labelTrainIds.png")
    data = datasets.open("coco_stuff", tmp_path)
    np.testing.assert_array_equal(data.mask(data.items[0]), numbered)
    # SCLIP's own folder for objects goes before the one that is shared with stuff
    own = tmp_path / "coco_object/annotations/val2017"
    own.mkdir(parents=True)
    for stem in _IDS:
        Image.fromarray(numbered % 81).save(own / f"{stem}_instanceTrainIds.png")
    data = datasets.open("coco_object", tmp_path)
    assert data.about["masks"].startswith("coco_object/annotations")
    np.testing.assert_array_equal(data.mask(data.items[0]), numbered % 81)
    Image.fromarray(np.where(numbered == 3, 255, numbered % 81).astype(np.uint8)).save(own / f"{_IDS[1]}_instanceTrainIds.png")
    with pytest.raises(DataError, match=rf"{_IDS[1]}_instanceTrainIds\.png with the value 255"):  # made from instances, by other rules
        data.mask(data.items[1])


def test_cliper_numbers_stuff_beforehand(tmp_path):
    for folder in ("coco2017/val2017", "coco2017/stuff_anno164/val2017"):
        (tmp_path / folder).mkdir(parents=True)
    numbered = np.arange(171, dtype=np.uint8).reshape(9, 19)
    (tmp_path / f"coco2017/val2017/{_IDS[0]}.jpg").write_bytes(_bytes(Image.new("RGB", (19, 9)), "JPEG"))
    Image.fromarray(numbered).save(tmp_path / f"coco2017/stuff_anno164/val2017/{_IDS[0]}.png")
    data = datasets.open("coco_stuff", tmp_path, protocol="cliper")
    np.testing.assert_array_equal(data.read(data.items[0])[1], numbered)


@pytest.mark.parametrize("name", ["coco_stuff", "coco_object"])
@pytest.mark.parametrize("value", [11, 90, 182, 254])
def test_a_value_that_no_class_has_is_named(tmp_path, archives, name, value):
    wrong = _ALL.copy()
    wrong[3, 4] = value
    _archives(archives, {**_maps(), _IDS[1]: Image.fromarray(wrong)})
    with pytest.raises(DataError, match=rf"{_IDS[1]}\.png with the value {value}"):
        _prepare.prepare(name, tmp_path / "data", archives_from=archives)


def test_train_takes_its_own_archive(tmp_path, archives):
    assert [each.name for each in _prepare.needed("coco_object", "train")] == ["train2017.zip", "stuffthingmaps_trainval2017.zip"]
    _archives(archives, _maps(), "train2017")
    data = _prepare.prepare("coco_object", tmp_path / "data", archives_from=archives, split="train")
    _check_object(data)
    with pytest.raises(DataError, match="without images of COCO's val2017"):
        datasets.open("coco_object", tmp_path / "data")


def _of_2014(root: Path, split: str, ids: tuple[str, ...]) -> np.ndarray:
    values = np.array([*range(81), 255, 255, 0], np.uint8).reshape(7, 12)
    home = root / "coco2014"
    for folder in (f"{split}2014", "coco_seg_anno"):
        (home / folder).mkdir(parents=True)
    for each in ids:
        (home / f"{split}2014/COCO_{split}2014_{each}.jpg").write_bytes(_bytes(Image.new("RGB", (12, 7)), "JPEG"))
        Image.fromarray(values).save(home / f"coco_seg_anno/{each}.png")
    return values


def test_cliper_reads_objects_of_2014_and_ignores_255(tmp_path):
    values = _of_2014(tmp_path, "val", _IDS)
    (tmp_path / "coco2014/val_5k.txt").write_text(f"COCO_val2014_{_IDS[1]} 3 17\nCOCO_val2014_{_IDS[0]}\n")
    data = datasets.open("coco_object", tmp_path, protocol="cliper")
    assert [item.id for item in data.items] == [f"COCO_val2014_{each}" for each in reversed(_IDS)]
    mask = data.read(data.items[0])[1]
    for at in _pixels(values):
        assert mask[at] == (IGNORE if values[at] == 255 else values[at])
    assert "CLIPer" in data.about["masks_are"]


def test_without_a_list_val_is_that_of_2017(tmp_path):
    _of_2014(tmp_path, "val", _IDS)
    data = datasets.open("coco_object", tmp_path, protocol="cliper")
    assert len(data) == coco_object.published("cliper")["val"] == 5000
    assert [item.id[-12:] for item in data.items[:2]] == list(_IDS)
    lines = "".join(f"{item.id[-12:]}\n" for item in data.items)
    assert hashlib.md5(lines.encode(), usedforsecurity=False).hexdigest() == "c0eeca5ae1f8e4d367398a37fdb14061"  # of val_5k, sorted


def test_train_of_2014_is_the_folder(tmp_path):
    _of_2014(tmp_path, "train", _IDS)
    data = datasets.open("coco_object", tmp_path, protocol="cliper", split="train")
    assert [item.mask.name for item in data.items] == [f"{each}.png" for each in _IDS]
    assert coco_object.published("cliper")["train"] == 82783


def test_what_is_missing_is_said_with_the_command(tmp_path):
    with pytest.raises(DataError, match="datasets prepare coco_stuff --root"):
        datasets.open("coco_stuff", tmp_path)
    with pytest.raises(DataError, match="Got no folder for coco_object"):
        datasets.open("coco_object")
    (tmp_path / "coco_stuff164k/images/val2017").mkdir(parents=True)
    (tmp_path / f"coco_stuff164k/images/val2017/{_IDS[0]}.jpg").write_bytes(_bytes(Image.new("RGB", (4, 4)), "JPEG"))
    with pytest.raises(DataError, match="without masks of coco_object"):
        datasets.open("coco_object", tmp_path)
    (tmp_path / "coco2014/val2014").mkdir(parents=True)
    with pytest.raises(DataError, match="protocol cliper are the masks that CLIPer's authors hand out"):
        datasets.open("coco_object", tmp_path, protocol="cliper")


@pytest.mark.parametrize(("name", "count"), [("coco_stuff", 171), ("coco_object", 81)])
def test_a_list_of_names_with_another_count_is_refused(tmp_path, archives, name, count):
    _prepare.prepare(name, tmp_path / "data", archives_from=archives)
    names = tmp_path / "names.txt"
    names.write_text("one\ntwo\n")
    with pytest.raises(DataError, match=rf"Got 2 names .* Accepted are {count}"):
        datasets.open(name, tmp_path / "data", class_names=names)
    assert len(datasets.open(name, tmp_path / "data", class_names="lposs").names) == count
