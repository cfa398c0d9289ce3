"""The door in front of Gradio's server, alone: what passes, how much, for how long; and the folder that it keeps small."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace

import pytest
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from nerveseg.ui.request_limits import Door, Rules, tidy

UPLOAD, JOIN = "/gradio_api/upload", "/gradio_api/queue/join"


@pytest.fixture
def rules(tmp_path):
    """Small ones."""
    return Rules(tmp_path, upload=1000, body=100, seconds=0.3, rate=1e6, uploads=2, room=5000, keep=100.0, young=10.0)


class Behind:
    """Stands for Gradio: reads the body and says how long it was; can be told to fail."""

    def __init__(self):
        self.fails, self.ended, self.seen = None, [], 0

    async def __call__(self, scope, receive, send):
        self.seen += 1
        if self.fails is not None:
            raise self.fails
        try:
            body = await Request(scope, receive).body()
        except MultiPartException:  # as Gradio does: the file is dropped, and the error told
            self.ended.append("cut")
            await PlainTextResponse("broken off", 400)(scope, receive, send)
            return
        self.ended.append("whole")
        await PlainTextResponse(str(len(body)))(scope, receive, send)


async def ask(door, method, path, parts=(b"",), pause=0.0, headers=(), host=b"127.0.0.1:7860"):
    """One request; its body comes in parts, each after a pause. Gives the status, the text and the headers."""
    left, sent = list(parts), []

    async def receive():
        if not left:
            await asyncio.sleep(5)
            return {"type": "http.disconnect"}
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"host", host), *headers],
        "server": ("127.0.0.1", 1),
    }
    await door(scope, receive, send)
    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert len(starts) == 1
    assert not sent[-1].get("more_body", False)
    return starts[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode(), dict(starts[0]["headers"])


def sized(length):
    return [(b"content-length", str(length).encode())]


CHUNKED = [(b"transfer-encoding", b"chunked")]


def one(door, *words, **more):
    return asyncio.run(ask(door, *words, **more))


@pytest.mark.parametrize(
    ("method", "path", "passes"),
    [
        ("GET", "/", True),
        ("HEAD", "/", True),
        ("GET", "/config", True),
        ("GET", "/assets/index.js", True),
        ("GET", "/gradio_api/queue/data", True),
        ("GET", "/gradio_api/file=/tmp/a.png", True),
        ("POST", JOIN, True),
        ("GET", "/gradio_api/proxy=http://example.invalid/", False),
        ("GET", "/gradio_api/openapi.json", False),
        ("GET", "/pwa_icon/100000", False),
        ("GET", "/monitoring", False),
        ("POST", "/gradio_api/call/label", False),
        ("POST", "/gradio_api/run/label", False),
        ("POST", "/gradio_api/component_server", False),
        ("POST", "/gradio_api/process_recording", False),
        ("POST", "/gradio_api/vibe-edit", False),
        ("PUT", "/", False),
        ("DELETE", JOIN, False),
        ("GET", "/etc/passwd", False),
    ],
)
def test_only_what_the_page_needs_is_there(rules, method, path, passes):
    behind = Behind()
    status, text, _ = one(Door(behind, rules), method, path)
    assert (status, behind.seen) == ((200, 1) if passes else (404, 0))
    assert passes or text.startswith("Got an address that is not here. Accepted")


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/queue/data", UPLOAD])
def test_the_page_keeps_to_its_own_origin(rules, path):
    behind = Behind()
    door = Door(behind, rules)
    method = "POST" if path == UPLOAD else "GET"
    for host in (b"evil.com", b"", b"127.0.0.1.evil.com", b"192.168.1.5", b"[::1", b"localhost:x"):
        assert one(door, method, path, host=host)[0] == 421
    for origin in (b"https://evil.com", b"null", b"http://localhost:5000", b"http://127.0.0.1:8000", b"http://localhost:7860", b""):
        status, _, headers = one(door, method, path, headers=[(b"origin", origin)])
        assert status == 403
        assert b"access-control-allow-origin" not in headers
    foreign = [(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"cors")]
    assert one(door, method, path, headers=foreign)[0] == 403
    assert behind.seen == 0
    for host in (b"127.0.0.1:7860", b"localhost", b"[::1]:7860", b"LOCALHOST:7860"):
        assert one(door, method, path, host=host, headers=[(b"origin", b"http://" + host.lower())])[0] == 200
    linked = [(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate")]
    assert one(door, method, path, headers=linked)[0] == 200


def test_others_reach_an_open_page_by_its_address_and_by_a_name_that_is_told(rules):
    door = Door(Behind(), replace(rules, addresses=True, public=frozenset({"masks.example"})))
    for host, origin, status in [
        (b"192.168.1.5:7860", b"http://192.168.1.5:7860", 200),
        (b"192.168.1.5:7860", b"http://192.168.1.5:80", 403),
        (b"masks.example", b"https://masks.example", 200),
        (b"127.0.0.1:7860", b"https://masks.example", 200),
        (b"evil.com", b"http://evil.com", 421),
    ]:
        assert one(door, "POST", JOIN, host=host, headers=[(b"origin", origin)])[0] == status


def test_there_is_no_websocket(rules):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Door(Behind(), rules)({"type": "websocket", "path": "/", "headers": []}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_bodies_are_counted_whatever_the_head_says(rules):
    behind = Behind()
    door = Door(behind, rules)
    assert one(door, "POST", JOIN, [b"x" * 60, b"x" * 40], headers=sized(100))[:2] == (200, "100")
    assert one(door, "POST", UPLOAD, [b"x" * 1000], headers=sized(1000))[:2] == (200, "1000")
    for path, limit in ((JOIN, 100), (UPLOAD, 1000)):
        status, text, headers = one(door, "POST", path, [b"x" * 10] * 200, headers=sized(limit + 1))
        assert (status, headers[b"connection"]) == (413, b"close")
        assert text == f"Got more than {limit:,} bytes. Accepted are as many. Send a smaller file."
        seen = behind.seen
        for lie in (CHUNKED, sized(10)):
            assert one(door, "POST", path, [b"x" * 50] * 100, headers=lie)[0] == 413
        assert behind.ended[-2:] == ["cut", "cut"]
        assert behind.seen == seen + 2
    assert one(door, "POST", JOIN, [b"x"], headers=sized("9" * 5000))[0] == 413


def test_slow_senders_are_cut_off_and_steady_ones_are_not(rules):
    behind = Behind()
    door = Door(behind, rules)
    started = time.monotonic()
    status, text, headers = one(door, "POST", UPLOAD, [b"x"] * 100, pause=0.2, headers=sized(1000))
    assert time.monotonic() - started < 15
    assert (status, headers[b"connection"]) == (408, b"close")
    assert text.startswith("Got a file that did not arrive in time")
    assert behind.ended == ["cut"]
    steady = Door(behind, replace(rules, rate=500.0))
    assert one(steady, "POST", UPLOAD, [b"x" * 100] * 8, pause=0.1, headers=CHUNKED)[:2] == (200, "800")


def test_so_many_files_at_one_time(rules):
    door = Door(Behind(), replace(rules, seconds=5.0))

    async def many():
        slow = [asyncio.create_task(ask(door, "POST", UPLOAD, [b"x"] * 3, 0.1, CHUNKED)) for _ in range(2)]
        await asyncio.sleep(0.05)
        third, other = await ask(door, "POST", UPLOAD, [b"x"], headers=sized(1)), await ask(door, "POST", JOIN, [b"x"], headers=sized(1))
        return third, other, [each[0] for each in await asyncio.gather(*slow)], await ask(door, "POST", UPLOAD, [b"x"], headers=sized(1))

    third, other, slow, later = asyncio.run(many())
    assert third[0] == 503
    assert "Try again" in third[1]
    assert (other[0], slow, later[0]) == (200, [200, 200], 200)


@pytest.mark.parametrize("error", [RuntimeError("in /secret/place.py"), KeyError("x")])
def test_a_bug_is_told_without_a_traceback(rules, error, caplog):
    behind = Behind()
    behind.fails = error
    status, text, headers = one(Door(behind, rules), "GET", "/")
    assert (status, text) == (500, "Got an error that nerveseg did not expect. The log of `nerveseg app` says more.")
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert "failed at /" in caplog.text
    behind.fails = None
    assert one(Door(behind, rules), "GET", "/")[0] == 200


def test_what_is_not_http_passes(rules):
    behind = Behind()
    behind.fails = RuntimeError("lifespan")
    with pytest.raises(RuntimeError, match="lifespan"):
        asyncio.run(Door(behind, rules)({"type": "lifespan"}, None, None))


def made(path, size, age):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age, time.time() - age))


def test_old_files_go_and_the_oldest_make_room(rules, tmp_path):
    made(tmp_path / "old" / "a.png", 10, 200)
    for number in range(6):
        made(tmp_path / f"{number}.png", 900, 50 + number)
    made(tmp_path / "now.png", 900, 0)
    os.utime(tmp_path / "old", (time.time() - 200, time.time() - 200))
    assert tidy(rules)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png", "2.png", "now.png", "old"]
    os.utime(tmp_path / "old", (time.time() - 200, time.time() - 200))
    assert tidy(rules)
    assert not (tmp_path / "old").exists()


def test_files_of_times_to_come_go_as_well(rules, tmp_path):
    for number in range(6):
        made(tmp_path / f"{number}.png", 900, -1000 - number)
    made(tmp_path / "soon.png", 900, -2)
    assert tidy(rules)
    assert [path.name for path in tmp_path.iterdir()] == ["soon.png"]


def test_where_all_is_young_there_is_no_room(rules, tmp_path):
    for number in range(5):
        made(tmp_path / f"{number}.png", 900, 1)
    door = Door(Behind(), rules)
    status, text, _ = one(door, "POST", UPLOAD, [b"x"], headers=sized(1))
    assert status == 503
    assert text.startswith("Got a file for which there is no room now")
    assert len(list(tmp_path.iterdir())) == 5
    (tmp_path / "0.png").unlink()
    assert one(door, "POST", UPLOAD, [b"x"], headers=sized(1))[0] == 200


def test_a_link_is_let_go_and_not_followed(rules, tmp_path):
    outside = tmp_path / "outside"
    made(outside / "kept", 10, 500)
    inside = replace(rules, folder=tmp_path / "inside")
    inside.folder.mkdir()
    (inside.folder / "link").symlink_to(outside)
    os.utime(inside.folder / "link", (0, 0), follow_symlinks=False)
    assert tidy(inside)
    assert (outside / "kept").exists()
