from __future__ import annotations

import logging

import pytest
import torch

from nerveseg.backbones import text_cache
from nerveseg.labels._text_embedding import Ask, TextEmbedder
from nerveseg.words.vocabulary import Vocabulary


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("NERVESEG_CACHE", str(tmp_path))
    return tmp_path / "texts"


def test_rows_come_back_as_they_went(place):
    rows = torch.randn(3, 4)
    text_cache.write("a", rows)
    assert torch.equal(text_cache.read("a"), rows)
    assert [file.name for file in place.iterdir()] == ["a.safetensors"]


def test_what_rows_depend_on_makes_the_name():
    one = text_cache.name("digest", ["a {}"], ["cat", "dog"])
    others = [text_cache.name("other", ["a {}"], ["cat", "dog"]), text_cache.name("digest", ["{}"], ["cat", "dog"])]
    others += [text_cache.name("digest", ["a {}"], ["dog", "cat"]), text_cache.name("digest", ["a {}"], ["cat dog"])]
    assert one == text_cache.name("digest", ("a {}",), ("cat", "dog"))
    assert len({one, *others}) == 5


def test_nothing_there_is_no_rows():
    assert text_cache.read("a") is None


def test_a_damaged_file_is_told_and_made_anew(place, caplog):
    place.mkdir()
    (place / "a.safetensors").write_bytes(b"not a tensor")
    with caplog.at_level(logging.WARNING):
        assert text_cache.read("a") is None
    assert "made anew" in caplog.text
    text_cache.write("a", torch.ones(1, 2))
    assert torch.equal(text_cache.read("a"), torch.ones(1, 2))


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NERVESEG_CACHE", str(tmp_path / "file"))
    text_cache.write("a", torch.ones(1, 2))
    assert text_cache.read("a") is None


@pytest.mark.filterwarnings("ignore::nerveseg.labels._text_embedding.UntrainedWordWarning")
def test_many_words_are_embedded_once_across_segmenters(mini, monkeypatch):
    words = [f"cat {i}" for i in range(600)]
    counted = []
    clip = mini.networks["clip"]
    real = type(clip).text
    monkeypatch.setattr(type(clip), "text", lambda self, *given: counted.append(1) or real(self, *given))

    def rows():  # of a segmenter of its own each time
        asked = TextEmbedder(mini.networks, mini.folders, mini.device, mini.dtype).words(
            Vocabulary.parse(words), None, Ask("clip", "none", "mini")
        )
        return asked.vectors

    first, again = rows(), rows()
    assert len(counted) == 1
    assert torch.equal(first, again)


def dated(path, seconds):
    import os
    import time

    path.parent.mkdir(exist_ok=True)
    path.touch()
    os.utime(path, (time.time() + seconds,) * 2)


@pytest.mark.parametrize(("what", "bound"), [("MOST", 20_000), ("FILES", 10)])
def test_the_folder_is_bounded_and_what_was_used_last_stays(place, monkeypatch, what, bound):
    monkeypatch.setattr(text_cache, what, bound)
    text_cache.write("first", torch.ones(20, 20))
    for number in range(30):
        text_cache.write(f"word {number}", torch.ones(20, 20))
        for back, kept in enumerate(sorted(place.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)):
            dated(kept, -10 * back - 10)  # what was written or read before is older by seconds
        assert text_cache.read("first") is not None
        assert sum(path.stat().st_size for path in place.iterdir()) <= text_cache.MOST
        assert len(list(place.iterdir())) <= text_cache.FILES
    assert text_cache.read("word 29") is not None
    assert text_cache.read("word 0") is None


def test_more_than_there_is_room_for_is_not_kept(place, monkeypatch):
    monkeypatch.setattr(text_cache, "MOST", 1000)
    text_cache.write("a", torch.ones(20, 20))
    assert text_cache.read("a") is None


def test_files_dated_in_the_future_make_room_first_and_stale_drafts_go(place, monkeypatch):
    for name, seconds in (("new.safetensors", 1e6), ("tmpnew", 1e6), ("tmpold.part", -1e6), ("tmpnow", -5), ("mine.txt", -1e6)):
        dated(place / name, seconds)
    text_cache.write("a", torch.ones(20, 20))
    assert sorted(path.name for path in place.iterdir()) == ["a.safetensors", "mine.txt", "new.safetensors", "tmpnow"]
    monkeypatch.setattr(text_cache, "FILES", 2)
    text_cache.write("b", torch.ones(20, 20))
    assert sorted(path.name for path in place.iterdir()) == ["b.safetensors", "mine.txt", "tmpnow"]


@pytest.mark.parametrize("step", ["replace", "write"])
def test_a_full_disk_is_no_error_and_leaves_no_draft(place, monkeypatch, step):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(text_cache.Path, "replace", full) if step == "replace" else monkeypatch.setattr(
        text_cache.tempfile._TemporaryFileWrapper, "__getattr__", lambda *_: full
    )
    text_cache.write("a", torch.ones(2, 2))
    assert list(place.iterdir()) == []
