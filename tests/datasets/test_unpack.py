"""Archives that state more than they hold, or the same file twice: refused before a byte is written."""

from __future__ import annotations

import io
import tarfile
import zipfile

import pytest

from nerveseg.datasets import _unpack
from nerveseg.datasets._unpack import below, unpack
from nerveseg.errors import DataError, OutputError


def header(name, size, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(f"top/{name}")
    info.size, info.type = size, kind
    return info


def gnu_sparse(stated):
    """A tar of one block whose only file says that it is as long as stated, with nothing in it."""
    raw = bytearray(header("big.bin", 0, tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    raw[386:398] = tarfile.itn(stated, 12, tarfile.GNU_FORMAT)  # an extent of no bytes at the end
    raw[398:410] = tarfile.itn(0, 12, tarfile.GNU_FORMAT)
    raw[483:495] = tarfile.itn(stated, 12, tarfile.GNU_FORMAT)
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(raw))[0]
    return bytes(raw) + bytes(1024)


def pax_sparse(stated):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tape:
        info = header("big.bin", 0)
        info.pax_headers = {
            "GNU.sparse.major": "0",
            "GNU.sparse.minor": "1",
            "GNU.sparse.size": str(stated),
            "GNU.sparse.map": f"{stated},0",
        }
        tape.addfile(info)
    return out.getvalue()


def long(stated):
    return header("big.bin", stated).tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def zipped(*names, stated=None):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(f"top/{name}"), b"x")
    raw = bytearray(out.getvalue())
    if stated is not None:
        at = raw.rfind(b"PK\x01\x02")
        raw[at + 24 : at + 28] = stated.to_bytes(4, "little")
    return bytes(raw)


def taped(*names, kind=tarfile.REGTYPE):
    return b"".join(header(name, 0, kind).tobuf() for name in names) + bytes(1024)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (gnu_sparse(8 << 40), "sparse"),
        (pax_sparse(8 << 40), "sparse"),
        (long(8 << 40), "Accepted are 8,589,934,592 bytes a file"),
        (long(8 << 30), "times its size"),
        (zipped("a", stated=(1 << 32) - 2), "times its size"),
        (taped("a", "a"), "are one file"),
        (taped("a.png", "A.PNG"), "are one file"),
        (taped("é", "e\u0301"), "are one file"),
        (zipped("a", "A"), "are one file"),
        (taped("a", kind=tarfile.LNKTYPE), "is a link"),
        (taped("a", kind=tarfile.SYMTYPE), "is a link"),
        (taped("a", kind=tarfile.CHRTYPE), "is a link"),
        (taped("a", kind=tarfile.FIFOTYPE), "is a link"),
    ],
)
def test_archives_of_ill_will_write_nothing(tmp_path, content, match):
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(DataError, match=match):
        unpack(path, tmp_path / "out", below("top", "new"))
    written = sorted(file.name for file in tmp_path.rglob("*") if file.is_file())
    assert written in (["a"], ["a", "a"], ["a", "a.png"], ["a", "é"])


def test_files_beyond_number_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_unpack, "MOST_FILES", 3)
    (tmp_path / "a").write_bytes(taped(*"bcde"))
    with pytest.raises(DataError, match="more than 3 files"):
        unpack(tmp_path / "a", tmp_path / "out", lambda _: None)


def test_a_disk_that_is_too_small_is_told_before_a_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(_unpack.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 0}))
    (tmp_path / "a").write_bytes(zipped("b"))
    with pytest.raises(OutputError, match="what is free"):
        unpack(tmp_path / "a", tmp_path / "out", below("top", "new"))
    assert not (tmp_path / "out").exists()
