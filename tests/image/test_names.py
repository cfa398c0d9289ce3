from __future__ import annotations

import pytest

from nerveseg.image.names import fields, lines, slashed, stem


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.jpg", "a"),
        ("a.b.JPG", "a.b"),
        ("2024.01.05", "2024.01.05"),
        ("2024.01.05.png", "2024.01.05"),
        ("d.1/2024.01", "d.1/2024.01"),
        ("scan.v2", "scan.v2"),
        ("a.heic", "a"),
        (".png", ".png"),
        ("d/.png", "d/.png"),
        ("a.", "a."),
        ("my photo.jpeg", "my photo"),
        ("", ""),
    ],
)
def test_only_endings_of_images_are_endings(name, wanted):
    assert stem(name) == wanted


def test_fields_lines_and_slashes(tmp_path, monkeypatch):
    assert fields("a.jpg\tb c.png") == ["a.jpg", "b c.png"]
    assert fields("dog's.jpg 1") == ["dog's.jpg", "1"]
    assert list(lines(["\ufeffa", "", " # no", "b # 1 \r"])) == [(1, "a"), (4, "b # 1")]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a\\b.png").touch()
    assert slashed("a\\b.png") == "a\\b.png"
    assert slashed("a\\c.png") == "a/c.png"
