"""What nobody should send to the page, by HTTP, past the browser: each is refused in words and in time, and the page goes on."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import re
import socket
import threading
import time
import uuid
from io import BytesIO
from pathlib import Path

import httpx
import pytest
import torch
from PIL import Image

from nerveseg.image import load_image
from nerveseg.segmentation import Segmentation
from nerveseg.segmenter import Segmenter
from nerveseg.synthetic import bundled
from nerveseg.ui.run import serving
from nerveseg.ui.state import Desks
from nerveseg.ui.work import Work

pytestmark = pytest.mark.filterwarnings("ignore")  # Gradio's, in the server's thread

_spec = importlib.util.spec_from_file_location("hostile_images", Path(__file__).parents[1] / "server" / "test_hostile.py")
_hostile = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_hostile)
IMAGES = _hostile.IMAGES
FIELDS = ["cat, dog", "none", "", 0.9, 0.5, True, 40]
WORDS, BACKGROUND, OTHERS, ALPHA, BETA, ENDLESS, STEPS = range(7)
IMAGE, EXAMPLE, LABEL, SEED, SAVE = "image", "example", "label_2", "clicked", "save"


class Quick(Segmenter):
    """Labels by place, at once: the id of a pixel is its red value modulo the number of labels."""

    def encode(self, image, **_):
        return dataclasses.replace(BASE[0], image=load_image(image))

    def decode(self, encoding, labels, *, background=None, settings=None, **_):
        ids = torch.from_numpy(encoding.image.pixels[..., 0].astype("int64")) % len(labels)
        P = torch.nn.functional.one_hot(ids, len(labels) + 1).permute(2, 0, 1).float()
        return Segmentation.build(P, P, labels, encoding.image, background=background, recipe="quick")


BASE = []


@pytest.fixture(scope="module")
def page(mini):
    """The page over a segmenter that answers at once: its address, and the folder of its files."""
    BASE[:] = [mini.encode(load_image(png(16, 16)))]
    work = Work(Quick(mini.recipe, mini.networks, mini.folders, mini.device, mini.dtype), Desks())
    with serving(work, "127.0.0.1", 0, "cpu") as address:
        made = Page(address, work)
        assert made.folder.name.startswith("nerveseg-app-")
        yield made
    made.client.close()
    assert not made.folder.exists()


@pytest.fixture
def visitor(page):
    """One tab."""
    return Visitor(page)


@pytest.fixture
def here(visitor):
    """One tab with an image of two labels."""
    visitor.open(png(8, 8))
    visitor.ask(LABEL, FIELDS)
    return visitor


def png(height, width, red=0):
    out = BytesIO()
    Image.new("RGB", (width, height), (red, 10, 20)).save(out, format="PNG")
    return out.getvalue()


class Page:
    """Where the page is, and what its events are called."""

    def __init__(self, address, work):
        self.address, self.work = address, work
        self.client = httpx.Client(base_url=address, trust_env=False, timeout=30)
        self.calls = {each["api_name"]: each["id"] for each in self.client.get("/config").json()["dependencies"]}
        (sent,) = self.client.post("/gradio_api/upload", files={"files": ("a.png", png(2, 2))}).json()
        self.folder = Path(sent).resolve().parents[1]


class Visitor:
    """What a browser's tab does, without a browser."""

    def __init__(self, page):
        self.page, self.name = page, uuid.uuid4().hex[:12]

    def upload(self, data, name="a.png"):
        return self.page.client.post("/gradio_api/upload", files={"files": (name, data)})

    def ask(self, what, data=(), event=None):
        """Call an event as the page does; gives what it answers: outputs, or the error. No place of a file may be in it."""
        asked = {"fn_index": self.page.calls[what], "data": list(data), "event_data": event, "session_hash": self.name}
        head = {"content-type": "application/json"}
        joined = self.page.client.post("/gradio_api/queue/join", content=json.dumps(asked), headers=head)
        assert joined.status_code == 200, joined.text[:200]
        with self.page.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.name}) as stream:
            for line in stream.iter_lines():
                told = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if told.get("msg") in ("process_completed", "unexpected_error"):
                    break
        if what != SAVE:
            assert str(self.page.folder) not in json.dumps(told)
        assert "Traceback" not in json.dumps(told)
        return told["output"]

    def open(self, data, name="a.png", fields=("", *FIELDS[1:])):
        (path,) = self.upload(data).json()
        return self.ask(IMAGE, fields, {"path": path, "name": name})

    def alive(self):
        """The page goes on for everybody."""
        other = Visitor(self.page)
        assert other.open(png(3, 3))["data"][0]["image"]["size"] == [3, 3]


def refused(output):
    """What the visitor is told: three sentences, or Gradio's own word for a value that no field gives, or nothing."""
    if "error" in output:
        assert output["error"] is None or re.match(r"(Value|File):? .* is (not in the|greater|less)", output["error"])
        return output["error"] or ""
    notice = output["data"][-1]
    assert notice["kind"] == "error", notice
    (line,) = notice["lines"]
    assert "did not expect" not in line
    assert line.startswith("Got ")
    return line


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_that_is_none_is_refused(visitor, name):
    started = time.process_time()
    answer = visitor.open(IMAGES[name], name="<b>broken.png")
    assert time.process_time() - started < 5
    if answer["data"][1]["kind"] == "error":  # some readers take what is there, within the limits
        assert "Accepted " in refused(answer)
    else:
        height, width = answer["data"][0]["image"]["size"]
        assert height * width <= 50_000_000


def test_the_page_goes_on_after_them(visitor):
    visitor.alive()


@pytest.mark.parametrize("data", [_hostile.gif(300_000), _hostile.tiff(30_000)], ids=["gif", "tiff"])
def test_a_file_of_very_many_images_does_not_hold_a_reader(visitor, data):
    started = time.process_time()
    assert visitor.open(data)["data"][0]["image"]["size"] == [1, 1]
    assert time.process_time() - started < 5


def parts(count, head=b'Content-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'):
    yield b"--x\r\n" + head
    for _ in range(count):
        yield bytes(1 << 20)
    yield b"\r\n--x--\r\n"


_FORM = {"content-type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    "head", [b'Content-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n', b'Content-Disposition: form-data; name="t"\r\n\r\n']
)
@pytest.mark.parametrize("told", [True, False], ids=["with its length", "without"])
def test_a_hundred_megabytes_are_refused(page, visitor, head, told):
    length = {"content-length": str(sum(map(len, parts(100, head))))} if told else {}
    started = time.monotonic()
    try:
        answer = page.client.post("/gradio_api/upload", content=parts(100, head), headers={**_FORM, **length})
    except httpx.TransportError:  # the door was shut while it was still sent
        answer = None
    assert time.monotonic() - started < 60
    assert answer is None or (answer.status_code == 413 and len(answer.text) < 300)
    visitor.alive()
    nothing_left(page)


def nothing_left(page):
    """Of a file that was not taken whole; those that were lie in folders."""
    until = time.monotonic() + 60
    while [path for path in page.folder.iterdir() if path.is_file()] and time.monotonic() < until:
        time.sleep(0.05)
    assert [path.name for path in page.folder.iterdir() if path.is_file()] == []


def test_a_sender_that_goes_away_leaves_nothing(page, visitor):
    host, port = page.address.removeprefix("http://").split(":")
    head = (
        b"POST /gradio_api/upload HTTP/1.1\r\nHost: [::1]\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 9000000\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as gone:
        gone.sendall(head + b"".join(parts(1))[:900_000])
        time.sleep(0.3)
    nothing_left(page)
    visitor.alive()


def test_a_long_question_is_refused(page, visitor):
    long = json.dumps({"fn_index": 0, "session_hash": "x", "data": ["x" * 300_000]})
    answer = page.client.post("/gradio_api/queue/join", content=long, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.text[:9]) == (413, "Got more ")
    for body in (b"[" * 100_000, b"", b"null", b"{", b"\xff", b'{"fn_index": 99999, "session_hash": "x", "data": []}', b'{"fn_index": -1}'):
        answer = page.client.post("/gradio_api/queue/join", content=body, headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 600
        assert "Traceback" not in answer.text
        assert ".py" not in answer.text
        assert len(answer.text) < 2000
    visitor.alive()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"abc",
        b"--x\r\n",
        b"--x\r\n" * 10_000,
        b"--x\r\nX: " + b"a" * 100_000,
        b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n",
    ],
)
def test_forms_that_are_none_are_refused(page, visitor, body):
    answer = page.client.post("/gradio_api/upload", content=body, headers=_FORM)
    assert answer.status_code in (400, 413) or answer.json() == []
    assert "Traceback" not in answer.text
    assert str(page.folder) not in answer.text


@pytest.mark.parametrize(
    "name", ["../../../x.png", "..\\..\\x.png", "/etc/passwd", "..", ".", "a\r\nX: y.png", "x" * 5000, "%2e%2e%2fx", "猫<b>.png"]
)
def test_names_of_files_lead_nowhere(page, visitor, name):
    answer = visitor.upload(png(3, 3), name)
    outside = list(page.folder.parent.glob("x.png"))
    assert outside == []
    if answer.status_code != 200:
        assert str(page.folder) not in answer.text
        return
    (path,) = answer.json()
    assert Path(path).resolve().is_relative_to(page.folder)
    shown = visitor.ask(IMAGE, ["cat, dog", *FIELDS[1:]], {"path": path, "name": name})["data"][0]["image"]["name"]
    assert "/" not in shown
    assert "\\" not in shown
    assert "\n" not in shown
    assert len(shown) < 100
    file = visitor.ask(SAVE, ["png"])["data"][0]
    assert Path(file["path"]).resolve().is_relative_to(page.folder)
    assert re.fullmatch(r"[^/\\\0\r\n]{1,100}-png\.zip", file["orig_name"])
    got = page.client.get(file["url"].removeprefix(page.address))
    assert got.status_code == 200
    assert got.content[:2] == b"PK"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../etc/passwd",
        "",
        5,
        None,
        ["a"],
        {"path": "/etc/passwd"},
        "http://example.invalid/a.png",
        "file:///etc/passwd",
        "a\0b",
        "a" * 10_000,
        str(bundled.scenes()[0].path),
    ],
)
def test_only_what_was_sent_is_opened(visitor, path):
    refused(visitor.ask(IMAGE, FIELDS, {"path": path, "name": "x"}))


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../etc/passwd",
        "/gradio_api/file=http://example.invalid/x",
        "/gradio_api/file=" + str(Path(__file__)),
        "/static/%2e%2e/%2e%2e/routes.py",
        "/assets/%2e%2e/%2e%2e/routes.py",
        "/gradio_api/proxy=http://example.invalid/",
        "/openapi.json",
        "/docs",
        "/monitoring",
        "/gradio_api/file=" + "a" * 5000,
        "/gradio_api/file=%00",
    ],
)
def test_addresses_lead_to_nothing_else(page, path):
    answer = page.client.get(path)
    assert answer.status_code in (400, 403, 404, 500)
    assert "Traceback" not in answer.text
    assert "root:" not in answer.text
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((ALPHA, value) for value in (float("nan"), float("inf"), -float("inf"), 1, 2, -1, "x", None, [0.5], {}, 10**400)),
        *((BETA, value) for value in (float("nan"), 5, -0.1, "x", None)),
        *((STEPS, value) for value in (float("nan"), 10**9, -1, 1.5, "x", None, True)),
        *((BACKGROUND, value) for value in ("x", ["none"], {}, 5)),
    ],
)
def test_values_that_no_field_gives_are_refused(here, field, value):
    fields = list(FIELDS)
    fields[field] = value
    if field == STEPS:
        fields[ENDLESS] = False
    refused(here.ask(LABEL, fields))
    assert here.ask(LABEL, FIELDS)["data"][1]["kind"] == "note"


@pytest.mark.parametrize("words", [", ".join(f"w{index}" for index in range(10_000)), "x" * 30_000, ";" * 600, "cat", "", None, "cat, CAT"])
def test_words_that_cannot_be_labels_are_refused_at_once(here, words):
    started = time.process_time()
    refused(here.ask(LABEL, [words, *FIELDS[1:]]))
    refused(here.ask(LABEL, ["cat", "words", words, *FIELDS[3:]]))
    assert time.process_time() - started < 3


@pytest.mark.parametrize("letter", ["\0", "\x1b", "\x7f", "\u0085", "\u202e", "\u2066"])
def test_control_characters_in_labels_are_refused(here, letter):
    assert "control" in refused(here.ask(LABEL, [f"ca{letter}t, dog", *FIELDS[1:]]))
    assert "control" in refused(here.ask(SEED, (), {"x": 1, "y": 1, "label": f"ca{letter}t"}))


def test_markup_in_labels_goes_out_as_data(here):
    evil = "<img src=x onerror=alert(1)>"
    shown, notice = here.ask(LABEL, [f"{evil}, dog", *FIELDS[1:]])["data"]
    assert shown["labels"][0]["name"] == evil
    assert notice["kind"] == "note"


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "x",
        {},
        {"x": 1},
        {"x": "1", "y": 1, "label": "cat"},
        {"x": float("nan"), "y": 1, "label": "cat"},
        {"x": float("inf"), "y": 1, "label": "cat"},
        {"x": 1e300, "y": 1, "label": "cat"},
        {"x": -1, "y": 1, "label": "cat"},
        {"x": [1], "y": 1, "label": "cat"},
        {"x": 10**400, "y": 1, "label": "cat"},
        {"x": 1, "y": 1, "label": 5},
        {"x": 1, "y": 1, "label": ""},
        {"x": 1, "y": 1, "label": "x" * 10_000},
        {"x": 1, "y": 1, "label": ["cat"]},
        {"x": 1, "y": 1},
    ],
)
def test_clicks_that_are_none_are_refused(here, event):
    refused(here.ask(SEED, (), event))


@pytest.mark.parametrize("event", [None, {}, {"index": -1}, {"index": 99}, {"index": "0"}, {"index": 10**40}, {"index": 0.5}])
def test_scenes_that_are_none_are_refused(visitor, event):
    refused(visitor.ask(EXAMPLE, FIELDS[1:], event))


@pytest.mark.parametrize("format", ["../../x", "/etc/passwd", "__init__", "base", None, 5, ["png"], {}])
def test_formats_that_are_none_are_refused(here, format):
    refused(here.ask(SAVE, [format]))


def test_a_format_that_cannot_hold_it_says_no_place(here, page):
    here.ask(LABEL, [", ".join(f"w{index}" for index in range(300)), *FIELDS[1:]])
    said = refused(here.ask(SAVE, ["voc"]))
    assert said.startswith("Got 300 labels for files. Accepted")


def test_a_visit_needs_a_name_of_its_own(page):
    for name in ("", "x" * 65, "x" * 10_000):
        visitor = Visitor(page)
        visitor.name = name
        asked = {"fn_index": page.calls[LABEL], "data": FIELDS, "session_hash": name}
        answer = page.client.post("/gradio_api/queue/join", content=json.dumps(asked), headers={"content-type": "application/json"})
        if answer.status_code == 200:
            assert "without a name" in refused(visitor.ask(LABEL, FIELDS))
    assert not any(len(name) > 64 for name in page.work.desks._kept)


def test_slow_senders_hold_nobody(page, visitor):
    """Heads that never end, and bodies that stop after a byte: the page answers others meanwhile, and test_page_door.py cuts them off."""
    host, port = page.address.removeprefix("http://").split(":")
    head = (
        b"POST /gradio_api/upload HTTP/1.1\r\nHost: [::1]\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n-"
    )
    slow = [socket.create_connection((host, int(port))) for _ in range(60)]
    try:
        for number, each in enumerate(slow):
            each.sendall(head if number < 20 else head[:40])
        started = time.monotonic()
        visitor.alive()
        assert time.monotonic() - started < 25
    finally:
        for each in slow:
            each.close()


def test_many_at_once_do_not_mix(page):
    """Sixteen visitors, each with an image of its own red: the answers are theirs."""
    found, tokens = {}, [f"thing {number}" for number in range(16)]

    def visit(number):
        visitor = Visitor(page)
        words = ", ".join(tokens[number:] + tokens[:number])
        visitor.open(png(4 + number, 5, red=number), name=f"{number}.png")
        for _ in range(3):
            shown = visitor.ask(LABEL, [words, *FIELDS[1:]])["data"][0]
            most = max(shown["labels"], key=lambda label: label["share"])
            found.setdefault(number, set()).add((shown["image"]["name"], tuple(shown["image"]["size"]), most["name"], most["share"]))
        file = visitor.ask(SAVE, ["png"])["data"][0]["orig_name"]
        found[number].add(file)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number in range(16):
        name = tokens[(2 * number) % 16]
        assert found[number] == {(f"{number}.png", (4 + number, 5), name, 1.0), f"{number}-png.zip"}


def test_another_visitors_image_is_not_mine(page, here):
    stranger = Visitor(page)
    assert refused(stranger.ask(LABEL, FIELDS)).startswith("Got no image")
    assert refused(stranger.ask(SAVE, ["png"])).startswith("Got no image")
    assert refused(stranger.ask(SEED, (), {"x": 1, "y": 1, "label": "cat"})).startswith("Got no image")
    assert here.ask(LABEL, FIELDS)["data"][1]["kind"] == "note"


def test_nothing_of_it_was_a_bug_of_ours(page, visitor, caplog):
    with caplog.at_level(logging.ERROR, logger="nerveseg.ui"):
        visitor.ask(IMAGE, FIELDS, {"path": 5})
        visitor.ask(SAVE, [None])
    assert caplog.records == []
