from __future__ import annotations

import json
import os
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from nerveseg.errors import ImageError, OptionError, OutputError
from nerveseg.image import load_image
from nerveseg.segmentation import Segmentation
from nerveseg.words import Label
from nerveseg.writers import _collection, coco, png, save_all
from nerveseg.writers.base import check_names, is_collection, record, replacing, shared


def result(name="street.jpg", names=("cat", "dog"), **more):
    labels = tuple(Label(name, (name,)) for name in names)
    return Segmentation(
        torch.zeros(4, 6, dtype=torch.int64), torch.ones(2, 1, 1), labels, load_image(Image.new("RGB", (6, 4)), name=name), **more
    )


def test_one_shape_or_the_other():
    assert is_collection(coco)
    assert not is_collection(png)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.jpg", "a"),
        ("a.b.jpg", "a.b"),
        ("x/y/a.jpg", "a"),
        ("名前.png", "名前"),
        ("..", "picture"),
        ("/", "picture"),
        (".hidden", ".hidden"),
    ],
)
def test_the_stem_is_the_images_name_without_folders_and_ending(name, stem, tmp_path):
    made = result(name)
    assert made.stem == stem
    made.save(tmp_path / "out", format="coco")
    ((found, _),) = coco.read(tmp_path / "out")
    assert found == stem


def test_the_record_is_what_is_shared_and_what_is_not():
    made = result(recipe="mini")
    whole = record(made, id_shift=1)
    assert whole["id_shift"] == 1
    assert {name: whole[name] for name in shared(made, id_shift=1)} == shared(made, id_shift=1)
    assert set(whole) - set(shared(made)) == {"walk", "picture"}


def test_growing_json_is_the_json_of_the_whole(tmp_path):
    with _collection.JsonListWriter(tmp_path, "b", "empty") as grown:
        for entry in ({"x": 1.5}, ["ü", float("nan")], "\udcff"):
            grown.add("b", entry)
        grown.save(tmp_path / "a.json", {"a": 1, "c": {"z": 2, "y": "猫"}})
    text = (tmp_path / "a.json").read_bytes()
    assert json.loads(text) == {"a": 1, "b": [{"x": 1.5}, ["ü", None], "\udcff"], "c": {"z": 2, "y": "猫"}, "empty": []}
    assert text.isascii()
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_growing_json_does_not_grow_in_memory(tmp_path):
    entry = {"counts": "x" * 10_000}
    tracemalloc.start()
    try:
        with _collection.JsonListWriter(tmp_path, "a") as grown:
            for _ in range(500):
                grown.add("a", entry)
            grown.save(tmp_path / "a.json", {})
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "a.json").stat().st_size > 5_000_000
    assert most < 500_000


def test_the_longest_name_has_room_for_its_draft(tmp_path):
    path = tmp_path / ("猫" * 83 + ".png")  # 253 bytes of 255
    with replacing(path) as (draft,):
        draft.write_text("x")
        assert len(os.fsencode(draft.name)) <= 255
    assert path.read_text() == "x"


def test_names_are_told(tmp_path):
    check_names(result(), ":", tmp_path)
    with pytest.raises(OutputError, match="'a:b'"):
        check_names(result(names=("a:b", "c")), ":", tmp_path)
    with pytest.raises(OutputError, match="ends"):
        check_names(result(names=(" a", "c")), "", tmp_path, blank=False)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"collection": "coco", "labels": []}'])
def test_a_record_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ImageError, match="record"):
        _collection.read_run(tmp_path)


def test_one_image_does_not_take_a_strange_record_for_its_own(tmp_path):
    (tmp_path / "run.json").write_text("[]")
    result().save(tmp_path, format="coco")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(OutputError, match="empty folder"):
        result().save(tmp_path, format="coco")


def test_a_folder_has_no_ending(tmp_path):
    with pytest.raises(OutputError, match=r"Accepted endings are .overlay.png, .*.png") as told:
        result().save(tmp_path / "out")
    assert "are ," not in str(told.value)


def test_knobs_of_a_collection_are_checked(tmp_path):
    with pytest.raises(OptionError, match="each"):
        result().save(tmp_path / "out", format="coco", each="thing")
    with pytest.raises(OptionError, match="each"):
        save_all([result()], tmp_path / "out", "coco", each="thing")
    assert not (tmp_path / "out").exists()


def test_the_order_and_the_endings_of_images_are_kept(tmp_path):
    save_all([("z", result("1.JPEG")), ("a/b", result("b.png")), ("m", result("picture"))], tmp_path, "coco")
    images = json.loads((tmp_path / "instances.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["z.JPEG", "a/b.png", "m"]
    assert np.array([found.ids for _, found in coco.read(tmp_path)]).sum() == 0
