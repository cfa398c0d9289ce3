from __future__ import annotations

import pytest

from nerveseg import text_files
from nerveseg.datasets import classes
from nerveseg.datasets._layout import read_list
from nerveseg.errors import DataError


def _read(tmp_path, content):
    path = tmp_path / "val.txt"
    path.write_bytes(content)
    return read_list("voc21", tmp_path, path, "val")


@pytest.mark.parametrize(
    "content",
    [
        b"a\n2024.01.05\n",
        b"\xef\xbb\xbfa\r\n2024.01.05\r\n\r\n",
        "a\n2024.01.05\n".encode("utf-16"),
        b"a.jpg\n2024.01.05.png\n",
        b"/JPEGImages/a.jpg /SegmentationClass/a.png\n/JPEGImages/2024.01.05.jpg /SegmentationClass/2024.01.05.png\n",
        b"JPEGImages/a.jpg\tSegmentationClass/a.png\n2024.01.05\n",
        b"C:\\voc\\JPEGImages\\a.jpg\r\nC:\\voc\\JPEGImages\\2024.01.05.jpg\r\n",
        b"a  1\n2024.01.05  1\n",
        b"# a comment\na\n\n\n2024.01.05",
        b"\"a\"\n'2024.01.05'\n",
        b"/abs/a.jpg\n/abs/2024.01.05.jpg",
    ],
)
def test_the_list_of_a_split_is_read_in_its_many_forms(tmp_path, content):
    assert _read(tmp_path, content) == ("a", "2024.01.05")


def test_a_name_with_spaces_stands_in_quotes(tmp_path):
    assert _read(tmp_path, b'"my photo.jpg"\n"my photo 2.jpg"\t1\n') == ("my photo", "my photo 2")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "without a name"),
        (b"# only\n", "without a name"),
        (b"a\nb\na\n", "'a' twice, in lines 1 and 3"),
        (b"a\na.jpg\n", "'a' twice, in lines 1 and 2"),
        (b"a  1\nb -1\n", "line 2 of"),
        (b"a b\n", "two names"),
        (b"a.jpg b.png\n", "line 1 of"),
        (b"a b c\n", "line 1 of"),
        (b"a\n/\n", "line 2 of"),
        (b'a\n""\n', "line 2 of"),
        (b"caf\xe9\n", "not UTF-8"),
        (b"PK\x03\x04", "zip archive"),
        (b"a\0b\n", "no text"),
    ],
)
def test_another_form_is_refused_by_line(tmp_path, content, says):
    with pytest.raises(DataError) as caught:
        _read(tmp_path, content)
    assert says in str(caught.value)
    assert "val.txt" in str(caught.value)
    assert "Accepted" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("cat\ndog\n\n\n", ["cat", "dog"]),
        ("# ids in order\n\ncat\ndog", ["cat", "dog"]),
        ("0: cat\n1: dog\n", ["cat", "dog"]),
        ("1\tdog\n0\tcat\n", ["cat", "dog"]),
        ("0 cat\n1 dog\n", ["cat", "dog"]),
        ("cat;\ndog;\n", ["cat", "dog"]),
        ("C#\n3 wheeler\n", ["C#", "3 wheeler"]),
    ],
)
def test_names_by_place_or_number(tmp_path, content, wanted):
    (tmp_path / "names.txt").write_text(content)
    assert list(classes.read("folder", tmp_path / "names.txt").names) == wanted


@pytest.mark.parametrize(
    ("name", "content"),
    [("n.csv", "id,name\n1,dog\n0,cat\n"), ("n.json", '{"0": "cat", "1": "dog"}'), ("n.yaml", "names:\n  0: cat\n  1: dog\n")],
)
def test_names_of_other_kinds(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert classes.read("folder", tmp_path / name).names == ("cat", "dog")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"cat\n\ndog\n", "blank line 2"),
        (b"cat,,\ndog\n", "line 1"),
        (b"cat\n;\n", "line 2"),
        (b",\n", "line 1"),
        (b"cat\n;;\ndog\n", "line 2"),
        (b"0: cat\n2: dog\n", "lacking 1"),
        (b"1 cat\n2 dog\n", "lacking 0"),
        (b"cat\n\x07\n", "line 2"),
        (b"caf\xe9\n", "not UTF-8"),
        (b"PK\x03\x04", "zip archive"),
    ],
)
def test_names_that_would_shift_ids_are_refused(tmp_path, content, says):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(DataError) as caught:
        classes.read("folder", tmp_path / "names.txt")
    assert says in str(caught.value)
    assert "names.txt" in str(caught.value)


def test_addresses_and_local_files():
    assert text_files.address("http:/a/b") == "http://a/b"
    assert text_files.address("and/or") is text_files.address("file:///a") is text_files.address("c:/a") is None
    assert (
        text_files.local("file:///a/b%20c") == text_files.local("file:/a/b%20c") == text_files.local("file://localhost/a/b%20c") == "/a/b c"
    )
    assert text_files.local("file:///C:/a.png") == "C:/a.png"
    assert text_files.local("a/b%20c") == "a/b%20c"
