"""``nerveseg app`` as a process, its door, and what the page says of itself without a browser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from nerveseg import registry
from nerveseg.errors import ImageError, MissingExtra, OptionError, RunError
from nerveseg.server.listening import listen
from nerveseg.ui import need_extra
from nerveseg.ui.run import check_door


def _run(*words, **more):
    command = [sys.executable, "-m", "nerveseg", "app", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env={**os.environ, **more})


def test_it_serves_and_ends_with_nothing_left_behind(tmp_path):
    process = _run("--recipe", "mini", "--port", "0", "--offline", TMPDIR=str(tmp_path), OMP_NUM_THREADS="1")
    try:
        line = process.stderr.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", line).group()
        assert [path.name[:13] for path in tmp_path.glob("nerveseg-app-*")] == ["nerveseg-app-"]
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=120) as answer:
            page = answer.read().decode()
        assert "What is in the image?" in page
        assert "googleapis" not in page
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
        assert process.stderr.read() == ""
        assert list(tmp_path.glob("nerveseg-app-*")) == []
    finally:
        process.kill()
        process.stderr.close()
        process.wait()


def test_a_wrong_command_costs_no_networks():
    for words, said in [
        (("--host", "0.0.0.0"), "--open"),
        (("--recipe", "mimi"), "mini"),
        (("--recipe", "mini", "--set", "walk.alfa=1"), "alpha"),
    ]:
        process = _run(*words, "--port", "0")
        told = process.stderr.read()
        process.stderr.close()
        assert process.wait() == 2
        assert said in told
        assert "Traceback" not in told


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_needs_no_word(host):
    check_door(host, open_door=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "example.org", "::"])
def test_others_need_one(host):
    with pytest.raises(OptionError, match="--open"):
        check_door(host, open_door=False)
    check_door(host, open_door=True)


def test_a_port_that_is_taken_is_told():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        with pytest.raises(RunError, match="Choose another"):
            listen("127.0.0.1", port)


def test_the_extra_is_asked_for_by_name(monkeypatch):
    monkeypatch.setattr("nerveseg.ui.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"pip install 'nerveseg\[app\]'"):
        need_extra()


def test_only_files_that_were_sent_are_opened(tmp_path, monkeypatch):
    from nerveseg.ui import page

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "sent"))
    inside = tmp_path / "sent" / "abc" / "cat.png"
    inside.parent.mkdir(parents=True)
    inside.write_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"x")
    (inside.parent / "link").symlink_to(tmp_path / "secret")
    assert page._sent({"path": str(inside), "name": "cat.png"}) == (inside.resolve(), "cat.png")
    bad = [
        "/etc/passwd",
        str(inside.parent / ".." / ".." / ".." / "secret"),
        str(inside.parent / "link"),
        str(inside.parent),
        "",
        "http://x/y",
    ]
    for data in [*({"path": path} for path in bad), None, "cat.png", {}]:
        with pytest.raises(ImageError, match="not sent here"):
            page._sent(data)


def test_every_format_is_offered_with_a_short_line():
    from nerveseg.ui import page

    offered = page._formats()
    assert [name for _, name in offered] == list(registry.names("writers"))
    assert all(line.startswith(f"{name} – ") and len(line) < 80 for line, name in offered)


def test_the_head_shows_names_as_text():
    from nerveseg.ui import page

    assert "<i>" not in page._head("<i>x</i>", "cpu")


def test_what_the_browser_gets_asks_nobody_else():
    folder = Path(sys.modules["nerveseg.ui"].__file__).parent
    for name in ("viewer.html", "viewer.js", "page.css"):
        text = (folder / name).read_text("utf-8")
        assert set(re.findall(r"https?://[^\s'\"]+", text)) <= {"http://www.w3.org/2000/svg"}
        assert "innerHTML" not in text
    html = (folder / "viewer.html").read_text("utf-8")
    assert not any(mark in html for mark in ("`", "${", "{{", "\\"))  # Gradio fills templates in
