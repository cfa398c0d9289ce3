from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from nerveseg import registry
from nerveseg.errors import OutputError
from nerveseg.picture import load
from nerveseg.segmentation import Segmentation
from nerveseg.words import Label

NAMES = ("cat", "猫; кот", 'quote " and \\', "naïve 🐈", "a/b", " ")


@pytest.fixture(params=registry.names("writers"))
def stage(request):
    return registry.load("writers", request.param)


def result(ids, names=NAMES):
    ids = torch.as_tensor(np.asarray(ids, dtype=np.int64))
    picture = load(np.random.default_rng(0).integers(0, 256, (*ids.shape, 3), dtype=np.uint8))
    return Segmentation(ids, torch.full((len(names), 1, 1), 1 / len(names)), tuple(Label(name, (name,)) for name in names), picture)


def checkers():
    """One-pixel parts, a hole, and pixels that are ignored."""
    ids = np.indices((20, 30)).sum(0) % 3
    ids[5:15, 5:15] = 4
    ids[8:12, 8:12] = 0
    ids[0, :7] = 255
    return ids


def write(stage, made, path):
    return stage.write(made, path, stage.Options())


def test_the_registry_lists_the_writers():
    assert {"png", "overlay"} <= set(registry.names("writers"))


def test_every_writer_declares_itself(stage):
    assert stage.suffix.startswith(".")
    assert stage.holds(1)
    registry.check(stage.Options())
    assert all(field.metadata["doc"] for field in dataclasses.fields(stage.Options))


def test_endings_tell_writers_apart():
    endings = [registry.load("writers", name).suffix for name in registry.names("writers")]
    assert len(set(endings)) == len(endings)


@pytest.mark.parametrize("name", ["a", "名前 ü", "a.b", "-x"])
def test_ids_and_names_come_back(stage, tmp_path, name):
    made = result(checkers())
    files = write(stage, made, tmp_path / (name + stage.suffix))
    assert all(file.is_file() for file in files)
    assert sorted(file.name for file in files) == sorted(file.name for file in tmp_path.iterdir())
    if hasattr(stage, "read"):
        found = stage.read(files[0])
        np.testing.assert_array_equal(found.ids, made.segmentation.numpy())
        assert found.labels == NAMES


@pytest.mark.parametrize("ids", [np.full((2, 4), 255), np.full((2, 4), 5), [[0]]])
def test_maps_with_no_or_one_label_used(stage, tmp_path, ids):
    made = result(ids)
    files = write(stage, made, tmp_path / f"a{stage.suffix}")
    if hasattr(stage, "read"):
        np.testing.assert_array_equal(stage.read(files[0]).ids, made.segmentation.numpy())


def test_three_hundred_labels_or_a_clear_no(stage, tmp_path):
    names = tuple(f"thing {number}" for number in range(300))
    made = result(np.arange(300).reshape(15, 20), names)
    if not stage.holds(300):
        with pytest.raises(OutputError, match="300"):
            write(stage, made, tmp_path / f"a{stage.suffix}")
        return
    files = write(stage, made, tmp_path / f"a{stage.suffix}")
    if hasattr(stage, "read"):
        found = stage.read(files[0])
        np.testing.assert_array_equal(found.ids, made.segmentation.numpy())
        assert found.labels == names


def test_an_older_file_is_replaced(stage, tmp_path):
    path = tmp_path / f"a{stage.suffix}"
    write(stage, result(np.zeros((4, 4))), path)
    before = path.read_bytes()
    write(stage, result(np.ones((4, 4))), path)
    assert path.read_bytes() != before


def test_the_same_result_gives_the_same_bytes(stage, tmp_path):
    first = [file.read_bytes() for file in write(stage, result(checkers()), tmp_path / f"a{stage.suffix}")]
    again = [file.read_bytes() for file in write(stage, result(checkers()), tmp_path / f"b{stage.suffix}")]
    assert first == again


def test_a_missing_folder_and_a_folder_in_the_way_are_refused(stage, tmp_path):
    (tmp_path / f"folder{stage.suffix}").mkdir()
    for path in (tmp_path / "none" / f"a{stage.suffix}", tmp_path / f"folder{stage.suffix}"):
        with pytest.raises(OutputError):
            write(stage, result([[0]]), path)
    assert [path.name for path in tmp_path.iterdir()] == [f"folder{stage.suffix}"]


def test_a_crash_while_writing_leaves_nothing_half(stage, tmp_path, monkeypatch):
    from PIL import Image

    path = tmp_path / f"a{stage.suffix}"
    write(stage, result(np.zeros((4, 4))), path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def half(self, target, *args, **options):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(OutputError, match="No space left"):
        write(stage, result(np.ones((4, 4))), path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
