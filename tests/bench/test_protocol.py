"""Both protocols on every data set: the words that are asked, the way back to classes, and a perfect score for the truth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from nerveseg import datasets
from nerveseg.bench.confusion import AVERAGES, count, metrics, total
from nerveseg.bench.protocol import PROTOCOLS, protocol
from nerveseg.bench.words import ask
from nerveseg.datasets import IGNORE
from nerveseg.datasets.base import DataSet, Item, table
from nerveseg.datasets.classes import ClassNames
from nerveseg.errors import DataError, OptionError
from nerveseg.words.vocabulary import Label

_KNOWN = ("ade20k", "cityscapes", "coco_object", "coco_stuff", "context59", "context60", "embedded", "folder", "voc20", "voc21")


def _data(names, *, background=False, offered=None):
    labels = tuple(Label(strings[0], strings) for strings in names)
    items = (Item("a"), Item("b"))
    identity = table({index: index for index in range(len(names))})
    return DataSet("made", "val", "sclip", ClassNames(labels, "by hand"), background, items, identity, offered=offered)


CLASSES = (("background", "sky"), ("cat", "kitten"), ("dog",))


def test_protocols_are_those_of_the_data_sets():
    assert tuple(PROTOCOLS) == datasets.PROTOCOLS
    assert {one.average for one in PROTOCOLS.values()} == set(AVERAGES)
    assert (protocol("sclip").misses, protocol("cliper").misses) == (False, True)
    with pytest.raises(OptionError, match="sclip, cliper"):
        protocol("mmseg")


def test_a_background_class_is_asked_for_as_the_background():
    asked = ask(_data(CLASSES, background=True))
    assert asked.vocabulary.names == ("cat", "dog")
    assert asked.vocabulary.strings == ("cat", "kitten", "dog")
    assert asked.background.strings == ("background", "sky")
    assert asked.guess(np.array([[0, 1, 2]])).tolist() == [[1, 2, 0]]


def test_without_a_background_every_class_is_a_label_and_nothing_else_is():
    asked = ask(_data(CLASSES[1:]))
    assert asked.background is None
    assert asked.guess(np.array([[0, 1]])).tolist() == [[0, 1]]


def test_where_misses_are_allowed_the_background_is_none_of_the_classes():
    asked = ask(_data(CLASSES[1:]), misses=True)
    assert asked.background.strings == ("background",)
    assert asked.guess(np.array([[0, 1, 2]])).tolist() == [[0, 1, 2]]
    assert count(np.array([[1]], np.uint16), asked.guess(np.array([[2]])), 2).tolist() == [[1, 2, 1]]


def test_offered_labels_are_those_of_the_image_in_its_order():
    data = _data((("cat",), ("dog",), ("cow",)), offered=lambda item: (2, 0) if item.id == "a" else (1, 2))
    assert ask(data, data.items[0]).vocabulary.names == ("cow", "cat")
    assert ask(data, data.items[0]).guess(np.array([[0, 1]])).tolist() == [[2, 0]]
    assert ask(data, data.items[1]).vocabulary.names == ("dog", "cow")
    assert len(ask(data, data.items[0], offer="all").vocabulary) == 3
    assert len(ask(data).vocabulary) == 3
    with pytest.raises(OptionError, match="listed, all"):
        ask(data, offer="some")


def test_a_word_of_the_background_that_is_a_class_is_told_with_the_list():
    with pytest.raises(DataError, match=r"by hand.*'cat'"):
        ask(_data((("background", "cat"), ("cat",), ("dog",)), background=True))


def test_a_string_in_two_classes_is_asked_for_twice():
    assert ask(_data((("door", "screen"), ("screen",)))).vocabulary.strings == ("door", "screen", "screen")


def _perfect(data, *, misses):
    """Confusion where the segmentation is the truth in the ids of what was asked; an ignored pixel gets the first label."""

    def images():
        for item in data.items[:2]:
            asked = ask(data, item, misses=misses)
            own = np.zeros(IGNORE + 1, np.int64)
            own[asked.ids] = np.arange(len(asked.ids))
            _, truth = data.read(item)
            assert truth.dtype == np.uint16
            yield count(truth, asked.guess(own[truth]), data.classes)

    return total(images(), data.classes)


@pytest.mark.parametrize("rules", PROTOCOLS.values(), ids=list(PROTOCOLS))
@pytest.mark.parametrize("name", _KNOWN)
def test_predicting_the_truth_is_perfect(name, rules, layouts, tmp_path):
    layouts[name](tmp_path, rules.name)
    data = datasets.open(name, tmp_path, protocol=rules.name)
    confusion = _perfect(data, misses=rules.misses)
    found = metrics(confusion, rules.average)
    assert f"{found.miou:.2f}" == "100.00"
    assert (found.pixel_accuracy, found.mean_accuracy, found.weighted_iou) == (100.0, 100.0, 100.0)
    assert np.count_nonzero(np.isnan(found.iou)) == (0 if name != "embedded" else np.count_nonzero(confusion.true == 0))


def test_every_data_set_has_a_layout(layouts):
    assert set(datasets.names()) == set(layouts) == set(_KNOWN)


def test_the_background_alone_scores_one_class(layouts, tmp_path):
    layouts["voc21"](tmp_path, "sclip")
    data = datasets.open("voc21", tmp_path)
    _, truth = data.read(data.items[0])
    found = metrics(total([count(truth, np.zeros_like(truth), 21)], 21))
    share = np.count_nonzero(truth == 0) / np.count_nonzero(truth != IGNORE)
    assert found.miou == pytest.approx(100 * share / 21, abs=1e-12)
    assert dataclasses.replace(data, items=()).classes == 21
