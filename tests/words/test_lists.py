from __future__ import annotations

import json
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nerveseg.errors import LabelError
from nerveseg.words import Vocabulary

CAT = [("cat", "kitten"), ("dog",)]
HAT = [("cat, striped",), ("hat",)]


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("a.txt", "cat; kitten\ndog\n\n\n", CAT),
        ("a.txt", "cat; kitten\r\ndog\r\n", CAT),
        ("a.txt", "cat; kitten\rdog\r", CAT),
        ("a.names", "cat; kitten\ndog", CAT),
        ("noending", "cat; kitten\ndog", CAT),
        ("a.txt", '"cat, striped" # note\nhat', HAT),
        ("a.txt", '"# 1 cat"\nhat', [("# 1 cat",), ("hat",)]),
        ("a.txt", "0: cat; kitten\n1: dog", CAT),
        ("a.txt", "0 cat; kitten\n1 dog", CAT),
        ("a.txt", "1\tdog\n0\tcat; kitten", CAT),
        ("a.txt", "0, cat; kitten\n1, dog", CAT),
        ("a.txt", "0. cat; kitten\n1. dog", CAT),
        ("a.txt", "0) cat; kitten\n1) dog", CAT),
        ("a.txt", "3 wheeler\ncat", [("3 wheeler",), ("cat",)]),
        ("a.csv", "cat; kitten\ndog\n", CAT),
        ("a.csv", "name\ncat; kitten\ndog\n", CAT),
        ("a.csv", "id,name\n0,cat; kitten\n1,dog\n", CAT),
        ("a.csv", "id,name\n1,dog\n0,cat; kitten\n", CAT),
        ("a.csv", 'id;name\n0;"cat; kitten"\n1;dog\n', CAT),
        ("a.csv", 'sep=;\nid;name\n0;"cat; kitten"\n1;dog\n', CAT),
        ("a.csv", "0,cat; kitten\n1,dog\n", CAT),
        ("a.csv", "cat; kitten,0\ndog,1\n", CAT),
        ("a.csv", "name,color\ncat; kitten,red\ndog,blue\n", CAT),
        ("a.csv", "name,synonyms\ncat,kitten\ndog,\n", CAT),
        ("a.csv", "cat,dog,hat\n", [("cat",), ("dog",), ("hat",)]),
        ("a.csv", '"cat, striped"\nhat\n', HAT),
        ("a.csv", 'id,name\n0,"cat, striped"\n1,hat\n\n', HAT),
        ("a.csv", 'name\n"12"" record"\nhat\n', [('12" record',), ("hat",)]),
        ("a.tsv", "id\tname\n0\tcat; kitten\n1\tdog\n", CAT),
        ("a.tsv", "cat; kitten\ndog\n", CAT),
        ("a.json", '["cat; kitten", "dog"]', CAT),
        ("a.json", '[["cat", "kitten"], "dog"]', CAT),
        ("a.json", '{"0": ["cat", "kitten"], "1": "dog"}', CAT),
        ("a.json", '{"model_type": "x", "id2label": {"1": "dog", "0": ["cat", "kitten"]}, "label2id": {"dog": 1}}', CAT),
        ("a.json", '{"categories": [{"id": 1, "name": "dog"}, {"id": 0, "name": ["cat", "kitten"]}]}', CAT),
        ("a.json", '[{"name": "cat, striped"}, {"name": "hat"}]', HAT),
        ("data.yaml", "path: ../x\nnames:\n  0: cat, striped\n  1: hat\nnc: 2\n", HAT),
        ("data.yaml", "nc: 2\nnames:\n- cat, striped  # first\n- 'hat'\ntrain: x\n", HAT),
        ("data.yml", "names: ['cat, striped', hat]\n", HAT),
        ("data.yml", 'names: ["cat, striped",\n  hat]\nnc: 2\n', HAT),
        ("data.yml", "names: {0: 'cat, striped', 1: hat}\n", HAT),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_file_is_read_as_people_have_it(tmp_path, name, content, wanted, encoding):
    path = tmp_path / name
    path.write_bytes(content.encode(encoding))
    assert [label.strings for label in Vocabulary.read(path)] == wanted
    assert Vocabulary.parse(path) == Vocabulary.read(path)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "a.txt",
            "cat\ncafé\n".encode("latin-1"),
            "0xE9 at 7 (line 2), which is not UTF-8; as Latin-1",
        ),
        ("a.csv", "name\ncafé\n".encode("cp1252"), "CSV UTF-8"),
        ("a.csv", "name\ncat\n".encode("utf-16-le"), "UTF-16 without its mark"),
        ("a.txt", b"cat\0dog\n", "zero bytes"),
        ("a.txt", b"\xff\xfec", "not, at byte"),
        ("a.xlsx", b"PK\x03\x04rest", "Save the sheet as CSV"),
        ("a.ods", b"whatever", "Save the sheet as CSV"),
        ("a.csv", b"PK\x03\x04rest", "zip archive"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1", "old Office file"),
        ("a.txt", b"%PDF-1.7", "PDF"),
        ("a.txt", b"\x89PNG\r\n", "PNG image"),
        ("a.txt", b"cat,, \n", "line 1"),
        ("a.txt", b"cat\n;\n", "line 2"),
        ("a.txt", b"cat, dog\n", "one label a line"),
        ("a.txt", b'cat\n"dog\n', "line 2"),
        ("a.txt", b"0 cat\n2 dog\n", "lacking 1"),
        ("a.txt", b"1 cat\n2 dog\n", "lacking 0"),
        ("a.txt", b"0: cat\ndog\n", "none before 'dog'"),
        ("a.csv", b"id,name\n0,cat\n2,dog\n", "lacking 1"),
        ("a.csv", b"id,name\nx,cat\n1,dog\n", "'x'"),
        ("a.csv", b"id,name\n0\n1,dog\n", "line 2"),
        ("a.csv", b"id,name\n0,\n1,dog\n", "empty string as line 2"),
        ("a.csv", b"cat,kitten\ndog,puppy\n", "without a header"),
        ("a.csv", b"name,label\ncat,x\n", "columns name, label"),
        ("a.csv", b'name\n"cat\n', "no table"),
        ("a.csv", b"", "no labels"),
        ("a.json", b"{", "no JSON"),
        ("a.json", b"[" * 99_999, "no JSON"),
        ("a.json", b"[]", "nothing"),
        ("a.json", b"3", "int"),
        ("a.json", b'[{"id": 1}]', "without 'name'"),
        ("a.json", b'[{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}]', "id 0"),
        ("a.json", b'["cat", "Cat"]', "a.json"),
        ("a.yaml", b"nc: 2\n", "0 keys 'names'"),
        ("a.yaml", b"names: &x [a]\n", "cannot be read"),
        ("a.yaml", b"names:\n  a:\n    b: c\n", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_says_which_where_and_what_to_do(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(LabelError) as caught:
        Vocabulary.read(path)
    assert says in str(caught.value)
    assert name in str(caught.value)


def test_the_encoding_of_old_files_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes("cat\ncafé\n".encode("latin-1"))
    with pytest.raises(LabelError, match=r"as Latin-1 \(Windows-1252\) the line would read 'café'.*Save it as UTF-8"):
        Vocabulary.read(tmp_path / "a.txt")


def test_a_true_archive_is_told_from_a_list(tmp_path):
    path = tmp_path / "labels.txt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(LabelError, match="zip archive"):
        Vocabulary.read(path)


def test_a_file_without_end_is_refused(tmp_path):
    path = tmp_path / "labels.txt"
    with path.open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(LabelError, match="more than 16 MiB"):
        Vocabulary.read(path)


@settings(max_examples=150, deadline=None)
@given(
    data=st.one_of(st.binary(max_size=40), st.text(st.sampled_from(list("id,name;\"\n\t0123cat{}[]:-'#&=")), max_size=60).map(str.encode)),
    ending=st.sampled_from([".txt", ".csv", ".tsv", ".json", ".yaml"]),
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, data, ending):
    path = tmp_path_factory.mktemp("any") / f"a{ending}"
    path.write_bytes(data)
    try:
        vocabulary = Vocabulary.read(path)
    except LabelError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert f"a{ending}" in said
        return
    assert Vocabulary.parse(
        json.loads(json.dumps([[f'"{word.replace(chr(34), chr(34) * 2)}"' for word in label.strings] for label in vocabulary]))
    )
