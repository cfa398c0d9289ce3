"""Files of other programs' arrays: only what is named is read, and limits hold before, not after."""

from __future__ import annotations

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nerveseg import refinement
from nerveseg.errors import SavedError, ShapeError
from nerveseg.image import arrays

SCORES = np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4)


def npy(array) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def head(shape, dtype="<f4") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": dtype, "fortran_order": False, "shape": shape})
    return out.getvalue()


def pack(path, compress=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def test_what_stands_beside_a_named_array_is_not_read(tmp_path):
    path = tmp_path / "a.npz"
    beside = np.zeros(30_000_000)  # 240 MB, a quarter of one in the file
    np.savez_compressed(path, scores=SCORES, beside=beside)
    del beside
    tracemalloc.start()
    saved = arrays.read(path, "scores")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    np.testing.assert_array_equal(saved.floats("scores", "K, h, w").numpy(), SCORES)
    assert set(saved.names) == {"scores", "beside"}


def test_objects_beside_a_named_array_do_not_matter(tmp_path):
    np.savez(tmp_path / "a.npz", scores=SCORES, meta=np.array([{"a": 1}], dtype=object))
    assert arrays.read(tmp_path / "a.npz", "scores").floats("scores", "K, h, w").shape == (2, 3, 4)
    with pytest.raises(SavedError, match="never loaded"):
        arrays.read(tmp_path / "a.npz", "meta")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [">f4", "<f2", "u1", ">i8", "?"])
def test_layouts_and_byte_orders_are_read_as_numpy_reads_them(tmp_path, dtype, order):
    np.savez(tmp_path / "a.npz", scores=np.asarray(SCORES * 9, dtype=dtype, order=order))
    found = arrays.read(tmp_path / "a.npz").arrays["scores"].float().numpy()
    np.testing.assert_array_equal(found, np.asarray(SCORES * 9, dtype=dtype).astype("f4"))


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ({"scores": head((1 << 15, 1 << 10, 1 << 10))}, "in float32"),
        ({"scores": head((1 << 62, 4))}, "in float32"),
        ({"scores": head((2, 3, 4))}, "holds others"),
        ({"scores": npy(SCORES) + b"more"}, "holds others"),
        ({"scores": head((2, 3, 4), "|O")}, "never loaded"),
        ({"scores": head((2, 3, 4), "|S8") + bytes(24 * 8)}, "Accepted are plain numbers"),
        ({"scores": npy(SCORES), "labels": head((1,), "<U20000000") + bytes(80_000_000)}, "names of"),
        ({"scores": b"no numbers"}, "cannot be read"),
        ({"scores": b"\x93NUMPY\x01\x00\xff\xff" + b"{" * 65535}, "cannot be read"),
    ],
)
def test_arrays_are_refused_by_what_is_said_of_them(tmp_path, members, match):
    path = pack(tmp_path / "a.npz", zipfile.ZIP_DEFLATED, **members)
    with pytest.raises(SavedError, match=match):
        arrays.read(path, "scores")


def test_a_size_that_the_archive_states_and_cannot_hold_is_refused_before_room_is_made(tmp_path):
    path = pack(tmp_path / "a.npz", scores=head((100, 1000, 1000)) + b"\0" * 16)
    raw = bytearray(path.read_bytes())
    stated = len(head((100, 1000, 1000))) + 400_000_000
    entry = raw.rfind(b"PK\x01\x02")
    raw[entry + 24 : entry + 28] = stated.to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(SavedError, match=r"holds others|cannot be read"):
        arrays.read(path, "scores")


def test_the_same_name_twice_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("scores.npy", npy(SCORES))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("scores.npy", npy(SCORES))
    with pytest.raises(SavedError, match="twice"):
        arrays.read(path, "scores")


def test_safetensors_too(tmp_path, monkeypatch):
    save_file({"scores": torch.from_numpy(SCORES), "beside": torch.zeros(10)}, tmp_path / "a.safetensors")
    assert set(arrays.read(tmp_path / "a.safetensors", "scores").arrays) == {"scores"}
    monkeypatch.setattr(arrays, "MOST", 95)
    with pytest.raises(SavedError, match="'scores' takes 96 bytes"):
        arrays.read(tmp_path / "a.safetensors", "scores")
    assert set(arrays.read(tmp_path / "a.safetensors", "beside").arrays) == {"beside"}


@pytest.mark.parametrize(("maps", "background"), [(65537, None), (65536, None), (65535, "auto")])
def test_more_maps_than_ids_are_refused_up_front(maps, background):
    given = np.full((maps, 1, 1), 1 / maps, np.float32)
    with pytest.raises(ShapeError, match="Accepted are 65535"):
        refinement.prepare(given, refinement.recipe_for("mini"), background=background)
