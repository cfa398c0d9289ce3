from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nerveseg.errors import LabelError
from nerveseg.words import Background, Vocabulary
from nerveseg.words.normalize import folded


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('"cat, striped", hat', [("cat, striped",), ("hat",)]),
        ('"cat, striped"; tabby, hat', [("cat, striped", "tabby"), ("hat",)]),
        ('tabby; "cat; striped", hat', [("tabby", "cat; striped"), ("hat",)]),
        ('"12"" record", hat', [('12" record',), ("hat",)]),
        ('"cat"', [("cat",)]),
        ("\u201ccat, striped\u201d, hat", [("cat, striped",), ("hat",)]),
        ("猫，狗, 草", [("猫",), ("狗",), ("草",)]),
        ("猫、狗", [("猫",), ("狗",)]),
        ("猫；ネコ，狗", [("猫", "ネコ"), ("狗",)]),
        ("قطة، كلب؛ جرو", [("قطة",), ("كلب", "جرو")]),
        ("ｃａｔ, ﾄﾞｱ", [("cat",), ("ドア",)]),
        ("traffic\u00a0light, cat\u3000dog", [("traffic light",), ("cat dog",)]),
        ("\ufeffcat, d\u00adog, ha\u2060t, \u200bsky\u200e", [("cat",), ("dog",), ("hat",), ("sky",)]),
        ("cafe\u0301, nai\u0308ve", [("café",), ("naïve",)]),
        ("👩\u200d👧, ☀\ufe0f, 1\ufe0f\u20e3", [("👩\u200d👧",), ("☀\ufe0f",), ("1\ufe0f\u20e3",)]),
        ("می\u200cخواهم, c\u200dat", [("می\u200cخواهم",), ("cat",)]),
        ("dog's ear, rock 'n' roll, cats'", [("dog's ear",), ("rock 'n' roll",), ("cats'",)]),
        ("cat (small), and/or, 3.5 tonner, C#, St. Bernard", [("cat (small)",), ("and/or",), ("3.5 tonner",), ("C#",), ("St. Bernard",)]),
        ("0: cat, 1: dog", [("cat",), ("dog",)]),
        ("1: dog, 0: cat", [("cat",), ("dog",)]),
        ("16:9 screen, cat", [("16:9 screen",), ("cat",)]),
        ('["cat, striped", ["hat", "cap"]]', [("cat, striped",), ("hat", "cap")]),
        ('{"0": "cat", "1": "dog"}', [("cat",), ("dog",)]),
        ('"labels.txt", cat', [("labels.txt",), ("cat",)]),
        ('"\'90s car", cat', [("'90s car",), ("cat",)]),
    ],
)
def test_a_line_is_read_as_it_is_meant(line, wanted):
    vocabulary = Vocabulary.parse_line(line)
    assert [label.strings for label in vocabulary] == wanted
    assert Vocabulary.parse(line) == vocabulary
    assert Vocabulary.parse_line(vocabulary.line) == vocabulary


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('"cat, striped, hat', "not closed"),
        ('12" record, hat', "not closed"),
        ('5" disk, 3" disk', 'stray "'),
        ('"cat" x, hat', "followed by 'x'"),
        ('"", cat', "empty string as label 0"),
        ("cat\\, striped, hat", "stray \\"),
        ("'cat, striped', hat", "single quote"),
        ("cat (small, big), hat", "'(' alone"),
        ("«cat, striped», hat", "'«' alone"),
        ("cat], hat", "']' alone"),
        ("cat, dog\x00", "U+0000"),
        ("cat\ndog, hat", "U+000A"),
        ("cat\tdog, hat", "U+0009"),
        ("cat\u2028dog, hat", "U+2028"),
        ("cat, \u202egod", "U+202E"),
        ("cat, d\ufffdg", "lost in decoding"),
        ("cat, \ud83d", "U+D83D"),
        ("cat, \uffff", "U+FFFF"),
        ("cat, x\U000e0041", "tag"),
        ("cat, \u0301dog", "combining mark U+0301"),
        ("cat, dog \u0301", "combining mark U+0301"),
        ("cat, \u200b", "empty string as label 1"),
        ("cat, \u3164", "empty string as label 1"),
        ("cat, \u200bcat", "twice"),
        ("cat, c\u00adat", "twice"),
        ("cat, ｃａｔ", "twice"),
        ("café, cafe\u0301", "twice"),
        ("traffic light, traffic\u00a0light", "twice"),
        ("☀, ☀\ufe0f", "twice"),
        ("dog's ear, dog’s ear", "twice"),
        ("nope.csv", "written like a file"),
        ("cat, labels.txt", "written like a file"),
        ("./x", "written like a file"),
        ("~/labels", "written like a file"),
        ("file:///a/b", "written like a file"),
        ("https://example.org/labels", "written like a file"),
        ("0: cat, 2: dog", "lacking 1"),
        ("1: cat, 2: dog", "lacking 0"),
        ("0: cat, 0: dog", "one of them twice"),
        ("0: cat, dog", "none before 'dog'"),
        ("['cat', 'dog']", "no JSON"),
        ("[cat, dog", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('["cat", 3]', "3 (int)"),
        ('{"0": "cat", "2": "dog"}', "id 1"),
    ],
)
def test_what_cannot_be_read_is_refused_and_never_parted_in_silence(line, says):
    with pytest.raises(LabelError) as caught:
        Vocabulary.parse_line(line)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (["cat, striped", '"a; b"; c'], [("cat, striped",), ("a; b", "c")]),
        ([["cat; puss", "tabby"]], [("cat", "puss", "tabby")]),
        ({0: "cat", 1: "dog"}, [("cat",), ("dog",)]),
        ({"1": "dog", "0": "cat"}, [("cat",), ("dog",)]),
        ({"dog": 1, "cat": 0}, [("cat",), ("dog",)]),
        (["0: cat", "1: dog"], [("cat",), ("dog",)]),
        (["0: cat", "dog"], [("0: cat",), ("dog",)]),
        ("cat; kitten, dog", [("cat", "kitten"), ("dog",)]),
    ],
)
def test_python_values_are_read_by_the_same_rule(labels, wanted):
    assert [label.strings for label in Vocabulary.parse(labels)] == wanted


@pytest.mark.parametrize(
    "labels", [["cat", "\u200bcat"], ["cat\\dog", "x"], ['12" record', "x"], ["labels.csv"], {0: "a", 2: "b"}, {1: "a", 2: "b"}]
)
def test_python_values_are_refused_by_the_same_rule(labels):
    with pytest.raises(LabelError):
        Vocabulary.parse(labels)


def test_the_background_is_read_like_labels(tmp_path):
    vocabulary = Vocabulary.parse("cat, dog")
    (tmp_path / "rest.txt").write_text("wall\nfloor; carpet\n")
    assert Background.parse("none", vocabulary) is Background.parse(" None ", vocabulary) is None
    assert Background.parse("AUTO", vocabulary) == Background.parse("auto", vocabulary)
    for given_ in ("wall, floor; carpet", ["wall", "floor; carpet"], tmp_path / "rest.txt"):
        assert Background.parse(given_, vocabulary).strings == ("wall", "floor", "carpet")
    with pytest.raises(LabelError, match="written like a file"):
        Background.parse("nope.txt", vocabulary)


_NASTY = st.text(
    st.sampled_from(list(",;\"“”'\\()[]{}#:=0123 \t\n\u200b\ufeff\u200d\ufe0f\u0301\u202e，；、\u037e猫aéＡ.xtv/~☀👩")),
    max_size=20,
)


@settings(max_examples=400, deadline=None)
@given(line=st.one_of(_NASTY, st.text(max_size=20)))
@example(line="0\u0301: a")
@example(line="\u037e")
@example(line='"" ""')
@example(line="[]")
@example(line="{}")
@example(line="a\u200d\ufe0fb")
def test_any_line_is_read_or_refused_and_comes_back_from_its_written_form(line):
    try:
        vocabulary = Vocabulary.parse_line(line)
    except LabelError as error:
        said = error
    else:
        said = None
    if said is not None:
        assert str(said).encode()  # a message that any terminal can be sent
        return
    assert Vocabulary.parse_line(vocabulary.line) == vocabulary
    for name in vocabulary.names:
        assert unicodedata.is_normalized("NFC", name)
        assert not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
    keys = [folded(name) for name in vocabulary.names]
    assert len(set(keys)) == len(keys)


@settings(max_examples=200, deadline=None)
@given(labels=st.lists(st.lists(st.one_of(_NASTY, st.text(max_size=8)), max_size=3), max_size=4))
def test_any_list_and_its_json_are_one(labels):
    try:
        wanted = Vocabulary.parse(labels)
    except LabelError:
        wanted = None
    try:
        found = Vocabulary.parse_line(json.dumps(labels))
    except LabelError:
        found = None
    assert found == wanted
    assert wanted is None or Vocabulary.parse_line(wanted.line) == wanted
