"""Values of masks: as stored, where nothing in the file says that they are no ids."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from nerveseg import datasets
from nerveseg.datasets import _stored
from nerveseg.datasets._verify import verify
from nerveseg.datasets.base import stored
from nerveseg.errors import DataError
from nerveseg.image.orientation import turned
from nerveseg.masks.palette import voc_palette

IDS = np.array([[0, 1, 1, 0], [2, 2, 0, 1], [1, 0, 2, 2]], np.uint8)
VOC = voc_palette()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def grey_png(path, values, bits, *, more=b""):
    """A grey PNG of 1, 2, 4, 8 or 16 bits."""
    height, width = values.shape
    rows = b""
    for row in values:
        text = "".join(f"{value:0{bits}b}" for value in row.tolist())
        text += "0" * (-len(text) % 8)
        rows += b"\0" + bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def indexed(path, values, colours, **options):
    image = Image.frombytes("P", values.shape[::-1], np.ascontiguousarray(values).tobytes())
    image.putpalette(np.asarray(colours, np.uint8).ravel().tolist())
    image.save(path, **options)
    return path


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_of_few_bits_is_read_raw(tmp_path, bits):
    values = np.minimum(IDS, min(2**bits - 1, 255))
    assert stored(grey_png(tmp_path / "a.png", values, bits), grey=True).tolist() == values.tolist()
    clear = grey_png(tmp_path / "b.png", values, bits, more=chunk(b"tRNS", b"\0\0"))
    assert stored(clear).tolist() == values.tolist()


def test_the_sixteen_samples_of_four_bits(tmp_path):
    values = np.arange(16, dtype=np.uint8).reshape(2, 8)
    assert stored(grey_png(tmp_path / "a.png", values, 4)).tolist() == values.tolist()


@pytest.mark.parametrize("colours", [VOC, np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1), np.arange(768).reshape(256, 3) % 256])
@pytest.mark.parametrize("options", [{}, {"bits": 2}, {"transparency": 0}, {"interlace": 1}, {"optimize": True}])
def test_a_palette_made_for_the_ids_is_trusted(tmp_path, colours, options):
    for voc in (False, True):
        assert stored(indexed(tmp_path / "a.png", IDS, colours, **options), voc=voc).tolist() == IDS.tolist()


REORDERED = np.array([255, 9, 12, 0], np.uint8)  # what 0, 1, 2, 3 were


@pytest.mark.parametrize("bits", [{}, {"bits": 2}])
def test_a_palette_that_was_reordered_is_refused(tmp_path, bits):
    values = np.array([[3, 2, 0], [3, 3, 1]], np.uint8)  # VOC's 0 → 3, 12 → 2, 255 → 0
    path = indexed(tmp_path / "a.png", values, VOC[REORDERED], **bits)
    for voc in (False, True):
        with pytest.raises(DataError, match="numbered the ids anew"):
            stored(path, voc=voc)
    greys = np.repeat(REORDERED[:, None], 3, axis=1)
    with pytest.raises(DataError, match="the grey of 255"):
        stored(indexed(tmp_path / "b.png", values, greys, **bits))
    mixed = VOC[:4].copy()
    mixed[1], mixed[3] = (7, 7, 9), VOC[15]  # one class alone
    with pytest.raises(DataError, match="the colour in Pascal VOC of 15"):
        stored(indexed(tmp_path / "c.png", values, mixed), voc=True)


def test_ids_that_an_optimiser_compacted_are_refused(tmp_path):
    ids = np.array([[0, 15, 12], [15, 15, 255]], np.uint8)
    kept = np.unique(ids)
    compact = np.searchsorted(kept, ids).astype(np.uint8)
    with pytest.raises(DataError, match="numbered the ids anew"):
        stored(indexed(tmp_path / "a.png", compact, VOC[kept]))
    Image.fromarray(ids).convert("RGB").quantize(4).save(tmp_path / "b.png")
    with pytest.raises(DataError, match="numbered the ids anew"):
        stored(tmp_path / "b.png")


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("a.jpg", {}, "JPEG"), ("a.webp", {"lossless": True}, "colours"), ("a.gif", {}, "numbers? the colours"), ("a.jp2", {}, "JPEG2000"),
        ("a.tif", {"compression": "jpeg"}, "compressed with JPEG"),
    ],
)  # fmt: skip
def test_formats_that_change_or_renumber_values_are_refused(tmp_path, name, options, says):
    image = Image.fromarray(np.kron(IDS, np.ones((8, 8), np.uint8)))
    image.save(tmp_path / name, **options)
    for path in (tmp_path / name, (tmp_path / name).rename(tmp_path / "renamed.png")):
        if path.exists():
            with pytest.raises(DataError, match=says):
                stored(path)


def test_colours_where_ids_are_expected(tmp_path):
    Image.fromarray(VOC[IDS]).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="by the list that it was made with"):
        stored(tmp_path / "a.png")
    assert stored(tmp_path / "a.png", voc=True).tolist() == IDS.tolist()  # every pixel has a colour of the data set's
    image = Image.fromarray(VOC[IDS])
    image.putpixel((1, 2), (1, 2, 3))
    image.save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"\(1, 2, 3\) is none"):
        stored(tmp_path / "b.png", voc=True)
    image.putalpha(7)
    image.save(tmp_path / "c.png")
    with pytest.raises(DataError, match="transparency"):
        stored(tmp_path / "c.png", voc=True)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("code", range(1, 9))
def test_a_mask_is_turned_by_its_own_orientation(tmp_path, kind, code):
    tags = Image.Exif()
    tags[0x0112] = code
    for name in ("a.png", "a.tif")[kind == np.int32 :]:
        Image.fromarray(IDS.astype(kind)).save(tmp_path / name, exif=tags)
        assert stored(tmp_path / name).tolist() == turned(IDS, code).tolist()


def test_four_bits_and_white_first_in_tiff(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    shape = {"driver": "GTiff", "height": 3, "width": 4, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", NBITS=4, **shape, transform=rasterio.Affine.scale(2)) as out:
        out.write(IDS, 1)
    assert stored(tmp_path / "a.tif").tolist() == IDS.tolist()
    with rasterio.open(tmp_path / "b.tif", "w", photometric="miniswhite", **shape, transform=rasterio.Affine.scale(2)) as out:
        out.write(IDS, 1)
    with pytest.raises(DataError, match="counted from white"):
        stored(tmp_path / "b.tif")


@pytest.fixture
def folder(tmp_path):
    for what in ("images", "masks"):
        (tmp_path / what).mkdir()
    (tmp_path / "names.txt").write_text("sky\ncat\ndog\n")
    return tmp_path


@pytest.mark.parametrize("mask_code", [1, 6])
@pytest.mark.parametrize("image_code", [1, 3, 6])
def test_image_and_mask_agree_whatever_turns_them(folder, image_code, mask_code):
    """Each of both is stored so that its own code turns it upright; a mask without one follows the stored pixels, or the turned ones."""
    undo = {1: 1, 3: 3, 6: 8}
    upright = np.stack([IDS * 100] * 3, axis=2)
    for what, values, code in (("images", upright, image_code), ("masks", IDS, mask_code)):
        tags = Image.Exif()
        tags[0x0112] = code
        as_stored = values if (what, mask_code) == ("masks", 1) else turned(values, undo[code])
        if what == "masks" and mask_code == 1 and image_code == 3:
            as_stored = turned(values, 3)  # of the same size, it follows the stored pixels
        Image.fromarray(np.ascontiguousarray(as_stored)).save(folder / what / "a.png", **({"exif": tags} if code > 1 else {}))
    data = datasets.open("folder", folder)
    image, mask = data.read(data.items[0])
    np.testing.assert_array_equal(image.pixels[:, :, 0], mask * 100)
    assert verify(data).good
    assert verify(data, quick=True).good


def test_verify_finds_a_palette_that_differs(folder):
    for stem, colours in (("a", [(1, 2, 3), (200, 10, 10), (10, 200, 10)]), ("b", [(1, 2, 3), (10, 200, 10), (200, 10, 10)])):
        Image.new("RGB", (4, 3)).save(folder / f"images/{stem}.png")
        indexed(folder / f"masks/{stem}.png", IDS, colours)
    (problem,) = verify(datasets.open("folder", folder)).problems
    assert problem.item == "b"
    assert "Accepted is one palette for all masks" in problem.message


def test_verify_and_readers_refuse_a_voc_mask_of_another_order(tmp_path):
    home = tmp_path / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (home / part).mkdir(parents=True)
    (home / "ImageSets/Segmentation/val.txt").write_text("a\n")
    values = np.array([[3, 2, 0], [3, 3, 0]], np.uint8)
    Image.new("RGB", (3, 2)).save(home / "JPEGImages/a.jpg")
    indexed(home / "SegmentationClass/a.png", values, VOC[REORDERED])
    for name in ("voc21", "voc20"):
        data = datasets.open(name, tmp_path)
        assert any("numbered the ids anew" in problem.message for problem in verify(data, partial=True).problems)
        with pytest.raises(DataError, match="numbered the ids anew"):
            data.read(data.items[0])


def test_used_colours(tmp_path):
    assert _stored.read(indexed(tmp_path / "a.png", IDS, VOC)).used() == {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0)}
    assert _stored.read(grey_png(tmp_path / "b.png", IDS, 8)).used() == {}


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0\5\x16\7")


def test_hidden_files_are_no_items(tmp_path):
    ade = tmp_path / "ADEChallengeData2016"
    touch(ade / "images/validation/ADE_val_1.jpg", ade / "images/validation/._ADE_val_1.jpg", ade / "annotations/validation/ADE_val_1.png")
    city = tmp_path / "cityscapes"
    for name in ("a/x_leftImg8bit.png", "a/._x_leftImg8bit.png", ".hidden/y_leftImg8bit.png"):
        touch(city / "leftImg8bit/val" / name)
    touch(city / "gtFine/val/a/x_gtFine_labelTrainIds.png")
    stuff = tmp_path / "coco_stuff164k"
    for stem in ("000000000139", "._000000000139"):
        touch(stuff / f"images/val2017/{stem}.jpg", stuff / f"annotations/val2017/{stem}_labelTrainIds.png")
    voc = tmp_path / "VOC2012"
    touch(*(voc / f"SegmentationClassAug/{name}.png" for name in ("a", "._a", ".b")), voc / "JPEGImages/a.jpg", voc / "JPEGImages/._a.jpg")
    (voc / "ImageSets/Segmentation").mkdir(parents=True)
    for split, name in (("val", "v"), ("train", "a")):
        (voc / f"ImageSets/Segmentation/{split}.txt").write_text(f"{name}\n")
    for name, split, expected in (
        ("ade20k", "val", ["ADE_val_1"]), ("cityscapes", "val", ["x"]), ("coco_stuff", "val", ["000000000139"]),
        ("voc21", "train_aug", ["a"]),
    ):  # fmt: skip
        assert [item.id for item in datasets.open(name, tmp_path, split=split).items] == expected, name


def test_a_folder_says_what_it_left_out(folder):
    for name in ("images/a.png", "masks/a.png"):
        Image.fromarray(IDS).save(folder / name)
    touch(*(folder / "images" / name for name in ("b.JXL", "c.tga", "._a.png", ".DS_Store", "notes.txt")))
    data = datasets.open("folder", folder)
    assert len(data) == 1
    assert data.left_out == "2 files that look like images were left out: 1 .jxl, 1 .tga. Save them as PNG or JPEG."
