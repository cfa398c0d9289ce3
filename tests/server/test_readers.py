"""Images that hold a decoder cost those who send them, and nobody else; and the service ends when it is told to."""

from __future__ import annotations

import importlib.util
import signal
import struct
import sys
import threading
import time
from pathlib import Path

import pytest

WORDS = {"labels": "cat, dog"}


def _by_file(name, path):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


files = _by_file("_hostile_pictures", Path(__file__).parents[1] / "image" / "_hostile.py")
process = _by_file("_served_process", Path(__file__).parent / "test_process.py")


def slow(side=3000):
    """A sound image, whose decoder takes some seconds of the processor."""
    return b"qoif" + struct.pack(">LL", side, side) + b"\3\0" + b"\x40" * (side * side)


def post(client, data):
    return client.post("/v1/segment", files={"file": ("a", data)}, data=WORDS)


@pytest.mark.parametrize("data", [files.jpeg_scans(2000), files.tiff_tags(), files.gif_blocks(20_000)], ids=["jpeg", "tiff", "gif"])
def test_files_that_claim_too_much_are_refused_in_words(serving, problem, data):
    content = problem(post(serving(), data), 422, "picture")
    assert "Accepted" in content["detail"]


def test_an_image_that_takes_long_keeps_nobody_waiting(serving, png, problem):
    client = serving(readers=1, seconds=30)
    client.service.readers.warm()
    answers = []
    holding = threading.Thread(target=lambda: answers.append(post(client, slow())))
    holding.start()
    until = time.monotonic() + 20
    while not client.get("/v1/health").json()["readers"]["slow"]:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert post(client, png(4, 4)).status_code == 200
    assert client.get("/v1/health").json()["status"] == "good"
    assert "nerveseg_readers_slow 1.0" in client.get("/metrics").text
    holding.join(40)
    assert answers[0].status_code in (200, 422, 504)


def test_a_request_whose_time_is_up_frees_its_reader(serving, png, problem):
    client = serving(readers=1, seconds=2.5)
    client.service.readers.warm()
    problem(post(client, slow()), 504, "overdue")
    until = time.monotonic() + 10
    while post(client, png(4, 4)).status_code != 200:
        assert time.monotonic() < until
    readings = client.get("/v1/health").json()["readers"]
    assert (readings["busy"], readings["slow"], readings["failed"]) == (0, 0, False)
    assert readings["ended"] >= 1


def test_health_says_when_no_process_comes_up(serving, png, problem, monkeypatch):
    client = serving()
    client.service.readers.warm()
    client.service.readers.close()
    client.service.readers = type(client.service.readers)()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    problem(post(client, png(4, 4)), 500, "internal")
    problem(client.get("/v1/health"), 503, "readers")


def _held(place, *limits):
    """A service that decodes a slow image."""
    served = process.Running(place, *(part for one in limits for part in ("--limit", one)))
    body = b'--x\r\nContent-Disposition: form-data; name="labels"\r\n\r\ncat, dog\r\n'
    body += b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + slow() + b"\r\n--x--\r\n"
    threading.Thread(target=lambda: served.ask(process.request(body)), daemon=True).start()
    until = time.monotonic() + 30
    while b'"busy":0,"slow":0' in served.ask(process.request(b"", "/v1/health", method="GET")).replace(b" ", b""):
        assert time.monotonic() < until
        time.sleep(0.05)
    return served


@pytest.mark.slow
def test_sigterm_ends_it_within_its_time(tmp_path):
    served = _held(tmp_path, "drain_seconds=5")
    started = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 1
    assert time.monotonic() - started < 5.0
    served.end()


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(tmp_path):
    served = _held(tmp_path)
    served.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert served.process.poll() is None
    started = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 1
    assert time.monotonic() - started < 3
    served.end()
