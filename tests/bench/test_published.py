from __future__ import annotations

import pytest

from nerveseg import recipe as recipes
from nerveseg.bench.published import CERTAINTIES, TABLES, read
from nerveseg.errors import DataError

_SEVEN = ("voc21", "context60", "coco_object", "voc20", "ade20k", "context59", "coco_stuff")
_GOOD = """
[sources]
paper = "a paper"
[[row]]
table = "main"
system = "X"
venue = "Y 2020"
backbone = "B"
post = "none"
protocol = "sclip"
source = "paper"
certainty = "read"
scores = { voc21 = 1.5 }
"""


def test_the_paper_s_own_row():
    (row,) = [row for row in read(table="main") if "nerve" in row.recipes]
    assert [row.scores[data] for data in _SEVEN] == [69.7, 37.7, 43.3, 90.1, 24.0, 43.4, 28.8]
    assert row.average == pytest.approx(sum(row.scores.values()) / 7, abs=0.05)
    assert (row.post, row.certainty, row.source) == ("none", "read", "NERVE paper (arXiv 2511.08248), Table 1")


def test_every_row_says_where_it_stands_and_how_surely():
    rows = read()
    assert {row.table for row in rows} == set(TABLES)
    assert {row.certainty for row in rows} == set(CERTAINTIES)
    for row in rows:
        assert len(row.source.split()) > 1
        assert set(row.certainties) <= set(row.scores)
        assert set(row.recipes) <= set(recipes.list_recipes())
    assert len({(row.table, row.system, row.backbone, row.post, row.source) for row in rows}) == len(rows)


def test_table_1_has_two_blocks_and_the_rivals_averages_are_not_its_own():
    rows = [row for row in read(table="main") if row.source.endswith("Table 1")]
    assert len(rows) == 16  # NERVE, which stands in both blocks, once
    assert {row.system for row in rows if row.post == "yes"} == {"SCLIP", "ClearCLIP", "ProxyCLIP", "OVDiff", "CaR", "NACLIP"}
    odd = {row.system for row in rows if row.average and abs(row.average - sum(row.scores.values()) / len(row.scores)) > 0.06}
    assert odd == {"CLIP", "MaskCLIP", "GroupViT", "SCLIP", "NACLIP"}


def test_one_number_may_be_less_certain_than_its_row():
    (row,) = [row for row in read(table="main") if row.recipes == ("clearclip",)]
    assert row.certainty_of("voc20") == "figure"
    assert row.certainty_of("voc21") == "aggregator"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('system = "X"\n', "", "without 'system'"),
        ('system = "X"', 'system = "X"\ncolour = 1', "'colour'"),
        ('certainty = "read"', 'certainty = "sure"', "'sure'"),
        ('source = "paper"', 'source = "book"', "'book'"),
        ('protocol = "sclip"', 'protocol = "mine"', "'mine'"),
        ("voc21 = 1.5", "voc21 = 101", "101"),
        ("{ voc21 = 1.5 }", "{ }", "at least one"),
        ("{ voc21 = 1.5 }", '{ voc21 = 1.5 }\ncertainties = { voc20 = "read" }', "'voc20'"),
        ("[sources]", "[sources", "cannot be read"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, old, new, said):
    path = tmp_path / "mine.toml"
    path.write_text(_GOOD)
    assert read(path)[0].scores == {"voc21": 1.5}
    path.write_text(_GOOD.replace(old, new))
    with pytest.raises(DataError, match=r"mine\.toml") as caught:
        read(path)
    assert said in str(caught.value)


def test_no_such_table_or_file(tmp_path):
    with pytest.raises(DataError, match="'second'"):
        read(table="second")
    with pytest.raises(DataError, match=r"no\.toml"):
        read(tmp_path / "no.toml")
