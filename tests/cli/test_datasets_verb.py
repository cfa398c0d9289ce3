"""``nerveseg datasets``: what there is, the layout from archives, and whether it is whole."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from nerveseg import datasets
from nerveseg.datasets import cityscapes


@pytest.fixture
def root(tmp_path):
    (tmp_path / "my/images").mkdir(parents=True)
    (tmp_path / "my/masks").mkdir()
    (tmp_path / "my/names.txt").write_text("cat\ndog\n")
    for stem in "ab":
        Image.new("RGB", (3, 2)).save(tmp_path / f"my/images/{stem}.jpg")
        Image.fromarray(np.array([[0, 1, 1], [0, 0, 255]], np.uint8)).save(tmp_path / f"my/masks/{stem}.png")
    return tmp_path / "my"


def test_list_has_every_data_set(run, root):
    result = run("datasets", "list", "--json", "--root", root)
    assert result.exit_code == 0, result.stderr
    rows = {row["name"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert tuple(rows) == datasets.names()
    assert rows["voc21"]["archives"][0]["bytes"] == 1_999_639_040
    assert rows["voc21"]["names"] == ["official", "lposs", "tagclip"]
    assert (rows["folder"]["here"], rows["voc21"]["here"], rows["embedded"]["here"]) == (True, False, True)
    shown = run("datasets", "list").stdout
    for word in ("licence", "Cityscapes, 19 classes", "by hand", "2.0 GB", "embedded"):
        assert word in shown


def test_verify_shows_pixels_of_each_class(run, root):
    result = run("datasets", "verify", "folder", "--root", root)
    assert result.exit_code == 0, result.stderr
    assert "folder all: 2 images, 2 items, 2 pixels not counted" in result.stderr
    assert "good: every file was read" in result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["0", "cat", "6", "60.00", "%", "2"] in rows
    assert ["1", "dog", "4", "40.00", "%", "2"] in rows


def test_verify_names_what_is_wrong_and_exits_3(run, root):
    (root / "masks/b.png").unlink()
    result = run("datasets", "verify", "folder", "--root", root)
    assert result.exit_code == 3
    assert "error: b: Got no mask" in result.stderr
    told = run("datasets", "verify", "folder", "--root", root, "--json")
    assert told.exit_code == 3
    content = json.loads(told.stdout)
    assert [problem["item"] for problem in content["problems"]] == ["b"]
    assert content["classes"][1] == {"id": 1, "name": "dog", "pixels": 2, "items": 1}


def test_what_cannot_be_opened_exits_1_and_a_wrong_name_2(run, tmp_path):
    result = run("datasets", "verify", "voc21", "--root", tmp_path)
    assert result.exit_code == 1
    assert "nerveseg datasets prepare voc21 --root" in result.stderr
    assert run("datasets", "verify", "voc22", "--root", tmp_path).exit_code == 2
    assert run("datasets", "prepare", "voc21").exit_code == 2  # no root
    assert "of which nothing is downloaded" in run("datasets", "prepare", "embedded", "--root", tmp_path).stderr


def test_prepare_says_what_comes_next(run, tmp_path, monkeypatch):
    monkeypatch.setattr(cityscapes, "archives", tuple(replace(archive, md5=None) for archive in cityscapes.archives))
    folder = tmp_path / "from"
    folder.mkdir()
    for archive, name, values in (
        ("leftImg8bit_trainvaltest.zip", "leftImg8bit/val/x/x_0_0_leftImg8bit.png", np.zeros((1024, 2048, 3), np.uint8)),
        ("gtFine_trainvaltest.zip", "gtFine/val/x/x_0_0_gtFine_labelIds.png", np.full((1024, 2048), 26, np.uint8)),
    ):
        out = io.BytesIO()
        Image.fromarray(values).save(out, "PNG")
        with zipfile.ZipFile(folder / archive, "w") as zipped:
            zipped.writestr(name, out.getvalue())
    result = run("datasets", "prepare", "cityscapes", "--root", tmp_path / "data", "--from", folder)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"cityscapes\tval\t{tmp_path / 'data'}\n"
    assert "made: 1 items in val of cityscapes, masks in cityscapes/gtFine/val/x" in result.stderr
    assert f"next: nerveseg datasets verify cityscapes --root {tmp_path / 'data'} --split val" in result.stderr
    checked = run("datasets", "verify", "cityscapes", "--root", tmp_path / "data", "--partial", "--json")
    assert checked.exit_code == 0, checked.stderr
    assert json.loads(checked.stdout)["classes"][13] == {"id": 13, "name": "car", "pixels": 1024 * 2048, "items": 1}
    assert run("datasets", "verify", "cityscapes", "--root", tmp_path / "data").exit_code == 3  # 1 of 500
