from __future__ import annotations

import logging

import pytest
import torch

from nerveseg.backbones import texts
from nerveseg.labels._asking import Ask, Texts
from nerveseg.words.vocabulary import Vocabulary


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("NERVESEG_CACHE", str(tmp_path))
    return tmp_path / "texts"


def test_rows_come_back_as_they_went(place):
    rows = torch.randn(3, 4)
    texts.write("a", rows)
    assert torch.equal(texts.read("a"), rows)
    assert [file.name for file in place.iterdir()] == ["a.safetensors"]


def test_what_rows_depend_on_makes_the_name():
    one = texts.name("digest", ["a {}"], ["cat", "dog"])
    others = [texts.name("other", ["a {}"], ["cat", "dog"]), texts.name("digest", ["{}"], ["cat", "dog"])]
    others += [texts.name("digest", ["a {}"], ["dog", "cat"]), texts.name("digest", ["a {}"], ["cat dog"])]
    assert one == texts.name("digest", ("a {}",), ("cat", "dog"))
    assert len({one, *others}) == 5


def test_nothing_there_is_no_rows():
    assert texts.read("a") is None


def test_a_damaged_file_is_told_and_made_anew(place, caplog):
    place.mkdir()
    (place / "a.safetensors").write_bytes(b"not a tensor")
    with caplog.at_level(logging.WARNING):
        assert texts.read("a") is None
    assert "made anew" in caplog.text
    texts.write("a", torch.ones(1, 2))
    assert torch.equal(texts.read("a"), torch.ones(1, 2))


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NERVESEG_CACHE", str(tmp_path / "file"))
    texts.write("a", torch.ones(1, 2))
    assert texts.read("a") is None


@pytest.mark.filterwarnings("ignore::nerveseg.labels._asking.UntrainedWord")
def test_many_words_are_embedded_once_across_segmenters(mini, monkeypatch):
    words = [f"cat {i}" for i in range(600)]
    counted = []
    clip = mini.networks["clip"]
    real = type(clip).text
    monkeypatch.setattr(type(clip), "text", lambda self, *given: counted.append(1) or real(self, *given))

    def rows():  # of a segmenter of its own each time
        asked = Texts(mini.networks, mini.folders, mini.device, mini.dtype).words(
            Vocabulary.parse(words), None, Ask("clip", "none", "mini")
        )
        return asked.vectors

    first, again = rows(), rows()
    assert len(counted) == 1
    assert torch.equal(first, again)
