"""Archives: found, checked, downloaded in parts, unpacked without tricks, and converted so that a stop loses nothing."""

from __future__ import annotations

import hashlib
import io
import re
import stat
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from nerveseg.datasets import _archives, _prepare
from nerveseg.datasets._archives import Archive, check, download
from nerveseg.datasets._prepare import Job, below, write_mask
from nerveseg.datasets._unpack import unpack
from nerveseg.errors import DataError, OptionError, OutputError

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def server():
    """``server.url``; ``cut`` bytes are sent at most, ``ranges`` says what was asked for, ``whole`` ignores ranges."""
    state = SimpleNamespace(content=CONTENT, cut=None, ranges=[], whole=False, tag='"one"', status=200)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            state.ranges.append(asked)
            if state.status != 200:
                self.send_error(state.status)
                return
            same = self.headers.get("If-Range", state.tag) == state.tag
            start = int(re.search(r"\d+", asked).group()) if asked and same and not state.whole else 0
            if start >= len(state.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(state.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", state.tag)
            self.end_headers()
            self.wfile.write(body if state.cut is None else body[: state.cut])

        def log_message(self, *_):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{made.server_port}/a.bin"
    yield state
    made.shutdown()
    made.server_close()


@pytest.fixture
def archive(server, monkeypatch):
    monkeypatch.setattr(_archives, "_CHUNK", 100)
    return Archive("a.bin", server.url, bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())


def test_a_download_is_whole_and_told(tmp_path, archive):
    said = []
    path = download(archive, tmp_path / "new", lambda *step: said.append(step))
    assert path.read_bytes() == CONTENT
    assert said[-1] == ("downloading a.bin", len(CONTENT), len(CONTENT))
    assert [left.name for left in path.parent.iterdir()] == ["a.bin"]


def test_a_download_goes_on_where_it_was_cut_off(tmp_path, archive, server):
    server.cut = 2000
    with pytest.raises(DataError, match=r"Got no more of http.*same command again, which goes on from there"):
        download(archive, tmp_path)
    had = (tmp_path / "a.bin.part").stat().st_size
    assert had == 2000 * len(server.ranges)  # each try of the first run went on, too
    server.cut, server.ranges = None, []
    assert download(archive, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={had}-"]
    server.ranges.clear()
    download(archive, tmp_path)
    assert server.ranges == []  # it is there


def test_a_cut_is_mended_within_one_command(tmp_path, archive, server):
    server.cut = 3000
    assert download(archive, tmp_path).read_bytes() == CONTENT
    assert len(server.ranges) == 4


@pytest.mark.parametrize("kind", ["a new release", "no parts", "all is here"])
def test_parts_of_other_bytes_are_not_mixed(tmp_path, archive, server, kind):
    (tmp_path / "a.bin.part").write_bytes(CONTENT if kind == "all is here" else b"old" * 100)
    if kind == "a new release":
        (tmp_path / "a.bin.part.etag").write_text('"zero"')
    server.whole = kind == "no parts"
    assert download(archive, tmp_path).read_bytes() == CONTENT
    assert len(server.ranges) == 1


def test_other_bytes_than_published_are_refused(tmp_path, archive, server):
    server.content = CONTENT[::-1]
    with pytest.raises(DataError, match=r"whose bytes are not the published ones .* Accepted is sha256:"):
        download(archive, tmp_path)
    assert not (tmp_path / "a.bin").exists()
    server.content = CONTENT
    assert download(archive, tmp_path).read_bytes() == CONTENT


def test_a_refusal_is_told(tmp_path, archive, server):
    server.status = 404
    with pytest.raises(DataError, match=r"404.*give its folder as --from"):
        download(archive, tmp_path)


def test_no_room_is_told_before_the_first_byte(tmp_path, archive, server, monkeypatch):
    monkeypatch.setattr(_archives.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(DataError, match=r"Got 10 free bytes in .* for a\.bin"):
        download(archive, tmp_path)
    assert server.ranges == []


def test_files_on_disk_are_held_to_what_is_published(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(CONTENT)
    check(Archive("a.bin", md5=hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()), path)
    with pytest.raises(DataError, match=r"a\.bin of 10,240 bytes\. Accepted are the 7 bytes"):
        check(Archive("a.bin", bytes=7), path)
    with pytest.raises(DataError, match=r"a\.bin with the md5 [0-9a-f]{32}\. Accepted is 00, which is published"):
        check(Archive("a.bin", md5="00"), path)


FILES = {"top/a.txt": b"one", "top/deep/b.txt": b"two", "other/c.txt": b"three"}


def tape(path, files=FILES, mode="w", more=()):
    with tarfile.open(path, mode) as made:
        for name, raw in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            made.addfile(info, io.BytesIO(raw))
        for info in more:
            made.addfile(info)
    return path


def zipped(path, files=FILES, more=()):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("top/", b"")
        for name, raw in files.items():
            made.writestr(name, raw)
        for info, raw in more:
            made.writestr(info, raw)
    return path


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.xz", "zip"])
def test_what_is_asked_for_is_unpacked(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    made = zipped(path) if kind == "zip" else tape(path, mode=f"w:{kind[4:]}" if len(kind) > 3 else "w")
    said = []
    assert unpack(made, tmp_path / "out", below("top", "new"), said=lambda *step: said.append(step)) == (2, 2)
    found = {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"new/a.txt": b"one", "new/deep/b.txt": b"two"}
    assert said
    assert all(stage == f"unpacking {made.name}" and 0 <= done <= total == made.stat().st_size for stage, done, total in said)


def test_what_is_there_is_left_and_another_file_of_its_name_is_refused(tmp_path):
    made = zipped(tmp_path / "a.zip")
    unpack(made, tmp_path, below("top", "new"))
    (tmp_path / "new/a.txt").write_bytes(b"own")  # the same size
    assert unpack(made, tmp_path, below("top", "new")) == (2, 0)
    assert (tmp_path / "new/a.txt").read_bytes() == b"own"
    (tmp_path / "new/deep/b.txt").write_bytes(b"t")
    with pytest.raises(OutputError, match=r"of 1 bytes, where a[.]zip has 3"):
        unpack(made, tmp_path, below("top", "new"))
    assert (tmp_path / "new/deep/b.txt").read_bytes() == b"t"
    assert unpack(made, tmp_path, below("top", "new"), again=True) == (2, 2)
    assert (tmp_path / "new/a.txt").read_bytes() == b"one"


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "top/../../out.txt", "top\\..\\out.txt", "C:/out.txt"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_that_lead_out_are_refused(tmp_path, name, kind):
    made = (tape if kind == "tar" else zipped)(tmp_path / f"a.{kind}", {name: b"bad"})
    with pytest.raises(DataError, match="no name below it"):
        unpack(made, tmp_path / "deep/root", lambda inside: inside)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [made.name]


def test_a_place_that_leads_out_is_refused(tmp_path):
    with pytest.raises(DataError, match="no name below it"):
        unpack(tape(tmp_path / "a.tar"), tmp_path / "root", lambda inside: f"../{inside}")


@pytest.mark.parametrize("kind", ["symbolic", "hard", "device", "zip"])
def test_links_are_refused(tmp_path, kind):
    if kind == "zip":
        info = zipfile.ZipInfo("top/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        made = zipped(tmp_path / "a.zip", more=[(info, b"/etc/passwd")])
    else:
        info = tarfile.TarInfo("top/link")
        info.type = {"symbolic": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "device": tarfile.FIFOTYPE}[kind]
        info.linkname = "/etc/passwd"
        made = tape(tmp_path / "a.tar", more=[info])
    with pytest.raises(DataError, match="'top/link' is a link"):
        unpack(made, tmp_path / "out", below("top", "new"))
    assert unpack(made, tmp_path / "out", below("other", "new")) == (1, 1)  # one that nobody asked for does no harm


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.xz", "tar.bz2", "zip", "text", "nothing"])
def test_damaged_archives_are_named(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    noise = {"top/a.bin": np.random.default_rng(0).bytes(50_000)}
    if kind == "zip":
        zipped(path, noise)
    elif kind.startswith("tar"):
        tape(path, noise, mode=f"w:{kind[4:]}" if len(kind) > 3 else "w")
    elif kind == "text":
        path.write_text("<html>Please log in</html>")
    if kind not in ("text", "nothing"):
        path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(DataError, match=rf"archive .*a\.{kind}"):
        unpack(path, tmp_path / "out", below("top", "new"))
    assert not [left for left in (tmp_path / "out").rglob("*") if left.is_file()]


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_bytes_that_were_changed_are_found(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    noise = {"top/a.bin": np.random.default_rng(0).bytes(50_000)}
    if kind == "zip":
        zipped(path, noise)
    else:
        tape(path, noise, mode=f"w:{kind[4:]}")
    raw = bytearray(path.read_bytes())
    raw[25_000] ^= 255
    path.write_bytes(raw)
    with pytest.raises(DataError, match=rf"archive .*a\.{kind}, which is damaged"):
        unpack(path, tmp_path / "out", below("top", "new"))
    assert not [left for left in (tmp_path / "out").rglob("*") if left.is_file()]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "new").write_text("a file")
    with pytest.raises(OutputError, match=r"new/a\.txt, which cannot be written"):
        unpack(tape(tmp_path / "a.tar"), tmp_path, below("top", "new"))


def test_a_job_refuses_an_archive_of_something_else(tmp_path):
    job = Job(tmp_path, "val", {"a.tar": tape(tmp_path / "a.tar")})
    assert job.unpack("a.tar", below("top", "new")) == 2
    assert job.unpack("absent.tar", below("top", "new")) == 0  # unpacked beforehand
    with pytest.raises(DataError, match=r"a\.tar without any of the files that a\.tar should hold"):
        job.unpack("a.tar", below("nowhere", "new"))


def test_masks_are_made_once_and_a_stop_loses_nothing(tmp_path):
    for number in range(6):
        Image.fromarray(np.full((2, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    pairs = [(tmp_path / f"{number}.png", tmp_path / "made" / f"{number}.png") for number in range(6)]
    turned = []

    def turn(path):
        turned.append(path.name)
        if path.name == "4.png" and len(turned) < 7:
            raise DataError("Got 4. Accepted is less. Stop.")
        return np.asarray(Image.open(path)) * 2

    job = Job(tmp_path, "val", workers=1)
    with pytest.raises(DataError, match="Got 4"):
        job.masks(pairs, turn)
    done = {path.name for path in (tmp_path / "made").iterdir()}
    assert {"0.png", "1.png", "2.png", "3.png"} <= done  # and no half of a file
    assert all(name.endswith(".png") and not name.startswith(".") for name in done)
    turned.extend(["-"] * 7)
    assert job.masks(pairs, turn) == 6 - len(done)
    assert job.masks(pairs, turn) == 0
    assert Job(tmp_path, "val", again=True).masks(pairs, turn) == 6
    np.testing.assert_array_equal(np.asarray(Image.open(pairs[5][1])), np.full((2, 3), 10))


def test_masks_are_grey_of_8_or_16_bits(tmp_path):
    for kind, mode in ((np.uint8, "L"), (np.uint16, "I;16")):
        write_mask(tmp_path / "new" / "a.png", np.arange(6, dtype=kind).reshape(2, 3))
        with Image.open(tmp_path / "new" / "a.png") as image:
            assert image.mode == mode
            assert np.asarray(image).tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(DataError, match=r"shape \(2, 3\) and type int64"):
        write_mask(tmp_path / "a.png", np.zeros((2, 3), np.int64))


def test_archives_that_are_missing_are_all_named(tmp_path):
    with pytest.raises(DataError, match=r"without leftImg8bit_trainvaltest\.zip, gtFine_trainvaltest\.zip\..*11 GB; it takes an account"):
        _prepare.prepare("cityscapes", tmp_path, archives_from=tmp_path)
    with pytest.raises(DataError, match=r"--from .*nowhere, which is no folder"):
        _prepare.prepare("cityscapes", tmp_path, archives_from=tmp_path / "nowhere")
    with pytest.raises(DataError, match="split 'test' of cityscapes"):
        _prepare.needed("cityscapes", "test")
    with pytest.raises(OptionError, match="embedded, of which nothing is downloaded"):
        _prepare.needed("embedded")


def test_an_archive_serves_its_splits():
    assert [archive.name for archive in _prepare.needed("coco_stuff", "val")] != [
        archive.name for archive in _prepare.needed("coco_stuff", "train")
    ]
    assert Archive("a").serves("val")
    assert not Archive("a", splits=("train",)).serves("val")
