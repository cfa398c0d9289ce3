"""What the page on batches says is true."""

from __future__ import annotations

import re
import shlex
import shutil
import warnings
from pathlib import Path

import typer

from nerveseg.cli._app import app
from nerveseg.world import bundled

_PAGE = (Path(__file__).parents[2] / "docs" / "batch.md").read_text("utf-8")


def test_the_snippet_runs(tmp_path, monkeypatch):
    shutil.copy(bundled.scenes()[0].path, tmp_path / "scene.png")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # words that the embedded pair does not know
        exec(compile(block, "batch.md", "exec"), {})
    assert (tmp_path / "masks" / "scene.png").is_file()


def test_every_option_that_it_names_is_there():
    command = typer.main.get_command(app).commands["batch"]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", _PAGE)) <= known
    lines = [line for block in re.findall(r"^```\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()]
    for line in lines:
        words = shlex.split(line, comments=True)
        assert words[:2] == ["nerveseg", "batch"]
        command.make_context("batch", words[2:])
