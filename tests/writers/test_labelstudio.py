from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from nerveseg.errors import ImageError, OptionError, OutputError
from nerveseg.image import load_image
from nerveseg.segmentation import Segmentation
from nerveseg.words import Label
from nerveseg.writers import _brush, labelstudio, save_all

NAMES = ("cat", "naïve 🐈", "a/b & <c>", "background")


def result(ids, background=None, name="street.jpg", names=NAMES):
    ids = torch.as_tensor(np.asarray(ids, dtype=np.int64))
    image = load_image(Image.new("RGB", (ids.shape[1], ids.shape[0])), name=name)
    labels = tuple(Label(name, (name,)) for name in names)
    return Segmentation(ids, torch.full((len(names), 1, 1), 1 / len(names)), labels, image, background=background, recipe="mini")


def noise():
    ids = np.random.default_rng(0).integers(0, 5, (17, 23))
    ids[ids == 4] = 255
    ids[4:12, 5:15] = 0
    ids[6:9, 7:10] = 3
    return ids


def bit_by_bit(packed, size):
    """The format written out: a string of bits, read from its head."""
    bits = "".join(f"{byte:08b}" for byte in packed)
    at = 0

    def take(count):
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, wide = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    values = []
    while len(values) < total:
        repeats = take(1)
        length = take(lengths[take(2)]) + 1
        values += [take(wide)] * length if repeats else [take(wide) for _ in range(length)]
    assert len(bits) - at < 8
    return np.array(values).reshape(*size, 4)


def runs(mask):
    """Lengths outside, inside, outside, …, in a plain loop."""
    lengths, inside = [0], False
    for pixel in mask.ravel().tolist():
        if pixel != inside:
            lengths.append(0)
            inside = pixel
        lengths[-1] += 1
    return np.array(lengths)


@pytest.mark.parametrize(
    ("lengths", "packed"),
    [
        ([7, 2, 6], [0, 0, 0, 60, 57, 27, 254, 27, 0, 159, 255, 11, 128, 0]),
        ([7, 29993, 10000], [0, 2, 113, 0, 57, 27, 254, 27, 0, 255, 255, 255, 255, 82, 143, 255, 206, 31, 128, 0]),
    ],
)
def test_the_bytes_are_those_of_label_studios_own_converter(lengths, packed):
    """As label-studio-sdk 2.1.2 encoded the same masks."""
    assert list(_brush.encode(np.array(lengths))) == packed


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 40))))
def test_masks_come_back_bit_by_bit(mask):
    packed = _brush.encode(runs(mask))
    channels = bit_by_bit(packed, mask.shape)
    for channel in range(4):
        np.testing.assert_array_equal(channels[:, :, channel], np.where(mask, 255, 0))
    np.testing.assert_array_equal(_brush.decode(packed, mask.shape), mask)


@pytest.mark.parametrize("pixels", [1, 2, 4, 5, 64, 65, 16384, 16385, 40000])
def test_lengths_at_the_bounds_of_their_bits(pixels):
    mask = np.zeros((2, pixels), dtype=bool)
    mask[1] = True
    packed = _brush.encode(np.array([pixels, pixels]))
    np.testing.assert_array_equal(bit_by_bit(packed, mask.shape)[:, :, 3] > 0, mask)
    np.testing.assert_array_equal(_brush.decode(packed, mask.shape), mask)


def test_values_one_by_one_are_read_too():
    """Label Studio's page writes pixels that differ in all four channels without repeating them; only the fourth counts."""
    bits = f"{8:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}" + "0" + "00" + f"{7:03b}"
    bits += "".join(f"{value:08b}" for value in (1, 2, 3, 0, 9, 0, 0, 200))
    packed = bytes(int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8))
    np.testing.assert_array_equal(_brush.decode(packed, (1, 2)), [[False, True]])


def test_damaged_run_lengths_are_refused():
    packed = _brush.encode(np.array([7, 2, 6]))
    for wrong, size in [(packed[:5], (3, 5)), (packed[:-2], (3, 5)), (b"", (3, 5)), (packed, (3, 4)), (packed[:4] + b"\xff" * 10, (3, 5))]:
        with pytest.raises(ImageError, match="brush mask"):
            _brush.decode(wrong, size)


@pytest.mark.parametrize("each", ["part", "label"])
@pytest.mark.parametrize("kind", ["predictions", "annotations"])
@pytest.mark.parametrize("background", [None, 3])
@pytest.mark.parametrize("shown", [False, True])
def test_a_task_holds_every_pixel(tmp_path, each, kind, background, shown):
    made = {"sub/a b": result(noise(), background, "a b.jpg"), "c": result([[255, 1]], background, "c.png")}
    save_all(made.items(), tmp_path, "labelstudio", each=each, kind=kind, background=shown)
    tasks = json.loads((tmp_path / "tasks.json").read_text("utf-8"))
    assert [task["data"]["image"] for task in tasks] == ["/data/local-files/?d=sub/a%20b.jpg", "/data/local-files/?d=c.png"]
    for task, one in zip(tasks, made.values(), strict=True):
        assert set(task) == {"data", kind}
        (held,) = task[kind]
        assert ("score" in held) == (kind == "predictions")
        ids = np.full(one.size, 255)
        for region in held["result"]:
            assert (region["original_height"], region["original_width"]) == one.size
            assert region["type"] == "brushlabels"
            (name,) = region["value"]["brushlabels"]
            mask = bit_by_bit(region["value"]["rle"], one.size)[:, :, 3] > 0
            assert (ids[mask] == 255).all()
            ids[mask] = NAMES.index(name)
        assert len({region["id"] for region in held["result"]}) == len(held["result"])
        expected = one.segmentation.numpy()
        np.testing.assert_array_equal(ids, np.where(expected == background, 255, expected) if not shown else expected)
    for (stem, one), (found, reading) in zip(made.items(), labelstudio.read(tmp_path), strict=True):
        assert stem == found
        np.testing.assert_array_equal(reading.ids, one.segmentation.numpy())
        assert reading.labels == NAMES


def test_the_setup_names_the_labels(tmp_path):
    result(noise(), 3).save(tmp_path, format="labelstudio")
    setup = ElementTree.fromstring((tmp_path / "config.xml").read_text("utf-8"))
    assert [label.get("value") for label in setup.iter("Label")] == list(NAMES[:3])
    assert len({label.get("background") for label in setup.iter("Label")}) == 3
    assert setup.find("BrushLabels").get("toName") == setup.find("Image").get("name") == "image"
    result(noise(), 3).save(tmp_path, format="labelstudio", background=True)
    assert [label.get("value") for label in ElementTree.parse(tmp_path / "config.xml").iter("Label")] == list(NAMES)


def test_a_name_of_more_lines_is_the_same_in_setup_and_tasks(tmp_path):
    names = ('a\nb\t"c"', "d")
    result([[0, 1]], names=names).save(tmp_path, format="labelstudio")
    assert [label.get("value") for label in ElementTree.parse(tmp_path / "config.xml").iter("Label")] == list(names)


@pytest.mark.parametrize("name", ["a\x00", "a\x1b", "\ud800", "a\ufffe", " a", ""])
def test_a_name_that_xml_cannot_hold_is_refused(tmp_path, name):
    with pytest.raises(OutputError, match="Rename the label"):
        result([[0, 1]], names=(name, "d")).save(tmp_path / "out", format="labelstudio")


@pytest.mark.parametrize(
    ("prefix", "address"),
    [
        ("", "sub/%E7%8C%AB%20%231.jpg"),
        ("https://example.invalid/", "https://example.invalid/sub/%E7%8C%AB%20%231.jpg"),
        ("s3://bucket/", "s3://bucket/sub/猫 #1.jpg"),
        ("gs://bucket/", "gs://bucket/sub/猫 #1.jpg"),
    ],
)
def test_where_the_images_are(tmp_path, prefix, address):
    save_all([("sub/猫 #1", result([[0]], name="猫 #1.jpg"))], tmp_path, "labelstudio", prefix=prefix)
    assert json.loads((tmp_path / "tasks.json").read_text("utf-8"))[0]["data"]["image"] == address


def test_bad_files_and_knobs_are_refused(tmp_path):
    result(noise()).save(tmp_path, format="labelstudio")
    with pytest.raises(OptionError, match="predictions"):
        result(noise()).save(tmp_path, format="labelstudio", kind="drafts")
    held = (tmp_path / "tasks.json").read_text("utf-8")
    for wrong in ("{", "[{}]", held.replace('"cat"', '"dog"'), held.replace('rle":[0', 'rle":[300')):
        (tmp_path / "tasks.json").write_text(wrong, "utf-8")
        with pytest.raises(ImageError):
            list(labelstudio.read(tmp_path))


def test_a_prediction_says_how_sure_it_is(tmp_path):
    made = result([[0, 1]])
    made.save(tmp_path, format="labelstudio")
    (task,) = json.loads((tmp_path / "tasks.json").read_text("utf-8"))
    (held,) = task["predictions"]
    assert held["score"] == pytest.approx(0.25)
    assert held["model_version"].startswith("nerveseg ")
    assert held["model_version"].endswith(" mini")
