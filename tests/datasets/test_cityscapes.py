"""Cityscapes: a miniature of both archives, label ids to train ids by the published table, whole frames and halves."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from nerveseg import datasets
from nerveseg.datasets import IGNORE, cityscapes
from nerveseg.datasets._prepare import prepare
from nerveseg.datasets._verify import verify
from nerveseg.errors import DataError

# The published label definition by hand: label id → (name, train id).
_LABELS = {
    7: ("road", 0), 8: ("sidewalk", 1), 11: ("building", 2), 12: ("wall", 3), 13: ("fence", 4), 17: ("pole", 5),
    19: ("traffic light", 6), 20: ("traffic sign", 7), 21: ("vegetation", 8), 22: ("terrain", 9), 23: ("sky", 10),
    24: ("person", 11), 25: ("rider", 12), 26: ("car", 13), 27: ("truck", 14), 28: ("bus", 15), 31: ("train", 16),
    32: ("motorcycle", 17), 33: ("bicycle", 18),
}  # fmt: skip
_FRAMES = {"frankfurt": "frankfurt_000000_000294", "lindau": "lindau_000000_000019"}


def labels(seed):
    """Blocks of all 34 label ids, 1024 × 2048."""
    blocks = np.random.default_rng(seed).permutation(np.arange(16 * 32) % 34).reshape(16, 32).astype(np.uint8)
    return np.kron(blocks, np.ones((64, 64), np.uint8))


def png(values):
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG", compress_level=1)
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("from")
    frames = zipfile.ZipFile(place / "leftImg8bit_trainvaltest.zip", "w")
    masks = zipfile.ZipFile(place / "gtFine_trainvaltest.zip", "w")
    with frames, masks:
        for zipped in (frames, masks):
            zipped.writestr("README", "read me")
            zipped.writestr("license.txt", "terms")
        for seed, (city, name) in enumerate(_FRAMES.items()):
            colour = np.zeros((1024, 2048, 3), np.uint8)
            colour[:, 1024:] = 200
            frames.writestr(f"leftImg8bit/val/{city}/{name}_leftImg8bit.png", png(colour))
            masks.writestr(f"gtFine/val/{city}/{name}_gtFine_labelIds.png", png(labels(seed)))
            masks.writestr(f"gtFine/val/{city}/{name}_gtFine_instanceIds.png", png(labels(seed).astype(np.uint16)))
            masks.writestr(f"gtFine/val/{city}/{name}_gtFine_polygons.json", "{}")
        frames.writestr("leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png", b"")
    return place


@pytest.fixture
def made(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(cityscapes, "archives", tuple(replace(archive, md5=None) for archive in cityscapes.archives))
    prepare("cityscapes", tmp_path, archives_from=folder)
    return tmp_path


def test_label_ids_become_train_ids(made):
    data = datasets.open("cityscapes", made)
    assert data.names.names == tuple(name for name, _ in sorted(_LABELS.values(), key=lambda label: label[1]))
    assert [item.id for item in data.items] == list(_FRAMES.values())
    for seed, item in enumerate(data.items):
        expected = np.full((1024, 2048), IGNORE, np.uint16)
        for label, (_, index) in _LABELS.items():
            expected[labels(seed) == label] = index
        np.testing.assert_array_equal(data.mask(item), expected)
    assert not list(made.rglob("*instanceIds*"))
    assert not (made / "cityscapes/leftImg8bit/test").exists()


def test_halves_are_the_two_sides_of_a_frame(made):
    whole, halves = datasets.open("cityscapes", made), datasets.open("cityscapes", made, protocol="cliper")
    assert [item.id for item in halves.items[:2]] == [f"{_FRAMES['frankfurt']}-left", f"{_FRAMES['frankfurt']}-right"]
    (left, left_mask), (right, right_mask) = (halves.read(item) for item in halves.items[:2])
    assert left.size == right.size == (1024, 1024)
    assert (int(left.pixels.max()), int(right.pixels.min())) == (0, 200)
    np.testing.assert_array_equal(np.concatenate([left_mask, right_mask], axis=1), whole.mask(whole.items[0]))


def test_verify_counts_frames_and_pixels(made):
    counts = [verify(datasets.open("cityscapes", made, protocol=protocol), partial=True) for protocol in ("sclip", "cliper")]
    assert [(report.good, report.files, len(report.data)) for report in counts] == [(True, 2, 2), (True, 2, 4)]
    np.testing.assert_array_equal(counts[0].pixels, counts[1].pixels)
    assert counts[0].ignored + counts[0].pixels.sum() == 2 * 1024 * 2048


def test_label_ids_on_disk_are_converted_without_archives(made):
    for path in made.rglob("*labelTrainIds.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"with label ids and without train ids .*prepare cityscapes --root"):
        datasets.open("cityscapes", made)
    assert len(prepare("cityscapes", made)) == 2
    assert len(list(made.rglob("*labelTrainIds.png"))) == 2
    home = made / "cityscapes"
    assert len(datasets.open("cityscapes", home)) == 2  # the folder itself as the root


def test_the_archives_take_an_account(tmp_path):
    with pytest.raises(DataError, match=r"without an account.*leftImg8bit_trainvaltest\.zip.*cityscapes-dataset\.com/downloads"):
        prepare("cityscapes", tmp_path)


def test_a_mask_that_is_no_label_map_is_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 200, np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png with the value 200\. Accepted are label ids from 0 to 33"):
        cityscapes.train_ids(tmp_path / "a.png")
