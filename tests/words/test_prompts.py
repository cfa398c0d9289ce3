from __future__ import annotations

import pytest

from nerveseg.errors import OptionError
from nerveseg.words.prompts import TEMPLATES, clean, fill, template_set


def test_every_set_has_sentences_with_one_place_each():
    for name, sentences in TEMPLATES.items():
        assert len(set(sentences)) == len(sentences), name
        assert all(sentence.count("{}") == 1 for sentence in sentences), name


def test_the_openai_set_has_eighty():
    assert len(TEMPLATES["openai80"]) == 80
    assert "itap of my {}." in TEMPLATES["openai80"]


def test_braces_and_underscores_in_a_word():
    assert fill("a {}.", "set_{} of {0}") == "a set {} of {0}."
    assert clean("_a__b \t c_") == "a b c"


def test_sets_by_name_by_sentence_and_by_list():
    assert template_set("none") == ("{}",)
    assert template_set("my {} here") == ("my {} here",)
    assert template_set(["a {}", "b {}"]) == ("a {}", "b {}")


@pytest.mark.parametrize("given", ["openai8", [], ["no place"], ["{} and {}"], "{}{}"])
def test_sentences_without_one_place_are_refused(given):
    with pytest.raises(OptionError):
        template_set(given)


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        TEMPLATES["mine"] = ("{}",)
