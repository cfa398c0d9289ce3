"""The pages run as typed: README, then the pages of the navigation, line after line, in one folder, from what the lines before left."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nerveseg.cli._app import app
from nerveseg.segmenter import Segmenter

_ROOT = Path(__file__).parents[1]
_PAGES = [
    "README.md",
    *(f"docs/{page}" for page in re.findall(r"^ +- (\S+\.md)$", (_ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)),
]
_WHY = ("network", "weights", "hours")
"""Why a block is not run: it downloads, needs published weights, or takes hours."""
_BLOCK = re.compile(r"((?:^ *<!-- .+? -->\n)*)^( *)```(\w*)\n(.*?)^\2```", re.MULTILINE | re.DOTALL)
_RUN = ("bash", "python")


@dataclass(frozen=True)
class _Block:
    """A fenced block: where it stands, its language, its text, and why it is not run (empty: it is)."""

    where: str
    language: str
    text: str
    not_run: str


@dataclass
class _Reader:
    """Who reads the pages: a folder, a shell's variables, names that Python knows, and servers that were started."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    servers: dict[tuple[str, ...], tuple[subprocess.Popen, int]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


def _blocks(page: str) -> list[_Block]:
    text = (_ROOT / page).read_text("utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        marks = re.findall(r"<!-- not run: (.*?) -->", match[1])
        line = text.count("\n", 0, match.start(4)) + 1
        found.append(_Block(f"{page}:{line}", match[3], match[4], marks[0] if marks else ""))
    return found


def test_what_is_not_run_says_why():
    """A mark is one of three words and stands on a block that would run; commands hide in no other kind of block."""
    marked = [block for page in _PAGES for block in _blocks(page) if block.not_run]
    assert [block.where for block in marked if block.not_run not in _WHY or block.language not in _RUN] == []
    stray = [(page, line) for page in _PAGES for line in re.findall(r"<!-- not run.*", (_ROOT / page).read_text("utf-8"))]
    assert len(stray) == len(marked), "a mark stands right before its block"
    hidden = [
        b.where for page in _PAGES for b in _blocks(page) if b.language not in _RUN and re.search(r"^(nerveseg|python|curl) ", b.text, re.M)
    ]
    assert hidden == []
    sys.stdout.write("".join(f"{block.where}: {block.not_run}\n" for block in marked) + f"{len(marked)} blocks are not run\n")


def test_pages_run_in_their_order(tmp_path, monkeypatch):
    """The embedded pair stands in for the networks of every recipe."""
    monkeypatch.chdir(tmp_path)
    load = Segmenter.from_pretrained
    monkeypatch.setattr(
        Segmenter, "from_pretrained", lambda *_, settings=None, low_memory=False, **__: load("mini", device="cpu", settings=settings)
    )
    reader = _Reader(tmp_path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # words that the embedded pair does not know
            for page in _PAGES:
                _read(page, reader)
        for server in reader.servers:
            _told(reader, " ".join(server), partial(_await, reader, server))
    finally:
        for process, _ in reader.servers.values():
            process.send_signal(signal.SIGTERM)
        for process, _ in reader.servers.values():
            process.wait(30)
    assert reader.failed == [], "\n".join(reader.failed)


def _read(page: str, reader: _Reader) -> None:
    module = types.ModuleType("page_" + re.sub(r"\W", "_", page))
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        for block in _blocks(page):
            started = time.perf_counter()
            if block.language == "python" and not block.not_run:
                _told(reader, block.where, partial(_python, block, module, reader))
            elif block.language == "bash":
                for where, command in _commands(block):
                    _told(reader, where, partial(_shell, where, command, reader))
            if os.environ.get("NERVESEG_DOCS_SECONDS"):
                sys.stdout.write(f"{block.where} {block.language} {block.not_run} {time.perf_counter() - started:.1f} s\n")
    finally:
        del sys.modules[module.__name__]


def _told(reader: _Reader, where: str, run: Callable[[], None]) -> None:
    """What fails is noted with its place, and reading goes on."""
    try:
        run()
    except Exception as error:
        reader.failed.append(f"{where}: {type(error).__name__}: {error}")


def _commands(block: _Block) -> list[tuple[str, str]]:
    """Page and line, and command; a line that ends in a backslash goes on. What an installing line does once it has installed runs, too."""
    if block.not_run:
        return [(block.where, match) for match in re.findall(r"&& \.venv/bin/(nerveseg .+)", block.text)]
    page, _, first = block.where.rpartition(":")
    found, begun, at = [], "", 0
    for number, line in enumerate(block.text.splitlines(), start=int(first)):
        at = at if begun else number
        begun += line
        if begun.endswith("\\"):
            begun = begun[:-1]
            continue
        if begun.strip() and not begun.lstrip().startswith("#"):
            found.append((f"{page}:{at}", begun.strip()))
        begun = ""
    return found


def _python(block: _Block, module: types.ModuleType, reader: _Reader) -> None:
    if "__name__ ==" in block.text:  # a program of its own: its processes read its file
        script = reader.folder / "program.py"
        script.write_text(block.text, "utf-8")
        done = subprocess.run([sys.executable, script.name], cwd=reader.folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return
    page, _, line = block.where.rpartition(":")
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile("\n" * (int(line) - 1) + block.text, page, "exec"), module.__dict__)


def _shell(where: str, command: str, reader: _Reader) -> None:
    for port, other in reader.ports.items():
        if f"127.0.0.1:{port}" in command:
            _await(reader, next(server for server, (_, at) in reader.servers.items() if at == other))
            command = command.replace(f"127.0.0.1:{port}", f"127.0.0.1:{other}")
    if not command.startswith("nerveseg "):
        if missing := [tool for tool in ("curl", "jq") if tool in command and shutil.which(tool) is None]:
            sys.stdout.write(f"{where} was not run: {missing[0]} is not installed\n")
            return
        _bash(f"set -eo pipefail; set -a\n{command}\nset +a; env -0 > ../variables", reader)
        rows = (reader.folder.parent / "variables").read_text("utf-8").split("\0")
        kept = {name: value for name, _, value in (row.partition("=") for row in rows if row)}
        reader.variables = {
            name: value
            for name, value in kept.items()
            if os.environ.get(name) != value and name not in ("_", "PATH", "SHLVL", "PWD", "OLDPWD")
        }
        return
    given = _bash(f"printf '%s\\0' {command}", reader).split("\0")[1:-1]
    if given[0] in ("serve", "app"):
        _start(given, reader)
        return
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in reader.variables.items():
            patch.setenv(name, value)
        result = CliRunner().invoke(app, given, catch_exceptions=True)
    assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception!r}"


def _bash(text: str, reader: _Reader) -> str:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))  # as an activated environment has it
    environment = {**os.environ, **reader.variables, "PATH": path}
    done = subprocess.run(["bash", "-c", text], cwd=reader.folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _start(given: list[str], reader: _Reader) -> None:
    """A server of its own, at a free port; the same command once more is the server that runs."""
    documented = given[given.index("--port") + 1] if "--port" in given else {"serve": "8000", "app": "7860"}[given[0]]
    if tuple(given) not in reader.servers:
        with socket.socket() as door:
            door.bind(("127.0.0.1", 0))
            port = door.getsockname()[1]
        command = [sys.executable, "-c", "from nerveseg.cli import main; main()", *given, "--port", str(port)]
        environment = {**os.environ, **reader.variables}
        process = subprocess.Popen(command, cwd=reader.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        reader.servers[tuple(given)] = process, port
    reader.ports[documented] = reader.servers[tuple(given)][1]


def _await(reader: _Reader, server: tuple[str, ...]) -> None:
    """Hold on until a server listens, before a line that asks it, and at the end."""
    process, port = reader.servers[server]
    until = time.monotonic() + 90
    while True:
        assert process.poll() is None, f"{server} ended with {process.returncode}"
        assert time.monotonic() < until, f"{server} does not listen"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.2)
