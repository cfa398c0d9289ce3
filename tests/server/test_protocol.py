"""Connections: those that do not read, those that say nothing, more than there is room for; over a small application."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import threading
import time

import pytest
import uvicorn

from nerveseg.server.protocol import ConnectionLimits, most_connections, seldom, timed


async def small(scope, receive, send):
    """``/N`` answers N bytes at once, ``/stream`` for ever, ``/held`` after a while."""
    if scope["type"] != "http":
        return
    path = scope["path"][1:]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    if path == "held":
        await asyncio.sleep(3)
    if path.isdigit():
        await send({"type": "http.response.body", "body": bytes(int(path))})
        return
    while path == "stream":
        await send({"type": "http.response.body", "body": bytes(1000), "more_body": True})
        await asyncio.sleep(0.001)
    await send({"type": "http.response.body", "body": b"ok"})


class Served:
    def __init__(self, most, seconds):
        self.crowd = ConnectionLimits(most, seconds, rate=4e6)
        self.door = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.door.getsockname()[1]
        config = uvicorn.Config(
            small, http=timed(seconds, self.crowd), lifespan="off", ws="none", log_config=None, backlog=1, timeout_keep_alive=60
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.door.listen(128)

    def _run(self):
        async def run():
            asyncio.get_running_loop().set_exception_handler(self.crowd.out_of_resources)
            await self.server._serve([self.door])

        asyncio.run(run())

    def connect(self, path=None, buffer=None):
        made = socket.socket()
        if buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        made.settimeout(20)
        made.connect(("127.0.0.1", self.port))
        if path is not None:
            made.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        return made

    def answers(self):
        with self.connect("/2") as one:
            return one.recv(1000).startswith(b"HTTP/1.1 200")

    def until(self, count, seconds):
        end = time.monotonic() + seconds
        while len(self.crowd) > count and time.monotonic() < end:
            time.sleep(0.05)
        return len(self.crowd)

    def grown(self, count, seconds=10):
        """Wait until there are so many, on a busy machine too."""
        end = time.monotonic() + seconds
        while len(self.crowd) < count and time.monotonic() < end:
            time.sleep(0.01)
        return len(self.crowd)


@pytest.fixture
def served():
    open_now = []

    def make(most=256, seconds=1.0):
        open_now.append(Served(most, seconds))
        return open_now[-1]

    yield make
    for each in open_now:
        each.server.should_exit = each.server.force_exit = True
        each.thread.join(10)
        each.door.close()


@pytest.mark.parametrize("path", ["/4000000", "/stream"])
def test_who_does_not_read_is_cut(served, path):
    here = served(seconds=3.0)
    sockets = [here.connect(path, buffer=4096) for _ in range(8)]
    assert here.grown(8) == 8
    assert here.answers()
    assert here.until(0, 15) == 0
    for each in sockets:
        each.close()


def test_who_reads_slowly_gets_all(served):
    here = served()
    with here.connect("/3000000", buffer=4096) as one:
        got = 0
        while got < 3_000_000:
            part = one.recv(200_000)
            assert part
            got += len(part)
            time.sleep(0.01)


def test_pipelined_requests_that_nobody_reads_are_cut(served):
    here = served()
    with here.connect(buffer=4096) as one:
        one.setblocking(False)
        try:
            for _ in range(20_000):
                one.send(b"GET /5000 HTTP/1.1\r\nHost: a\r\n\r\n")
        except OSError:
            pass
        time.sleep(0.2)
        assert here.until(0, 10) == 0


def test_who_says_nothing_is_cut_and_idle_ones_make_room(served):
    here = served(most=8, seconds=1.0)
    silent = [here.connect() for _ in range(30)]
    time.sleep(0.3)
    assert len(here.crowd) <= 8
    assert here.answers()
    assert here.until(0, 10) == 0
    kept = []
    for _ in range(30):
        kept.append(here.connect("/2"))
        assert kept[-1].recv(1000).startswith(b"HTTP/1.1 200")
    assert len(here.crowd) <= 8
    for each in (*silent, *kept):
        each.close()


def test_where_all_are_at_work_one_more_is_told(served):
    here = served(most=4)
    busy = [here.connect("/held") for _ in range(4)]
    assert here.grown(4) == 4
    time.sleep(0.3)  # their requests are read by then
    with here.connect() as one:
        said = one.recv(1000)
    assert said.startswith(b"HTTP/1.1 503")
    assert b"problem+json" in said
    for each in busy:
        got = b""
        while b"ok" not in got:
            part = each.recv(1000)
            assert part
            got += part
        each.close()
    assert here.answers()


def test_without_file_descriptors_the_log_stays_small_and_it_goes_on(served, caplog):
    here = served(seconds=30.0)
    logger, own = logging.getLogger("asyncio"), seldom()
    logger.addFilter(own)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = socket.socket()
    used = spare.fileno()
    clients = [socket.socket() for _ in range(30)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(each.fileno() for each in clients) + 16, before[1]))
        for each in clients:
            each.connect(("127.0.0.1", here.port))
        time.sleep(2.5)
        records = [record for record in caplog.records if "out of system resource" in record.getMessage()]
        assert 1 <= len(records) <= 8
        assert len(here.crowd) <= 24
        clients[-1].settimeout(20)
        clients[-1].sendall(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert clients[-1].recv(1000).startswith(b"HTTP/1.1 200")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        logger.removeFilter(own)
        for each in (*clients, spare):
            each.close()
    assert used > 0
    time.sleep(1.1)
    assert here.answers()


def test_connections_leave_open_files_for_the_work(monkeypatch):
    assert most_connections(10) == 10
    monkeypatch.setattr(resource, "getrlimit", lambda _: (160, 160))
    assert 8 <= most_connections(256) < 112
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert most_connections(256) == 256


def test_records_of_one_kind_are_few():
    now = [0.0]
    passes = seldom(lambda: now[0])
    one, other = (logging.LogRecord("a", logging.ERROR, "file.py", line, "x", (), None) for line in (1, 2))
    assert [passes(one) for _ in range(8)] == [True] * 5 + [False] * 3
    assert passes(other)
    now[0] = 11.0
    assert passes(one)
