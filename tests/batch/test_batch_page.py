"""Options that the page on batches names are there; that what it shows runs is test_docs_run's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import typer

from nerveseg.cli._app import app

_PAGE = (Path(__file__).parents[2] / "docs" / "batch.md").read_text("utf-8")


def test_every_option_that_it_names_is_there():
    command = typer.main.get_command(app).commands["batch"]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", _PAGE)) <= known
    lines = [line for block in re.findall(r"^```bash\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()]
    batches = [words for line in lines if (words := shlex.split(line, comments=True))[:2] == ["nerveseg", "batch"]]
    assert len(batches) >= 2
    for words in batches:
        command.make_context("batch", words[2:])
