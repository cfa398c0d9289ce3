"""What nobody should send: each is refused in words, in time, and the service goes on."""

from __future__ import annotations

import json
import struct
import time
import zipfile
import zlib
from io import BytesIO

import pytest
from PIL import Image

from nerveseg.server.forms import plain_name
from nerveseg.server.settings import Settings

WORDS = {"labels": "cat, dog"}


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width, height, depth=8, colour=2):
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def gif(frames=1, canvas=(1, 1), size=(1, 1)):
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, *size, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame * frames + b"\x3b"


def tiff(directories=1, width=1, height=1):
    out = bytearray(b"II*\0" + struct.pack("<I", 12) + b"\x80\0\0\0")
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, 1),
    ]
    for index in range(directories):
        end = len(out) + 2 + 12 * len(tags) + 4
        out += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
        out += struct.pack("<I", end if index < directories - 1 else 0)
    return bytes(out)


def webp(width, height):
    image = Image.new("RGB", (8, 8))
    out = BytesIO()
    image.save(out, format="WEBP", lossless=True)
    data = bytearray(out.getvalue())
    at = data.index(b"VP8L") + 9
    data[at : at + 4] = struct.pack("<I", (width - 1) | ((height - 1) << 14))
    return bytes(data)


def saved(form, size=(64, 64), **options):
    out = BytesIO()
    Image.effect_noise(size, 90).convert("RGB").save(out, format=form, **options)
    return out.getvalue()


IMAGES = {
    "nothing": b"",
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "html": b"<script>alert(1)</script>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "pdf": b"%PDF-1.4\n",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "png cut in its head": saved("PNG")[:20],
    "png cut in its data": saved("PNG")[:500],
    "png with a wrong sum": saved("PNG").replace(b"IEND", b"IEnD"),
    "png that lies of its size": png_header(4000, 4000) + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b""),
    "png of no pixel": png_header(0, 0) + chunk(b"IEND", b""),
    "png bomb": png_header(100_000, 100_000) + chunk(b"IDAT", zlib.compress(bytes(1_000_000))) + chunk(b"IEND", b""),
    "png with a text bomb": png_header(1, 1) + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000))) + chunk(b"IEND", b""),
    "png with a profile bomb": png_header(1, 1) + chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(80_000_000))) + chunk(b"IEND", b""),
    "jpeg cut": saved("JPEG")[:300],
    "jpeg that lies of its size": saved("JPEG").replace(struct.pack(">HH", 64, 64), struct.pack(">HH", 65_000, 65_000)),
    "webp bomb": webp(16_383, 16_383),
    "webp that lies of its size": webp(500, 500),
    "webp cut": saved("WEBP")[:100],
    "gif bomb": gif(1, (65_535, 65_535), (65_535, 65_535)),
    "gif whose frame is larger than it": gif(1, (1, 1), (60_000, 60_000)),
    "gif over PIL's warning": gif(1, (10_000, 10_000), (10_000, 10_000)),
    "gif cut": gif(3)[:-9],
    "tiff bomb": tiff(1, 100_000, 100_000),
    "tiff that lies of its size": tiff(1, 3000, 3000),
    "tiff that turns in a circle": tiff(1)[:-4] + struct.pack("<I", 12),
    "tiff cut": saved("TIFF")[:200],
    "bmp bomb": b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "qoi bomb": b"qoif" + struct.pack(">IIBB", 100_000, 100_000, 3, 0),
    "ppm bomb": b"P6 100000 100000 255\n",
    "ppm with a long number": b"P6 " + b"9" * 5000 + b" 1 255\n",
}


@pytest.fixture
def client(serving):
    return serving(max_pixels=16_000_000)


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_that_is_none_is_refused(client, problem, png, name):
    started = time.process_time()
    answer = client.post("/v1/segment", files={"file": ("a.png", IMAGES[name])}, data=WORDS)
    assert time.process_time() - started < 5
    if answer.status_code != 200:  # some readers take what is there: an image of the size that was said, and within the limits
        problem(answer, answer.status_code)
        assert answer.status_code in (413, 422)
    assert client.post("/v1/segment", files={"file": ("a.png", png(3, 3))}, data=WORDS).status_code == 200


@pytest.mark.parametrize("data", [gif(300_000), tiff(30_000)], ids=["gif", "tiff"])
def test_a_file_of_very_many_images_does_not_hold_a_reader(client, data):
    started = time.process_time()
    answer = client.post("/v1/segment", files={"file": ("a", data)}, data=WORDS)
    assert time.process_time() - started < 5
    assert answer.status_code == 200


def test_ten_thousand_labels_are_refused_at_once(client, problem, png):
    for labels in (", ".join(f"w{index}" for index in range(10_000)), json.dumps([f"w{index}" for index in range(10_000)])):
        started = time.process_time()
        problem(client.post("/v1/segment", files={"file": ("a", png(3, 3))}, data={"labels": labels}), 413, "labels")
        assert time.process_time() - started < 2


@pytest.mark.parametrize("letter", ["\0", "\x1b", "\r", "\n", "\u202e", "\x7f", "\u0085"])
def test_control_characters_in_labels_are_refused(client, problem, png, letter):
    problem(client.post("/v1/segment", files={"file": ("a", png(3, 3))}, data={"labels": f"ca{letter}t, dog"}), 422, "labels")
    handle = client.post("/v1/encode", files={"file": ("a", png(3, 3))}).json()["handle"]
    problem(client.post("/v1/decode", json={"handle": handle, "labels": [f"ca{letter}t", "dog"]}), 422, "labels")


def test_a_half_of_a_surrogate_pair_is_refused(client, problem):
    body = b'{"handle": "x", "labels": ["ca\\ud800t", "dog"]}'
    problem(client.post("/v1/decode", content=body, headers={"content-type": "application/json"}), 422, "labels")


def test_html_in_labels_stays_text(client, png):
    evil = "<img src=x onerror=alert(1)>"
    answer = client.post(
        "/v1/segment", files={"file": ("a", png(3, 3))}, data={"labels": f"{evil}, dog"}, headers={"accept": "application/json"}
    )
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'"
    assert answer.json()["labels"][0]["name"] == evil


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\a.png", "a.png"),
        ("/", "picture"),
        ("..", "picture"),
        ("", "picture"),
        ("a\0b\r\nSet-Cookie: x.png", "abSet-Cookie: x.png"),
        ("x" * 500, "x" * 100),
        ("\u202egnp.exe", "gnp.exe"),
    ],
)
def test_names_of_files_are_shown_and_never_opened(client, png, given, kept):
    assert plain_name(given) == kept
    if "\0" in given or not given:  # no client sends it
        return
    answer = client.post("/v1/segment", files={"file": (given, png(3, 3))}, data=WORDS, headers={"accept": "application/zip"})
    with zipfile.ZipFile(BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["labels.png", "labels.run.json", "labels.overlay.png"]
        assert json.loads(archive.read("labels.run.json"))["picture"]["name"] == kept


@pytest.mark.parametrize(
    "settings",
    [
        '{"walk.alpha": NaN}',
        '{"walk.alpha": Infinity}',
        '{"walk.alpha": 1e999}',
        '{"walk.alpha": 1}',
        '{"walk.alpha": true}',
        '{"walk.alpha": "0.5"}',
        '{"walk.alpha": null}',
        '{"walk.alpha": [0.5]}',
        '{"walk.alpha": ' + "9" * 400 + "}",
        '{"walk.alpha": ' + "9" * 5000 + "}",
        '{"masks.min_area": 1.5}',
        '{"masks.min_area": -1}',
        '{"walk.tolerance": 1e-12}',
        '{"weights.clip": "/etc/passwd"}',
        '{"labels.name": "saved"}',
        '{"labels.folder": "/etc"}',
        '{"graph.name": "saved"}',
        '{"graph.size": 4096}',
        '{"walk.name": "direct"}',
        '{"refiner.name": "crf"}',
        '{"transition.memory": 1e9}',
        '{"words.templates": "none"}',
        '{"__class__": 1}',
        '{"": 1}',
        "[]",
        "null and void",
        "{",
        "[" * 100_000,
    ],
)
def test_settings_are_a_short_list_of_bounded_numbers(client, problem, png, settings):
    answer = client.post("/v1/segment", files={"file": ("a", png(3, 3))}, data={**WORDS, "settings": settings})
    problem(answer, 422)


def test_every_knob_of_the_list_is_a_bounded_number(mini):
    knobs = Settings.of(mini.recipe).knobs
    assert {"walk.alpha", "transition.beta", "labels.scale"} <= set(knobs)
    for knob in knobs.values():
        assert knob.low <= knob.high < float("inf")


@pytest.mark.parametrize(
    "clicks",
    [
        "{}",
        "[1]",
        "[{}]",
        '[{"label": "cat"}]',
        '[{"label": "cat", "points": [[NaN, 1]]}]',
        '[{"label": "cat", "points": [[1e999, 1]]}]',
        '[{"label": "cat", "points": [[1, 2, 3]]}]',
        '[{"label": "cat", "points": 5}]',
        '[{"label": "cat", "points": {}}]',
        '[{"label": "cat", "strokes": [5]}]',
        '[{"label": "cat", "strokes": 5}]',
        '[{"label": "cat", "strokes": [[]]}]',
        '[{"label": "cat", "points": [[1, 1]], "points": [[2, 2]]}]',
        '[{"label": "cat", "box": [1, 2, 3]}]',
        '[{"label": "cat", "points": [[true, false]]}]',
        '[{"label": "c\\u0000at", "points": [[1, 1]]}]',
        '[{"label": "cat", "points": [[1, 1]], "path": "/etc"}]',
    ],
)
def test_clicks_are_checked(client, problem, png, clicks):
    answer = client.post("/v1/segment", files={"file": ("a", png(3, 3))}, data={**WORDS, "clicks": clicks})
    problem(answer, 422)


def test_clicks_are_counted(client, problem, png):
    many = json.dumps([{"label": "cat", "points": [[1, 1]] * 2001}])
    problem(client.post("/v1/segment", files={"file": ("a", png(3, 3))}, data={**WORDS, "clicks": many}), 413, "clicks")
    for more in (
        {"strokes": [[]] * 150_000},
        {"strokes": [[[1, 1]]] * 2001},
        {"points": [[]] * 150_000},
        {"strokes": [[[1, 1]] * 1001] * 2},
    ):
        clicks = json.dumps([{"label": "cat", **more}], separators=(",", ":"))
        problem(client.post("/v1/segment", files={"file": ("a", png(3, 3))}, data={**WORDS, "clicks": clicks}), 413, "clicks")
    boxes = json.dumps([{"label": "cat", "box": [0, 0, 2, 2]}] * 2001)
    problem(client.post("/v1/segment", files={"file": ("a", png(3, 3))}, data={**WORDS, "clicks": boxes}), 413, "clicks")
    labels = json.dumps([{"label": f"w{index}", "points": [[1, 1]]} for index in range(300)])
    problem(client.post("/v1/segment", files={"file": ("a", png(3, 3))}, data={**WORDS, "clicks": labels}), 413, "labels")


BOUNDARY = {"content-type": "multipart/form-data; boundary=x"}
FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc\r\n'


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 415),
        (b"{}", {"content-type": "application/json"}, 415),
        (b"abc", {"content-type": "multipart/form-data"}, 415),
        (b"abc", BOUNDARY, 422),
        (b"", BOUNDARY, 422),
        (FILE[:30], BOUNDARY, 422),
        (FILE + FILE + b"--x--\r\n", BOUNDARY, 422),
        (FILE.replace(b'; filename="a"', b"") + b"--x--\r\n", BOUNDARY, 422),
        (FILE.replace(b'name="file"; ', b"") + b"--x--\r\n", BOUNDARY, 422),
        (FILE + b'--x\r\nContent-Disposition: form-data; name="labels"\r\n\r\n\xff\xfe, \r\n--x--\r\n', BOUNDARY, 422),
        (FILE + b'--x\r\nContent-Disposition: form-data; name="url"\r\n\r\nhttp://example.invalid/a.png\r\n--x--\r\n', BOUNDARY, 422),
        (
            b"".join(b'--x\r\nContent-Disposition: form-data; name="%d"\r\n\r\na\r\n' % index for index in range(99)) + b"--x--\r\n",
            BOUNDARY,
            422,
        ),
        (b"--x\r\nX: " + b"a" * 100_000, BOUNDARY, 422),
        (b"--x\r\n" * 100_000, BOUNDARY, 422),
    ],
)
def test_forms_that_are_none_are_refused(client, problem, body, headers, status):
    problem(client.post("/v1/segment", content=body, headers=headers), status)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff",
        b'{"handle": "x", "labels": ["ca\xfft", "dog"]}',
        b'{"handle": "x", "labels": ["ca\xed\xa0\x80t", "dog"]}',
        '{"handle": "x", "labels": ["cat", "dog"]}'.encode("utf-16"),
        b'{"handle": "x", "labels": ["cat", "dog"], "labels": ["sky", "dog"]}',
        b"[" * 100_000,
        b'{"handle": 5, "labels": ["cat"]}',
        b'{"labels": ["cat", "dog"]}',
        b'{"handle": "x"}',
        b'{"handle": "x", "labels": []}',
        b'{"handle": "x", "labels": 5}',
        b'{"handle": "x", "labels": {"cat": "dog"}}',
        b'{"handle": "x", "labels": [5, 6]}',
        b'{"handle": "x", "labels": [["cat", 5], "dog"]}',
        b'{"handle": "x", "labels": [[["cat"]], "dog"]}',
        b'{"handle": "x", "labels": [null, "dog"]}',
        b'{"handle": "x", "labels": [[], "dog"]}',
        b'{"handle": "x", "labels": ["", "dog"]}',
        b'{"handle": "x", "labels": ["cat", "CAT"]}',
        b'{"handle": "x", "labels": ["cat"]}',
        b'{"handle": "x", "labels": ["cat", "dog"], "background": 5}',
        b'{"handle": "x", "labels": ["cat", "dog"], "background": ["cat"]}',
        b'{"handle": "x", "labels": ["cat", "dog"], "url": "http://example.invalid/"}',
        b'{"handle": "x", "labels": ["cat", "dog"], "settings": {"walk.alpha": NaN}}',
        b'{"handle": "x", "labels": ["cat", "dog"], "settings": 5}',
        b'{"handle": "x", "labels": ["cat", "dog"], "clicks": "x"}',
    ],
)
def test_json_that_is_none_is_refused(client, problem, body):
    problem(client.post("/v1/decode", content=body, headers={"content-type": "application/json"}), 422)


def field(head, value=b"rooster", more=b""):
    return FILE + b"--x\r\nContent-Disposition: form-data" + head + b"\r\n" + more + b"\r\n" + value + b"\r\n--x--\r\n"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (field(b'; name="labels"; cock, grass'), "--form-string"),
        (field(b'; name="labels"; cock=grass'), "--form-string"),
        (field(b'; name="labels"; filename="cock, grass"'), "--form-string"),
        (field(b'; name="labels"', more=b"Content-Type: text/x, grass\r\n"), "--form-string"),
        (field(b'; name="labels"', more=b"Content-Type: text/plain, grass\r\n"), "--form-string"),
        (field(b'; name="labels"', more=b"Content-Type: text/plain; charset=latin-1\r\n"), "UTF-8"),
        (field(b'; name="labels"', more=b"X-A: b\r\n"), "--form-string"),
        (field(b'; name="labels"', more=b"Content-Transfer-Encoding: base64\r\n"), "base64"),
        (field(b'; name="labels"; name="x"'), "each once"),
        (field(b"; name=\"labels\"; filename*=utf-8''a"), "filename*"),
        (field(b"; filename=a"), "without a name"),
        (field(b'; name="labels', b"caf\xe9, dog"), "Accepted"),
        (field(b'; name="labels"', b"caf\xe9, dog"), "not UTF-8"),
        (field(b'; name="labels"', b"a\xed\xa0\x80, dog"), "not UTF-8"),
        (FILE.replace(b'filename="a"', b"filename*=utf-8''a.png") + b"--x--\r\n", "filename*"),
        (FILE.replace(b'; filename="a"', b"") + b"--x--\r\n", "without a filename"),
        (FILE.replace(b"form-data", b"attachment") + b"--x--\r\n", "form-data"),
        (FILE[:-2], "ends before"),
    ],
)
def test_what_a_tool_cut_away_or_added_is_told_and_not_guessed(client, problem, body, said):
    answer = client.post("/v1/segment", content=body, headers=BOUNDARY)
    assert said in problem(answer, 422, "form")["detail"]


@pytest.mark.parametrize(
    "more", [b"", b"Content-Type: text/plain; charset=utf-8\r\n", b"Content-Length: 8\r\nContent-Type: Application/JSON\r\n"]
)
def test_fields_as_other_clients_send_them_are_read(client, png, more):
    file = FILE.replace(b"abc", png(3, 3)).replace(b'filename="a"', b"filename=\"a; b\"; filename*=utf-8''c")
    body = field(b"; NAME=labels", "café, dog".encode(), more).replace(FILE, file)
    answer = client.post("/v1/segment", content=body, headers={**BOUNDARY, "accept": "application/json"})
    assert [label["name"] for label in answer.json()["labels"]] == ["café", "dog"]


def test_one_word_from_curl_may_be_what_it_left_of_many(client, problem, png):
    """``curl -F labels='rooster; cock, grass'`` sends ``rooster``, and nothing else that one could see."""
    send = {"files": {"file": ("a", png(3, 3))}, "headers": {"user-agent": "curl/7.88.1"}}
    refused = client.post("/v1/segment", data={"labels": "rooster", "background": "auto"}, **send)
    assert "--form-string" in problem(refused, 422, "form")["detail"]
    for labels in ('["rooster"]', "rooster; cock", "rooster, grass"):
        assert client.post("/v1/segment", data={"labels": labels, "background": "sky"}, **send).status_code == 200
    del send["headers"]
    assert client.post("/v1/segment", data={"labels": "rooster", "background": "sky"}, **send).status_code == 200


def test_text_is_short(client, problem, png):
    long = " " * 2_000_000
    problem(client.post("/v1/decode", content="{}" + long, headers={"content-type": "application/json"}), 413, "body")
    problem(client.post("/v1/segment", files={"file": ("a", png(3, 3))}, data={"labels": "cat, dog" + long}), 422, "form")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/segment", 405),
        ("PUT", "/v1/segment", 405),
        ("GET", "/v1/../../etc/passwd", 404),
        ("GET", "/v1/%2e%2e/%2e%2e/etc/passwd", 404),
        ("DELETE", "/v1/encode/%00", 404),
        ("DELETE", "/v1/encode/" + "x" * 5000, 404),
        ("GET", "/docs", 404),
        ("BREW", "/v1/health", 405),
    ],
)
def test_addresses_that_are_not_there(client, problem, method, path, status):
    problem(client.request(method, path), status)


def test_an_address_is_never_fetched(client, problem):
    """Sockets other than loopback raise in tests, so that an answer of 422 says that none was made."""
    for field in ("http://example.invalid/a.png", "file:///etc/passwd", "data:image/png;base64,AAAA"):
        problem(client.post("/v1/segment", files={"file": ("a", field.encode())}, data=WORDS), 422, "picture")
