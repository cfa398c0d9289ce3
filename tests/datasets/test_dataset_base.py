"""What every data set does: masks by a table, images that fit them whatever EXIF says, parts of files, lists of names."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nerveseg import datasets
from nerveseg.datasets import IGNORE, UNKNOWN, DataSet, Item, classes, table
from nerveseg.datasets.base import stored
from nerveseg.errors import DataError
from nerveseg.words.vocabulary import Label

_NAMES = classes.ClassNames(tuple(Label(name, (name,)) for name in "abc"), "official")
_VALUES = table({0: 0, 1: 1, 2: 2, 255: IGNORE})


def data_of(*items, values=_VALUES, grey=False):
    return DataSet("folder", "all", "sclip", _NAMES, False, items, values, grey=grey)


def ramp(height, width):
    """An image in which every pixel is another colour."""
    numbers = np.arange(height * width).reshape(height, width)
    return np.stack([numbers % 251, numbers // 251, np.full_like(numbers, 7)], axis=-1).astype(np.uint8)


def pair(folder, pixels, mask, *, orientation=None, ending="png"):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(folder / f"a.{ending}", exif=exif)
    Image.fromarray(np.asarray(mask, np.uint8)).save(folder / "mask.png")
    return Item("a", folder / f"a.{ending}", folder / "mask.png")


def test_a_table_names_what_it_does_not_know():
    made = table({3: 0, 9: IGNORE}, entries=12)
    assert [int(made[value]) for value in (3, 9, 0, 11)] == [0, IGNORE, UNKNOWN, UNKNOWN]
    assert made.dtype == np.uint16


def test_values_become_ids(tmp_path):
    item = pair(tmp_path, ramp(2, 3), [[0, 1, 2], [255, 2, 1]])
    image, mask = data_of(item).read(item)
    assert mask.dtype == np.uint16
    assert mask.tolist() == [[0, 1, 2], [IGNORE, 2, 1]]
    assert image.size == (2, 3)


@pytest.mark.parametrize("kind", ["grey", "palette", "one bit", "sixteen bits", "thirty-two bits"])
def test_masks_are_read_as_they_are_stored(tmp_path, kind):
    values = np.array([[0, 1, 0], [1, 1, 0]])
    image = {
        "grey": Image.fromarray(values.astype(np.uint8)),
        "one bit": Image.fromarray(values.astype(bool)),
        "sixteen bits": Image.fromarray(values.astype(np.uint16)),
        "thirty-two bits": Image.fromarray(values.astype(np.int32)),
        "palette": Image.frombytes("P", (3, 2), values.astype(np.uint8).tobytes()),
    }[kind]
    if kind == "palette":
        image.putpalette([0, 0, 0, 128, 0, 0])
    path = tmp_path / ("mask.tif" if kind == "thirty-two bits" else "mask.png")
    image.save(path)
    np.testing.assert_array_equal(stored(path), values)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("size", [(4, 6), (5, 5)])
def test_masks_follow_the_stored_pixels(tmp_path, orientation, size):
    # 2, 3 and 4, and squares, keep their size when they are turned: then, too, the mask belongs to what is stored.
    item = pair(tmp_path, ramp(*size), np.zeros(size), orientation=orientation)
    image, mask = data_of(item).read(item)
    np.testing.assert_array_equal(image.pixels, ramp(*size))
    assert mask.shape == size
    np.testing.assert_array_equal(data_of(item).image(item).pixels, ramp(*size))  # the same without its mask at hand


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_that_fits_the_turned_image_alone_gets_the_turned_one(tmp_path, orientation):
    item = pair(tmp_path, ramp(4, 6), np.zeros((6, 4)), orientation=orientation)
    image, mask = data_of(item).read(item)
    assert image.size == mask.shape == (6, 4)
    if orientation == 6:  # shown after a quarter turn to the right
        np.testing.assert_array_equal(image.pixels, np.rot90(ramp(4, 6), -1))


def test_a_jpeg_with_orientation_is_read_as_stored(tmp_path):
    item = pair(tmp_path, ramp(16, 24), np.zeros((16, 24)), orientation=6, ending="jpg")
    assert data_of(item).read(item)[0].size == (16, 24)


def test_an_item_can_be_a_part_of_its_files(tmp_path):
    whole = pair(tmp_path, ramp(4, 6), np.arange(24).reshape(4, 6) % 3)
    halves = [Item(side, whole.image, whole.mask, box) for side, box in (("l", (0, 0, 4, 3)), ("r", (0, 3, 4, 6)))]
    found = [data_of(*halves).read(item) for item in halves]
    np.testing.assert_array_equal(np.concatenate([image.pixels for image, _ in found], axis=1), ramp(4, 6))
    np.testing.assert_array_equal(np.concatenate([mask for _, mask in found], axis=1), np.arange(24).reshape(4, 6) % 3)
    assert [image.name for image, _ in found] == ["l", "r"]


def test_a_part_outside_its_file_is_refused(tmp_path):
    whole = pair(tmp_path, ramp(4, 6), np.zeros((4, 6)))
    with pytest.raises(DataError, match=r"mask\.png of \(4, 6\) pixels .* at least \(4, 8\)"):
        data_of().read(Item("r", whole.image, whole.mask, (0, 4, 4, 8)))


def bad(folder, kind):
    item = pair(folder, ramp(4, 6), np.zeros((4, 6)))
    match kind:
        case "no image":
            item.image.unlink()
        case "no mask":
            item.mask.unlink()
        case "another size":
            Image.fromarray(np.zeros((4, 5), np.uint8)).save(item.mask)
        case "an id out of range":
            Image.fromarray(np.full((4, 6), 7, np.uint8)).save(item.mask)
        case "a value beyond the table":
            Image.fromarray(np.full((4, 6), 300, np.uint16)).save(item.mask)
        case "a mask in colours":
            Image.fromarray(ramp(4, 6)).save(item.mask)
        case "a mask cut short":
            noise = np.random.default_rng(0).integers(0, 3, (64, 64), dtype=np.uint8)
            Image.fromarray(noise).save(item.mask)
            item.mask.write_bytes(item.mask.read_bytes()[:200])
        case "an image cut short":
            Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / "b.jpg")
            (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:2000])
            Image.fromarray(np.zeros((64, 64), np.uint8)).save(item.mask)
            item = Item("a", folder / "b.jpg", item.mask)
        case "no file at all":
            item = Item("a")
    return item


_SAID = {
    "no image": r"Got no image .*a\.png for 'a'",
    "no mask": r"Got no mask .*mask\.png for 'a'",
    "another size": r"a\.png of \(4, 6\) pixels \(height, width\) and its mask .*mask\.png of \(4, 5\)",
    "an id out of range": r"mask\.png with the value 7, which is no class of folder\. Accepted are values from 0 to 255",
    "a value beyond the table": r"mask\.png with the value 300\. Accepted are 0 to 255",
    "a mask in colours": r"mask\.png with the colour mode RGB",
    "a mask cut short": r"mask\.png, which cannot be read",
    "an image cut short": r"b\.jpg, the image of 'a', which cannot be read",
    "no file at all": "item 'a' without a mask",
}


@pytest.mark.parametrize("kind", _SAID)
def test_bad_files_are_named(tmp_path, kind):
    item = bad(tmp_path, kind)
    with pytest.raises(DataError, match=_SAID[kind]) as caught:
        data_of(item).read(item)
    assert str(caught.value).count(". ") >= 2  # what came, what is accepted, what to do


def test_a_palette_where_grey_is_expected_is_refused(tmp_path):
    item = pair(tmp_path, ramp(4, 6), np.zeros((4, 6)))
    Image.new("P", (6, 4)).save(item.mask)
    assert data_of(item).read(item)[1].max() == 0
    with pytest.raises(DataError, match=r"mask\.png with a palette\. Accepted is grey"):
        data_of(item, grey=True).read(item)


def test_names_that_ship_are_listed_official_first():
    assert classes.lists("voc21") == ("official", "lposs", "tagclip")
    assert classes.lists("nothing") == ()


def test_a_background_is_called_so_and_has_the_strings_of_its_line():
    found = classes.read("voc21", "lposs", count=21, background=True)
    assert found.names[0] == "background"
    assert found.labels[0].strings[:3] == ("sky", "wall", "tree")
    assert "background" not in found.labels[0].strings
    assert len(found.labels[0].strings) == 26
    assert found.labels[1] == Label("aeroplane", ("aeroplane",))


def test_a_comma_is_part_of_a_string_where_the_list_says_so():
    assert classes.read("voc20", "tagclip").labels[14].strings == ("person with clothes,people,human",)
    assert classes.read("voc21", "tagclip").labels[15].strings == ("person with clothes,people,human",)


def test_lists_of_others_load_by_path(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\ufeffsky, wall\n# a comment\npotted_plant\nboat, ship  # and a note\n", "utf-8")
    with pytest.warns(classes.CommasPart, match="strings of 2 classes, of 'boat' for one"):
        found = classes.read("folder", path)
    assert found.origin == str(path)
    assert [label.strings for label in found.labels] == [("sky", "wall"), ("potted plant",), ("boat", "ship")]
    assert found.names == ("sky", "potted_plant", "boat")
    path.write_text("sky; wall, too\nboat\n", "utf-8")
    assert classes.read("folder", path).labels[0].strings == ("sky", "wall, too")


def test_a_digest_is_of_names_and_strings(tmp_path):
    (tmp_path / "a.txt").write_text("cat; kitten\ndog\n")
    (tmp_path / "b.txt").write_text("# other words\ncat; kitten\ndog")
    (tmp_path / "c.txt").write_text("cat\ndog")
    a, b, c = (classes.read("folder", tmp_path / f"{name}.txt") for name in "abc")
    assert a.digest == b.digest != c.digest
    assert len(a.digest) == 16


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\nb\n", r"Got 2 names in .*names\.txt for voc20\. Accepted are 20.*WHOSE:PATH"),
        ("a\na\n", "Got 'a' twice"),
        ("a\ncoat,jacket\n", r"Got 'coat,jacket'.*one string, or several\?.*clearclip:PATH"),
        (None, "which cannot be read"),
    ],
)
def test_bad_lists_are_refused(tmp_path, text, said):
    path = tmp_path / "names.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=said):
        classes.read("voc20", path, count=2 if text == "a\na\n" else 20)


def test_open_refuses_what_a_data_set_does_not_have(tmp_path):
    with pytest.raises(DataError, match=r"split 'test' of voc21\. Accepted are val, train, train_aug"):
        datasets.open("voc21", tmp_path, split="test")
    with pytest.raises(DataError, match="protocol 'mine'"):
        datasets.open("voc21", tmp_path, protocol="mine")
    with pytest.raises(DataError, match="Got no folder for voc21"):
        datasets.open("voc21")
    with pytest.raises(LookupError, match="Did you mean 'voc21'"):
        datasets.open("voc22", tmp_path)


def test_scenes_are_drawn():
    data = datasets.open("embedded", split="val")
    item = data.items[3]
    image, mask = data.read(item)
    assert image.size == mask.shape
    np.testing.assert_array_equal(data.mask(item), mask)
    assert data.image(item).sha256 == image.sha256
    assert set(np.unique(mask)) <= set(data.offered(item))
