"""The command itself, in a process: its end, slow senders, what it opens and what it writes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nerveseg.synthetic import scenes

_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")
_FAST = ("--limit", "read_seconds=1.5", "--limit", "body_mib=1", "--limit", "queue=32")


class Running:
    """``nerveseg serve`` on a free port, with a home, a cache and a working folder of its own."""

    def __init__(self, place, *options, **environment):
        self.place = place
        own = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("NERVESEG", "COLUMNS"))},
            **{name: str(place / name) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "NERVESEG_CACHE")},
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        for name in ("HOME", "TMPDIR", "cwd"):
            (place / name).mkdir(exist_ok=True)
        command = [sys.executable, "-m", "nerveseg", "serve", "--recipe", "mini", "--port", "0", "--offline", *options]
        self.process = subprocess.Popen(command, cwd=place / "cwd", env=own, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said = []
        for line in self.process.stderr:
            self.said.append(line)
            if found := _ADDRESS.search(line):
                self.port = int(found.group(1))
                break
        else:
            raise AssertionError("".join(self.said))
        self.reader = threading.Thread(target=lambda: self.said.extend(self.process.stderr), daemon=True)
        self.reader.start()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=300)

    def ask(self, data, pause=0.0):
        """Send bytes in halves, and read until the other side closes."""
        with self.connect() as door:
            half = len(data) // 2
            for part in (data[:half], data[half:]):
                door.sendall(part)
                time.sleep(pause)
            return read(door)

    def end(self):
        self.process.terminate()
        code = self.process.wait(300)
        self.reader.join(10)
        self.process.stderr.close()
        self.process.stdout.close()
        return code


def read(door):
    got = b""
    try:
        while part := door.recv(65536):
            got += part
    except ConnectionResetError:
        pass
    return got


def status(answer):
    return int(answer.split(b" ", 2)[1])


def request(body, path="/v1/segment", kind="multipart/form-data; boundary=x", method="POST", length=None):
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: {kind}\r\n"
    return head.encode() + f"Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


@pytest.fixture(scope="module")
def form(scene):
    data, words = scene
    labels = b'--x\r\nContent-Disposition: form-data; name="labels"\r\n\r\n' + ", ".join(words).encode()
    return labels + b'\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="../../a.png"\r\n\r\n' + data + b"\r\n--x--\r\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    made = Running(tmp_path_factory.mktemp("served"), *_FAST)
    yield made
    made.end()


def test_a_sender_whose_body_does_not_come_is_cut(running, form):
    started = time.monotonic()
    with running.connect() as door:
        door.sendall(request(form)[:-100])
        answer = read(door)
    assert status(answer) == 408
    assert b"application/problem+json" in answer
    assert 1.0 < time.monotonic() - started < 60


def test_a_sender_that_drips_is_cut(running, form):
    started = time.monotonic()
    with running.connect() as door:
        door.sendall(request(b"", length=len(form)))
        door.settimeout(0.1)
        got = b""
        for letter in form:
            with contextlib.suppress(TimeoutError):
                door.sendall(bytes([letter]))
                got += door.recv(65536)
            if got:
                break
    assert got.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("head", [b"", b"POST /v1/segment HTT", b"GET /v1/health HTTP/1.1\r\nHost: 127"])
def test_a_head_that_does_not_come_is_cut(running, head):
    started = time.monotonic()
    with running.connect() as door:
        door.sendall(head)
        assert read(door) == b""
    assert time.monotonic() - started < 60


def test_a_hundred_megabytes_are_cut_at_the_limit(running):
    sent, size = 0, 100 * 1024 * 1024
    with running.connect() as door:
        door.sendall(request(b"", length=size))
        answer, block = b"", bytes(65536)
        door.settimeout(5)
        try:
            while sent < size:
                sent += door.send(block)
                door.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    answer += door.recv(65536)
                door.settimeout(5)
        except OSError:
            pass
        answer += read(door)
    assert sent < 20 * 1024 * 1024  # what lies in the sockets' buffers counts as sent
    assert status(answer) == 413
    assert Path(f"/proc/{running.process.pid}").exists()


def test_what_is_no_http_does_not_end_it(running):
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET " + b"/" * 100_000,
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"\r\n" * 1000,
    ):
        running.ask(data)
    both = b"POST /v1/segment HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    running.ask(both)
    assert status(running.ask(request(b"", "/v1/health", method="GET"))) == 200


def test_an_image_is_answered_and_nothing_is_written_outside_of_the_cache(running, form):
    answer = running.ask(request(form))
    assert status(answer) == 200
    assert b"\x89PNG" in answer
    made = [path for path in running.place.rglob("*") if path.is_file() and running.place / "NERVESEG_CACHE" not in path.parents]
    assert made == []


@pytest.mark.slow
def test_many_clients_get_their_own_answers(running, shipped):
    asked = {}
    for index in range(3):
        scene, out = scenes.render("test", index, (96, 128)), BytesIO()
        Image.fromarray(scene.image).save(out, format="PNG")
        words = [*scene.names, "umbrella"]
        labels = b'--x\r\nContent-Disposition: form-data; name="labels"\r\n\r\n' + ", ".join(words).encode()
        body = labels + b'\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + out.getvalue() + b"\r\n--x--\r\n"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            asked[index] = body, shipped(out.getvalue(), words).segmentation.numpy()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda index: (index, running.ask(request(asked[index % 3][0]))), range(9)))
    for index, answer in answers:
        assert status(answer) == 200
        ids = np.asarray(Image.open(BytesIO(answer.partition(b"\r\n\r\n")[2])))
        assert np.array_equal(ids, asked[index % 3][1])


def test_requests_are_logged_without_what_was_sent(running, form):
    running.ask(request(b"", "/v1/%1b%5b31msecret?token=secret", method="GET"))
    time.sleep(0.2)
    text = "".join(running.said)
    assert "GET other 404" in text
    assert "secret" not in text
    assert "\x1b" not in text
    assert "Traceback" not in text


def test_sigterm_answers_what_was_accepted_and_exits_0(running, form):
    answers, begun = [], threading.Barrier(7)

    def ask():
        with running.connect() as door:
            data = request(form)
            door.sendall(data[:-50])
            begun.wait(300)
            time.sleep(0.5)  # SIGTERM comes while the body is on its way
            door.sendall(data[-50:])
            answers.append(read(door))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    begun.wait(300)
    time.sleep(0.3)
    running.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    late = running.ask(request(form))
    assert status(late) == 503
    assert json.loads(late.partition(b"\r\n\r\n")[2])["type"].endswith(":draining")
    for thread in threads:
        thread.join(120)
    assert [status(answer) for answer in answers] == [200] * 6
    assert running.process.wait(300) == 0
    with pytest.raises(ConnectionRefusedError):
        running.connect()


def test_an_open_door_without_a_token_is_refused(tmp_path):
    command = [sys.executable, "-m", "nerveseg", "serve", "--recipe", "mini", "--host", "0.0.0.0", "--port", "0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "NERVESEG_TOKEN": ""})
    assert result.returncode == 2
    assert "NERVESEG_TOKEN" in result.stderr
    assert "Traceback" not in result.stderr
