"""Texts of others: whatever is wrong with one is an OSError or a ValueError, and nothing waits or fills the memory."""

from __future__ import annotations

import os

import pytest

from nerveseg import parse


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "", "nope", "9" * 5001, '"\\ud800', "[1,"])
def test_bad_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r".+"):
        parse.from_json(text)


@pytest.mark.parametrize("text", ["a = " + "[" * 2000 + "]" * 2000, "a = " + "9" * 5001, "a = {" * 3000, "a", "a = 1\na = 2", "a = '\0'"])
def test_bad_toml_is_a_value_error(text):
    with pytest.raises(ValueError, match=r".+"):
        parse.from_toml(text)


def test_files_are_read_in_bounds(tmp_path):
    good = tmp_path / "good.txt"
    good.write_bytes(b"\xef\xbb\xbfa\r\nb")
    assert parse.text_of(good) == "a\nb"
    with pytest.raises(ValueError, match="more than 3 bytes"):
        parse.text_of(good, most=3)
    good.write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match="byte 3 is no UTF-8"):
        parse.text_of(good)
    with pytest.raises(OSError, match="is a folder"):
        parse.text_of(tmp_path)
    with pytest.raises(FileNotFoundError):
        parse.text_of(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no plain file"):  # it would be waited for
        parse.text_of(tmp_path / "pipe")
