"""Several images at a time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from PIL import Image

from nerveseg.image.load_many import apart, map_threads


def test_results_come_in_order_from_more_than_one_thread(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    both = threading.Barrier(2, timeout=300)  # each of two waits for the other: one thread alone would never pass
    assert map_threads(lambda number: both.wait() * 0 + number, [3, 1, 2, 4]) == [3, 1, 2, 4]


def test_the_first_error_in_order_is_raised():
    def work(number):
        raise ValueError(number)

    with pytest.raises(ValueError, match="5"):
        map_threads(work, [5, 6, 7])


def test_one_core_or_one_item_need_no_thread(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert map_threads(lambda _: threading.current_thread() is threading.main_thread(), [1, 2]) == [True, True]


def test_only_what_shares_nothing_is_read_at_one_time():
    assert apart(["a.png", Path("b.png"), b"bytes"])
    assert not apart(["a.png", Image.new("RGB", (2, 2))])
