from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from nerveseg.errors import ImageError, OutputError
from nerveseg.image import load_image
from nerveseg.masks.palette import voc_palette
from nerveseg.segmentation import Segmentation, WalkInfo
from nerveseg.words import Label
from nerveseg.writers import png
from nerveseg.writers.base import replacing, to_json


def result(ids, count=3, **more):
    ids = torch.as_tensor(ids)
    labels = tuple(Label(f"thing {number}", (f"thing {number}", "synonym")) for number in range(count))
    image = load_image(np.zeros((*ids.shape, 3), dtype=np.uint8), name="street.jpg")
    return Segmentation(ids, torch.ones(count, 1, 1), labels, image, **more)


def test_mode_P_with_vocs_palette_up_to_255_labels(tmp_path):
    ids = [[0, 1, 2, 255]]
    path, _ = png.write(result(ids), tmp_path / "a.png", png.Options())
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.asarray(image).tolist() == ids
        assert image.getpalette() == voc_palette().ravel().tolist()


def test_sixteen_bits_past_255_labels(tmp_path):
    ids = [[0, 299, 65535]]
    path, _ = png.write(result(ids, 300), tmp_path / "a.png", png.Options())
    with Image.open(path) as image:
        assert image.mode == "I;16"
        assert np.asarray(image).tolist() == ids


def test_the_record_says_what_it_takes_to_repeat_it(tmp_path):
    made = result(
        [[0, 1]], recipe="mini", weights={"clip": "abc"}, walk=WalkInfo(8, float("inf"), "stopped", (1.0,)), seconds={"walk": 1.0}
    )
    _, note = png.write(made, tmp_path / "a.png", png.Options())
    run = json.loads(note.read_text(encoding="utf-8"))
    assert note.name == "a.run.json"
    assert run["labels"][1] == {"id": 1, "name": "thing 1", "strings": ["thing 1", "synonym"]}
    assert run["recipe"] == "mini"
    assert run["weights"] == {"clip": "abc"}
    assert run["walk"] == {"steps": 8, "bound": None, "outcome": "stopped", "head_weights": [1.0]}
    assert run["picture"]["sha256"] == made.image.sha256
    assert (run["picture"]["name"], run["picture"]["orientation"]) == ("street.jpg", 1)
    assert (run["ignore_index"], run["id_shift"], run["background"]) == (255, 0, None)
    assert "torch" in run["versions"]
    assert "seconds" not in note.read_text()


def test_the_same_result_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        png.write(result([[0, 1, 2]]), tmp_path / f"{name}.png", png.Options())
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.run.json").read_bytes() == (tmp_path / "b.run.json").read_bytes()


def test_reading_without_a_record_gives_ids_alone(tmp_path):
    png.write(result([[0, 2]]), tmp_path / "a.png", png.Options(sidecar=False))
    found = png.read(tmp_path / "a.png")
    assert found.ids.tolist() == [[0, 2]]
    assert found.labels == ()


def test_reading_what_is_no_label_map_is_refused(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "colour.png")
    (tmp_path / "text.png").write_text("text")
    png.write(result([[0]]), tmp_path / "bad.png", png.Options())
    (tmp_path / "bad.run.json").write_text("{")
    for name in ("colour.png", "text.png", "bad.png", "none.png"):
        with pytest.raises(ImageError):
            png.read(tmp_path / name)


def test_more_labels_than_ids_are_refused(tmp_path):
    assert png.holds(65535)
    assert not png.holds(65536)
    with pytest.raises(OutputError, match="65536 labels"):
        png.write(result([[0]], 65536), tmp_path / "a.png", png.Options())
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_neither_new_files_nor_drafts(tmp_path):
    (tmp_path / "a.png").write_text("old")

    def stop_half_way():
        with replacing(tmp_path / "a.run.json", tmp_path / "a.png") as (note, draft):
            note.write_text("new")
            draft.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stop_half_way()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_text() == "old"


def test_a_full_disk_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="No space left"), replacing(tmp_path / "a.png"):
        raise OSError(28, "No space left on device")


def test_json_has_neither_nan_nor_infinity():
    assert json.loads(to_json({"b": float("nan"), "a": [1.5, float("inf"), {"c": "ü"}]})) == {"a": [1.5, None, {"c": "ü"}], "b": None}


def test_ids_that_somebody_numbered_anew_are_refused(tmp_path):
    path, _ = png.write(result([[0, 1, 2]], 3), tmp_path / "a.png", png.Options())
    with Image.open(path) as image:
        turned = image.remap_palette([2, 1, 0])
    turned.save(path)
    with pytest.raises(ImageError, match="numbered the ids anew"):
        png.read(path)
