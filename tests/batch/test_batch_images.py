"""Which files a source stands for, and where their masks go."""

from __future__ import annotations

import io

import pytest

from nerveseg.batch import find
from nerveseg.batch.images import stem
from nerveseg.errors import OptionError
from nerveseg.image.endings import endings


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in ("b.JPG", "a.png", "notes.md", "d/c.webp", "d/e/f.tif", ".hidden/x.png", "d/.y.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_is_searched_with_those_in_it(tree):
    found = find("in")
    assert found.items == ("a.png", "b.JPG", "d/c.webp", "d/e/f.tif")
    assert found.path("d/c.webp") == tree / "in" / "d" / "c.webp"
    assert find("in", leave_out=tree / "in" / "d").items == ("a.png", "b.JPG")


@pytest.mark.parametrize(
    ("pattern", "items"),
    [
        ("in/*", ("a.png", "b.JPG")),
        ("in/**/*", ("a.png", "b.JPG", "d/c.webp", "d/e/f.tif")),
        ("in/d*/*.webp", ("d/c.webp",)),
        ("**/*.tif", ("in/d/e/f.tif",)),
    ],
)
def test_a_pattern_keeps_what_comes_after_its_fixed_part(tree, pattern, items):
    assert find(pattern).items == items
    assert find(tree / pattern).items == items


def test_a_list_keeps_its_lines_and_its_order(tree):
    (tree / "list.txt").write_text("in/d/c.webp\n\n./in/a.png\nin/notes.md\n", "utf-8")
    found = find("list.txt")
    assert found.items == ("in/d/c.webp", "in/a.png", "in/notes.md")
    assert found.path("in/a.png") == tree / "in" / "a.png"
    assert find("-", stdin=io.StringIO("in/a.png\n")).items == ("in/a.png",)


def test_a_list_that_leads_elsewhere_is_taken_from_the_folder_that_holds_all(tree, monkeypatch):
    assert find("-", stdin=io.StringIO(f"{tree}/in/d/c.webp\nin/a.png\n")).items == ("d/c.webp", "a.png")
    monkeypatch.chdir(tree / "in" / "d")
    assert find("-", stdin=io.StringIO("../a.png\ne/f.tif\n")).items == ("a.png", "d/e/f.tif")


def test_one_image_is_a_source(tree):
    assert find("in/a.png").items == ("a.png",)
    (tree / "in" / "odd[1].png").touch()
    assert find("in/odd[1].png").items == ("odd[1].png",)


@pytest.mark.parametrize(
    ("source", "lines", "match"),
    [
        ("nowhere", "", "which is not there"),
        ("nowhere.txt", "", "which is not there"),
        ("in/*.gif", "", "without an image"),
        ("-", "", "without an image"),
        ("-", "in/a.png\nin/a.jpg\n", "'in/a.png' and 'in/a.jpg', whose masks"),
        ("-", "in/A.png\nin/a.jpg\n", "whose masks"),
        ("-", "in/a.png\n./in/a.png\n", "'in/a.png' twice"),
        ("-", "in/\udcff.png\n", "names in UTF-8"),
    ],
)
def test_what_cannot_be_a_batch_is_refused(tree, source, lines, match):
    with pytest.raises(OptionError, match=match):
        find(source, stdin=io.StringIO(lines))


def test_what_looks_like_an_image_and_is_left_out_is_counted_by_ending(tree):
    assert not find("in").left_out
    for name in ("p.HEIC", "q.tga", "d/r.tga", "d/._s.tga", ".hidden/t.tga", "u.mp3"):
        (tree / "in" / name).touch()
    for source in ("in", "in/**/*"):
        found = find(source)
        assert found.items == ("a.png", "b.JPG", "d/c.webp", "d/e/f.tif", *(["p.HEIC"] if ".heic" in endings() else []))
        assert found.left_out[".tga"] == 2
        assert found.left_out.keys() <= {".tga", ".heic"}
    assert not find("in/*.png").left_out
    (tree / "only").mkdir()
    (tree / "only/a.tga").touch()
    with pytest.raises(OptionError, match=r"1 file that looks like an image was left out: 1 \.tga"):
        find("only")


@pytest.mark.parametrize(
    "lines",
    [
        "in/a.png\r\nin/d/c.webp\r\n",
        "# first\nin/a.png\n\n  # second\nin/d/c.webp",
        "\"in/a.png\"\n'in/d/c.webp'\n",
        "in\\a.png\nin\\d\\c.webp\n",
        "in/a.png masks/a.png\nin/d/c.webp\tmasks/c.png\n",
        "in/a.png  1\nin/d/c.webp -1\n",
    ],
)
def test_a_list_is_read_in_its_many_forms(tree, lines):
    (tree / "list.txt").write_bytes(lines.encode())
    assert find("list.txt").items == ("in/a.png", "in/d/c.webp")
    (tree / "list.txt").write_bytes(lines.encode("utf-16"))
    assert find("list.txt").items == ("in/a.png", "in/d/c.webp")


def test_names_with_spaces_hashes_and_dots_are_whole(tree):
    for name in ("my photo 1.png", "photo #1.png", "2024.01.05", "2024.01.06"):
        (tree / "in" / name).touch()
    found = find("-", stdin=io.StringIO("in/my photo 1.png\nin/photo #1.png\nin/2024.01.05\nin/2024.01.06\n"))
    assert [stem(item) for item in found.items] == ["in/my photo 1", "in/photo #1", "in/2024.01.05", "in/2024.01.06"]
    assert find("-", stdin=io.StringIO(f"{(tree / 'in' / 'a.png').as_uri()}\n")).items == ("a.png",)


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ("in/a.png words of mine\n", "line 1 of standard input"),
        ("in/b.JPG\nhttps://example.org/a.png\n", "'https://example.org/a.png' in line 2"),
    ],
)
def test_a_line_of_another_form_is_refused(tree, lines, match):
    with pytest.raises(OptionError, match=match):
        find("-", stdin=io.StringIO(lines))
