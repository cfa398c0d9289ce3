from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nerveseg.errors import ImageError, ImageTooLarge, RunError
from nerveseg.image import load_image
from nerveseg.image.readers import Budget, Readers

pytestmark = pytest.mark.skipif(os.name != "posix", reason="readers are processes with limits, which POSIX has")


def png(height=6, width=8, seed=0):
    out = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


def slow(side=1400):
    """An image whose decoder is Python's: some seconds of the processor."""
    return b"qoif" + side.to_bytes(4, "big") * 2 + b"\3\0" + b"\x40" * (side * side)


@pytest.fixture(scope="module")
def readers():
    made = Readers(2, 2)
    yield made
    made.close()


def children():
    """Processes of this one that read images, ended or not."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = place.read_text().rpartition(")")[2].split()[:2]
            line = place.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if int(parent) == os.getpid() and (b"nerveseg.image.worker" in line or state == "Z"):
            found.append(int(place.parent.name))
    return found


def test_it_is_what_load_gives(readers, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png())
    for source in (png(), path, str(path)):
        found, plain = readers.read(source, name=None), load_image(source)
        np.testing.assert_array_equal(found.pixels, plain.pixels)
        assert not found.pixels.flags.writeable
        for name in ("sha256", "name", "orientation", "notes", "path", "size", "made"):
            assert getattr(found, name) == getattr(plain, name), name
    assert readers.read(png(), name="cat.png").name == "cat.png"


@pytest.mark.parametrize("source", [b"nothing", b"", "no/such.png", png()[:60], png(40, 40)])
def test_errors_are_those_of_load(readers, source):
    with pytest.raises(ImageError) as plain:
        load_image(source, max_pixels=1000)
    with pytest.raises(ImageError) as found:
        readers.read(source, max_pixels=1000)
    assert str(found.value) == str(plain.value)
    assert type(found.value) is type(plain.value)


def test_a_process_is_kept_and_has_no_torch(readers):
    readers.read(png())
    before = children()
    for seed in range(5):
        readers.read(png(seed=seed))
    assert set(children()) == set(before)
    text = "import nerveseg.image.worker, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == 0


def test_time_and_memory_are_bounded():
    tight = Readers(1, 1, Budget(seconds=0.0, seconds_a_megapixel=0.0))
    with pytest.raises(ImageError, match="processor time"):
        tight.read(slow())
    assert tight.read(png()).size == (6, 8)
    assert tight.readings.ended == 1
    tight.close()
    small = Readers(1, 1, Budget(mib=8, bytes_a_pixel=0))
    with pytest.raises(ImageTooLarge, match="memory"):
        small.read(png(3000, 3000))
    small.close()


def test_a_deadline_and_a_client_that_goes_end_it(readers):
    readers.warm()
    data = slow(3000)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        readers.read(data, until=time.monotonic() + 0.3)
    gone = threading.Event()
    threading.Timer(0.3, gone.set).start()
    with pytest.raises(TimeoutError):
        readers.read(data, gone=gone.is_set)
    assert time.monotonic() - started < 15
    assert readers.read(png()).size == (6, 8)


def test_an_image_that_takes_long_keeps_nobody_waiting():
    few = Readers(1, 1, quick=0.2)
    few.warm()
    failed = []

    def hold():
        try:
            few.read(slow(3000))
        except RunError as error:
            failed.append(error)

    holding = threading.Thread(target=hold)
    holding.start()
    while not few.readings.slow:
        time.sleep(0.02)
    assert few.read(png()).size == (6, 8)
    assert few.readings.slow == 1
    few.close()
    holding.join(20)
    assert "closed" in str(failed[0])
    with pytest.raises(RunError, match="closed"):
        few.read(png())


def test_a_decoder_that_breaks_costs_its_image_alone():
    others = set(children())
    made = Readers(1, 1)
    made.warm()
    threading.Timer(0.5, lambda: [os.kill(pid, signal.SIGSEGV) for pid in set(children()) - others]).start()
    with pytest.raises(ImageError, match="SIGSEGV"):
        made.read(slow(3000))
    assert made.read(png()).size == (6, 8)
    made.close()


def test_none_is_left_behind():
    before = set(children())
    made = Readers(2, 2)
    made.read(png())
    assert set(children()) - before
    made.close()
    assert set(children()) <= before
    forgotten = Readers(2, 2)
    forgotten.read(png())
    del forgotten
    assert set(children()) <= before


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")
@pytest.mark.parametrize("busy", [False, True])
def test_it_ends_with_its_parent_even_when_that_is_killed(busy):
    work = f"readers.read(b'qoif' + (5000).to_bytes(4, 'big') * 2 + b'\\3\\0' + b'\\x40' * 25_000_000) if {busy} else time.sleep(60)"
    text = (
        "import time, nerveseg.image.readers as r\nreaders = r.Readers()\nreaders.warm()\n"
        f"print(next(iter(readers._all))._child.pid, flush=True)\n{work}"
    )
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as parent:
        worker = Path("/proc") / parent.stdout.readline().strip()
        assert worker.is_dir()
        time.sleep(1.5 if busy else 0.2)
        parent.kill()
    until = time.monotonic() + 10
    while worker.is_dir() and worker.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_process_that_does_not_come_up_is_said(monkeypatch):
    made = Readers()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RunError, match="did not come up"):
        made.read(png())
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(RunError, match="no process"):
        made.read(png())
    assert made.readings.failed
