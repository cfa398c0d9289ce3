"""What names and labels say to a terminal: nothing but themselves."""

from __future__ import annotations

import errno
import json
import os

import pytest
import typer
from rich.table import Table

from nerveseg.cli import _console
from nerveseg.cli._plain import escaped, shown

HOSTILE = "a\x1b[2J\x9b31m\x07\r\x00\x7f\u202e\u2028\udcffz"
SPELLED = r"a\x1b[2J\x9b31m\x07\x0d\x00\x7f\u202e\u2028\xffz"


def test_control_characters_are_spelled_and_letters_stay():
    assert shown(HOSTILE) == SPELLED
    assert shown("a\nb") == r"a\x0ab"
    assert shown("a\nb\tc", lines=True) == "a\nb\tc"
    for text in ("猫 naïve 🐈", "👩\u200d👩\u200d👧", "می\u200cخواهم", "a b"):
        assert shown(text) == text


def test_json_says_the_same():
    text = json.dumps({"name": HOSTILE}, ensure_ascii=False)
    assert shown(escaped(text)) == escaped(text)
    assert json.loads(escaped(text)) == {"name": HOSTILE}


def spoken(capsys):
    out = capsys.readouterr()
    return out.out + out.err


@pytest.mark.parametrize(
    "speak",
    [
        lambda: _console.say(HOSTILE),
        lambda: _console.say(HOSTILE, lines=True, end=""),
        lambda: _console.note(HOSTILE),
        lambda: _console.note("b", lead=HOSTILE),
        lambda: _console.fail(HOSTILE),
        lambda: _console.console().print(HOSTILE),
        lambda: _console.console().print(table()),
        lambda: _console.json_line({"name": HOSTILE}),
    ],
)
@pytest.mark.parametrize("colour", [True, False])
def test_nothing_that_is_printed_tells_the_terminal_what_to_do(speak, colour, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR" if colour else "NO_COLOR", "1")
    speak()
    said = spoken(capsys)
    assert "z" in said
    assert not {"\x9b", "\x07", "\r", "\x00", "\x7f", "\u202e", "\u2028"} & set(said)
    assert "\x1b[2J" not in said
    said.encode()


def table():
    made = Table()
    made.add_column(HOSTILE)
    made.add_row(HOSTILE)
    return made


def test_brackets_in_names_are_no_markup(capsys):
    _console.console().print("[red]a[/red] [/x]")
    assert "[red]a[/red] [/x]" in spoken(capsys)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_takes_no_more_is_one_line(number, capsys):
    @_console.guarded
    def verb():
        raise OSError(number, os.strerror(number), "place\x1b[2J")

    with pytest.raises(typer.Exit) as stop:
        verb()
    assert stop.value.exit_code == 1
    said = spoken(capsys)
    assert os.strerror(number) in said
    assert said.count("\n") == 1
    assert "\x1b[2J" not in said


def test_other_errors_of_the_system_keep_their_traceback():
    @_console.guarded
    def verb():
        raise FileNotFoundError(errno.ENOENT, "gone")

    with pytest.raises(FileNotFoundError):
        verb()
