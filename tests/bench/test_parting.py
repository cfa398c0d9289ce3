"""Two parts that share no image, whatever the order of the list and however an image is cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from nerveseg.bench import csv_safe, holdout
from nerveseg.datasets import Item


@pytest.mark.parametrize("count", range(1, 12))
def test_parts_are_whole_and_apart(count):
    items = [Item(f"{at}") for at in range(count)]
    one, other = holdout.parted(items)
    assert {item.id for item in (*one, *other)} == {item.id for item in items}
    assert len(one) == (count + 1) // 2
    assert not {item.id for item in one} & {item.id for item in other}
    assert holdout.parted(items[::-1]) == (one, other)
    assert len(holdout.parted(items, 2)[0]) == min(2, (count + 1) // 2)


def test_what_is_cut_from_one_image_stays_together():
    items = [
        Item(f"{at}-{side}", Path(f"{at}.png"), None, (0, left, 4, left + 4)) for at in range(5) for side, left in (("l", 0), ("r", 4))
    ]
    one, other = holdout.parted(items)
    assert not {item.image for item in one} & {item.image for item in other}
    assert len(one) + len(other) == 10


def test_few_is_said_of_few_alone():
    assert "8 images are few" in str(holdout.few(8))
    assert holdout.few(holdout.FEW) is None


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1", "-cat", "@x", "\tx", "\r=1", " =1", "\uff1d1", "-"])
def test_texts_that_a_spreadsheet_would_run_are_shown(text):
    assert csv_safe.cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [-1, -0.5, 3, None, "", "cat", "a=b", "cat - dog", "1"])
def test_numbers_and_other_texts_stay(value):
    assert csv_safe.cell(value) is value
