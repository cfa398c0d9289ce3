"""``segment --tile``: the record says so, a wrong side is a wrong command, and big images get a hint."""

from __future__ import annotations

import json

WORDS = ("--labels", "dog, cat, grass", "--recipe", "mini")


def test_tiles_are_noted_in_the_record(run, photo, tmp_path):
    result = run("segment", photo("a.png", size=(40, 80)), *WORDS, "--tile", 40, "--overlap", 0.3)
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / "nerveseg-out" / "a.run.json").read_text("utf-8"))
    assert record["picture"]["notes"][1:] == ["Encoded in 1 × 3 tiles of 40 × 40 pixels that share at least 0.5."]


def test_a_wrong_side_is_a_wrong_command_before_any_network_is_loaded(run, photo, monkeypatch):
    monkeypatch.setattr("nerveseg.cli._session.Networks.segmenter", lambda _: 1 / 0)
    result = run("segment", photo(), *WORDS, "--tile", 8)
    assert result.exit_code == 2
    assert "Accepted is a whole number of pixels from 32" in result.stderr
    assert run("segment", photo(), *WORDS, "--tile", 64, "--overlap", 1).exit_code == 2


def test_a_big_image_gets_a_hint_and_is_labelled_as_it_was(run, photo, monkeypatch):
    monkeypatch.setattr("nerveseg.cli.segment._BIG", 40)
    result = run("segment", photo(), *WORDS, "--json")
    assert "--tile 1024" in result.stderr
    assert json.loads(result.stdout)["picture"].endswith("a.png")
