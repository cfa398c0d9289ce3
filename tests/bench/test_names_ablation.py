"""The ablation of names: lists of synonyms that ship, draws by seed, and rows that say what the segmenter says under each name."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from nerveseg import datasets
from nerveseg.bench.ablate import _jobs, names
from nerveseg.bench.ablate._run import Ablation
from nerveseg.bench.ablate.base import Setting
from nerveseg.bench.confusion import count
from nerveseg.bench.job import Job
from nerveseg.datasets import classes
from nerveseg.datasets.classes import SYNONYMS
from nerveseg.errors import DataError

SHIPPED = ("embedded", "voc20", "voc21")


def _official(data):
    return datasets.open("embedded").names if data == "embedded" else classes.read(data, background=data == "voc21")


@pytest.mark.parametrize("data", SHIPPED)
def test_lists_of_synonyms_that_ship(data):
    official = _official(data)
    found = classes.read(data, SYNONYMS, count=len(official), background=data == "voc21")
    assert classes.has_synonyms(data)
    assert SYNONYMS not in classes.lists(data)
    assert found.names == official.names
    strings = [string for label in found.labels for string in label.strings]
    assert len(set(strings)) == len(strings)
    for own, other in zip(official.labels, found.labels, strict=True):
        assert other.strings[0] == own.strings[0]
        assert len(other.strings) >= 4


def test_the_embedded_lists_words_are_words_its_clip_knows(mini):
    found = classes.read("embedded", SYNONYMS)
    assert mini.networks["clip"].unknown([string for label in found.labels for string in label.strings]) == ()


def test_draws_are_other_words_by_seed():
    official, found = _official("voc21"), classes.read("voc21", SYNONYMS, background=True)
    drawn = [names.draw(official, found, seed, background=True) for seed in range(names.DRAWS)]
    assert drawn == [names.draw(official, found, seed, background=True) for seed in range(names.DRAWS)]
    assert len({one.digest for one in drawn}) == names.DRAWS
    for one in drawn:
        assert one.names == official.names
        assert one.labels[0] == official.labels[0]
        for own, other, picked in zip(official.labels[1:], found.labels[1:], one.labels[1:], strict=True):
            (word,) = picked.strings
            assert word in other.strings
            assert word not in own.strings
        assert len({label.strings for label in one.labels}) == len(official)


def test_a_word_is_drawn_once_where_there_is_a_choice_and_own_words_where_there_is_none(tmp_path):
    (tmp_path / "a.txt").write_text("cat; kitty\ndog; kitty; hound\nsky\n")
    (tmp_path / "official.txt").write_text("cat\ndog\nsky\n")
    official, found = (classes.read("x", tmp_path / name) for name in ("official.txt", "a.txt"))
    for seed in range(8):
        drawn = names.draw(official, found, seed, background=False)
        assert [label.strings for label in drawn.labels] == [("kitty",), ("hound",), ("sky",)]


def _setting(mini, data, **more):
    return Setting(mini.recipe, mini.networks, 3, data, **more)


def test_rows_of_a_data_set_with_lists_and_a_background(mini, layouts, tmp_path):
    layouts["voc21"](tmp_path, "sclip")
    data = datasets.open("voc21", tmp_path)
    rows = {row.name: row for row in names.variants(_setting(mini, data))}
    draws = [f"draw {number} of synonyms" for number in range(1, 6)]
    assert list(rows)[2:] == [
        "official names", "plain names", "list lposs", "list tagclip", "official names, many background words", *draws
    ]  # fmt: skip
    assert all(row.names is not None and len(row.names) == 21 for row in rows.values())
    assert all(rows[name].group == names.WORST and rows[name].worst for name in draws)
    assert len(rows["official names, many background words"].names.labels[0].strings) > 10
    assert all(len(label.strings) == 1 for label in rows["plain names"].names.labels)
    other = datasets.open("voc21", tmp_path, class_names="lposs")
    again = {row.name: row for row in names.variants(_setting(mini, other))}
    assert again["official names"].names == rows["official names"].names
    assert "names as given" not in again  # it is the row "list lposs"
    assert len(again["names as given, plain"].names.labels[0].strings) == 1


def test_a_file_of_ones_own(mini, tmp_path):
    data = datasets.open("embedded")
    own = tmp_path / "mine.txt"
    own.write_text("".join(f"{name}; the {name}\n" for name in data.names.names))
    rows = names.variants(_setting(mini, data, synonyms=own))
    drawn = [row for row in rows if row.group == names.WORST]
    assert {label.strings[0] for label in drawn[0].names.labels} == {f"the {name}" for name in data.names.names}
    own.write_text("dog; hound\n")
    with pytest.raises(DataError, match="112"):
        names.variants(_setting(mini, data, synonyms=own))


def test_a_row_is_what_the_segmenter_says_under_these_names(mini, tmp_path):
    data = datasets.open("embedded")
    rows = [row for row in names.variants(_setting(mini, data)) if row.name in ("official names", "draw 1 of synonyms")]
    given = Ablation("names", Job("mini", "embedded", limit=1, threads=1), choose=0, variants=tuple(rows))
    _jobs.run(given, tmp_path / "run")
    (line,) = [json.loads(text) for text in (tmp_path / "run/results.jsonl").read_text("utf-8").splitlines()]
    item = data.items[0]
    image, truth = data.read(item)
    for row in rows:
        offered = data.offered(item)
        result = mini(image, [list(row.names.labels[index].strings) for index in offered])
        wanted = count(truth, np.array(offered, np.uint16)[result.segmentation.numpy()], data.classes).tolist()
        entry = line["variants"][row.name]
        assert entry["rules"] == {"argmax": wanted}
    assert line["variants"]["draw 1 of synonyms"]["about"] == {"group": "worst draw", "worst": True}
    assert dataclasses.asdict(rows[0])["group"] is None
