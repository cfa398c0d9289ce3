"""Labels, backgrounds and clicks as they are typed, and files of them."""

from __future__ import annotations

import json

import pytest

from nerveseg.cli._words import background_words, read_background, read_clicks, read_labels
from nerveseg.errors import LabelError, OptionError
from nerveseg.words import Vocabulary


@pytest.mark.parametrize("name", ["labels.txt", "labels.csv", "labels", "labels.list"])
def test_a_file_that_is_there_is_read_whatever_its_ending(tmp_path, monkeypatch, name):
    (tmp_path / name).write_text("cat; kitten\ndog\n")
    monkeypatch.chdir(tmp_path)
    for text in (name, f"./{name}", f" {tmp_path / name} ", (tmp_path / name).as_uri()):
        assert read_labels(text).names == background_words(text).names == ("cat", "dog")


@pytest.mark.parametrize("text", ["nope.csv", "labels.txt", "./x", "../x", "~/x.json", "/nowhere/x", "C:\\x\\y.txt", "file:///nowhere/x"])
@pytest.mark.parametrize("read", [read_labels, background_words])
def test_what_is_written_like_a_file_and_is_none_is_refused(tmp_path, monkeypatch, read, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LabelError, match=r"does not exist \(looked in .*Check the path"):
        read(text)


def test_a_folder_and_an_address_are_refused(tmp_path):
    with pytest.raises(LabelError, match="which is a folder"):
        read_labels(str(tmp_path))
    with pytest.raises(LabelError, match=r"'https://example\.org/a\.txt', an address.*Download it"):
        read_labels("https://example.org/a.txt")


def test_words_are_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    assert read_labels('images, "nope.csv", and/or').names == ("images", "nope.csv", "and/or")
    assert read_labels("x" * 9999 + ", y").names[1] == "y"
    assert read_background(" NONE ", Vocabulary.parse("cat, dog")) is None
    assert read_background('"wall, white"; floor', Vocabulary.parse("cat, dog")).strings == ("wall, white", "floor")


@pytest.mark.parametrize(
    ("text", "label"), [('"cat, striped"@3,4', "cat, striped"), ("cat@3,4", "cat"), ("a@b@3,4", "a@b"), ("ｃａｔ@3,4", "cat")]
)
def test_the_label_of_a_click_is_written_as_in_labels(text, label):
    (seed,) = read_clicks([text])
    assert seed.label == label


@pytest.mark.parametrize("text", ["cat; kitten@3,4", "@3,4", '"cat@3,4', "cat\x00@3,4"])
def test_a_click_without_one_label_is_refused(text):
    with pytest.raises((OptionError, LabelError)):
        read_clicks([text])


def test_a_label_with_a_comma_goes_through_the_command(run, photo, tmp_path):
    (tmp_path / "rest.csv").write_text("id;name\n0;wall\n1;floor\n")
    result = run("segment", photo(), "--labels", '"cat, striped", hat', "-b", "rest.csv", "-r", "mini", "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / "nerveseg-out" / "a.run.json").read_text())
    assert [label["name"] for label in record["labels"]] == ["cat, striped", "hat", "background"]


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        (("segment", "a.png"), ("labels.xlsx", "Save the sheet as CSV")),
        (("batch", "a.png", "out"), ("nope.csv", "does not exist")),
        (("explain", "a.png"), ('"cat, dog', "not closed")),
        (("segment", "a.png"), ("cat\\, striped, hat", "stray \\")),
    ],
)
def test_every_verb_refuses_by_the_same_rule(run, photo, tmp_path, verb, words):
    photo()
    (tmp_path / "labels.xlsx").write_bytes(b"PK\x03\x04")
    result = run(*verb, "--labels", words[0], "-r", "mini")
    assert result.exit_code == 2
    assert words[1] in result.stderr


@pytest.mark.parametrize("given", ["COCO", "Coco", "co-co", "coco.json"])
def test_a_format_in_capitals_gets_the_nearest_name(run, photo, given):
    photo()
    result = run("batch", "a.png", "out", "--labels", "cat, dog", "-r", "mini", "-f", given)
    assert result.exit_code == 2
    assert "Did you mean 'coco'?" in result.stderr
    assert "add nerveseg" not in result.stderr
