from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nerveseg.errors import LabelError
from nerveseg.words import BACKGROUND_WORDS, Background, Label, Vocabulary, need_background


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (["cat", "dog"], [("cat", ("cat",)), ("dog", ("dog",))]),
        (["cat; kitten", "dog"], [("cat", ("cat", "kitten")), ("dog", ("dog",))]),
        ([["cat", "kitten"], ("dog",)], [("cat", ("cat", "kitten")), ("dog", ("dog",))]),
        ({"tabby": "cat", "kitten": "cat", "hound": "dog"}, [("cat", ("tabby", "kitten")), ("dog", ("hound",))]),
        ([Label("cat", ("tabby",)), "dog"], [("cat", ("tabby",)), ("dog", ("dog",))]),
        (["potted_plant", "  traffic   light "], [("potted_plant", ("potted plant",)), ("traffic light", ("traffic light",))]),
        (("b", "a"), [("b", ("b",)), ("a", ("a",))]),
        ((word for word in ["b", "a"]), [("b", ("b",)), ("a", ("a",))]),
        (["C++, or {}", "猫", "naïve 🐈"], [("C++, or {}", ("C++, or {}",)), ("猫", ("猫",)), ("naïve 🐈", ("naïve 🐈",))]),
    ],
)
def test_every_accepted_form_keeps_the_callers_order(labels, wanted):
    assert [(label.name, label.strings) for label in Vocabulary.parse(labels)] == wanted


def test_a_vocabulary_comes_back_as_it_is():
    vocabulary = Vocabulary.parse(["cat", "dog"])
    assert Vocabulary.parse(vocabulary) is vocabulary


def test_strings_and_groups_match():
    vocabulary = Vocabulary.parse(["cat; kitten", "dog", "sky; clouds; heaven"])
    assert vocabulary.strings == ("cat", "kitten", "dog", "sky", "clouds", "heaven")
    assert vocabulary.groups == (0, 0, 1, 2, 2, 2)
    assert len(vocabulary) == 3
    assert vocabulary.names == ("cat", "dog", "sky")


def test_synonyms_that_differ_in_case_only_are_kept_once():
    assert Vocabulary.parse(["cat; Cat; CAT ", "dog"]).labels[0].strings == ("cat",)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([], "no labels"),
        ({}, "no labels"),
        (b"cat", "order"),
        ({"cat", "dog"}, "order"),
        (None, "list"),
        (7, "list"),
        (["cat", ""], "empty string as label 1"),
        (["cat", " _ "], "empty string as label 1"),
        (["cat;;kitten", "dog"], "empty string as label 0"),
        (["cat", []], "no string for label 1"),
        (["cat", 3], "3 (int)"),
        (["cat", None], "NoneType"),
        (["cat", "Cat"], "twice"),
        (["traffic light", "traffic_light"], "twice"),
        (["cat; puss", "dog; Puss"], "'puss' twice"),
        (["a\nb", "c"], "U+000A"),
        (["a\x00", "c"], "U+0000"),
        (["\ud800", "c"], "U+D800"),
        (["abc\u202egnp", "c"], "U+202E"),
        ({"tabby": 3}, "id 0"),
        ({"tabby": 3, "kitten": "cat"}, "3 (int)"),
    ],
)
def test_what_cannot_become_labels_is_refused_and_said(labels, says):
    with pytest.raises(LabelError) as caught:
        Vocabulary.parse(labels)
    assert says in str(caught.value)


def test_five_hundred_labels():
    assert len(Vocabulary.parse([f"thing {number}; object {number}" for number in range(500)])) == 500


def test_a_line_parts_labels_by_commas():
    assert Vocabulary.parse_line(" cat; kitten, dog ,grass") == Vocabulary.parse(["cat; kitten", "dog", "grass"])


@pytest.mark.parametrize("line", ["", "  ", "cat,,dog", "cat,", ",", ";"])
def test_a_line_with_a_gap_is_refused(line):
    with pytest.raises(LabelError):
        Vocabulary.parse_line(line)


def test_a_file_has_one_label_a_line(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeff# animals\ncat; kitten   # the small one too\r\n\n  dog\nC#\nвода\n".encode())
    assert [label.strings for label in Vocabulary.read(path)] == [("cat", "kitten"), ("dog",), ("C#",), ("вода",)]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no labels"),
        (b"# only\n", "no labels"),
        (b"cat, dog\n", "line 1"),
        (b"cat\n\xff\n", "UTF-8"),
        (b"a\nb\x0cc\n", "line 2"),
        (b"a\n;\n", "line 2"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(tmp_path, content, says):
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(LabelError) as caught:
        Vocabulary.read(path)
    assert says in str(caught.value)


def test_a_missing_file_and_a_folder_are_label_errors(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path, "bad\0name"):
        with pytest.raises(LabelError, match=r"cannot be read|is a folder"):
            Vocabulary.read(path)


def test_auto_background_leaves_out_the_callers_labels():
    vocabulary = Vocabulary.parse(["Sky", "cat; grass", "trees"])
    background = Background.parse("auto", vocabulary)
    assert background.name == "background"
    assert set(BACKGROUND_WORDS) - set(background.strings) == {"sky", "grass", "tree"}


def test_background_forms():
    vocabulary = Vocabulary.parse(["cat", "dog"])
    assert Background.parse(None, vocabulary) is None
    words = Background.parse(["wall; floor", "ceiling"], vocabulary)
    assert words.strings == ("wall", "floor", "ceiling")
    assert Background.parse(words, vocabulary) == words


@pytest.mark.parametrize("given", ["", "wall, cat", b"wall", [], ["cat"], ["wall", "CAT"], 3, {"a": "b"}, True])
def test_background_that_cannot_be_is_refused(given):
    with pytest.raises(LabelError):
        Background.parse(given, Vocabulary.parse(["cat", "dog"]))


def test_a_label_called_background_and_a_background_are_refused():
    with pytest.raises(LabelError, match="one of the two"):
        Background.parse("auto", Vocabulary.parse(["cat", "Background"]))


def test_one_label_needs_a_background():
    one = Vocabulary.parse(["cat"])
    with pytest.raises(LabelError, match="background='auto'"):
        need_background(one, None)
    need_background(one, Background.parse("auto", one))
    need_background(Vocabulary.parse(["cat", "dog"]), None)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, database=None)
@given(anything)
def test_parsing_fails_with_nothing_but_a_label_error(labels):
    try:
        vocabulary = Vocabulary.parse(labels)
    except LabelError:
        return
    assert len(vocabulary.strings) == len(vocabulary.groups)
    assert all(vocabulary.strings)
    assert Vocabulary.parse(list(vocabulary.labels)) == vocabulary


@settings(max_examples=150, deadline=None, database=None)
@given(st.text(max_size=40))
def test_a_line_fails_with_nothing_but_a_label_error(line):
    with contextlib.suppress(LabelError):
        assert len(Vocabulary.parse_line(line)) == line.count(",") + 1


@settings(max_examples=60, deadline=None, database=None)
@given(data=st.binary(max_size=60))
def test_a_file_of_any_bytes_fails_with_nothing_but_a_label_error(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "labels.txt"
    path.write_bytes(data)
    with contextlib.suppress(LabelError):
        Vocabulary.read(path)


def test_words_and_images_load_no_torch():
    code = "import sys, nerveseg.words, nerveseg.image; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
