"""Desks: one a visitor, none for long, no more than there is room for."""

from __future__ import annotations

import threading

import pytest

from nerveseg.errors import ImageError
from nerveseg.segmenter import Encoding
from nerveseg.ui.state import Desk, Desks


class SharedNetworks(Encoding):
    """Stands for an encoding: says its bytes."""

    bytes = 0


def _desk(size):
    held = object.__new__(SharedNetworks)
    object.__setattr__(held, "bytes", size)
    return Desk(held)


@pytest.fixture
def clock():
    """A clock that is set by hand."""

    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    return Clock()


def test_each_visitor_has_their_own():
    desks = Desks()
    one, two = desks.put("one", _desk(10)), desks.put("two", _desk(20))
    assert desks.get("one") is one
    assert desks.get("two") is two
    assert desks.bytes == 30
    desks.drop("one")
    desks.drop("nobody")
    with pytest.raises(ImageError, match="Got no image"):
        desks.get("one")
    assert desks.get("two") is two


def test_the_one_used_longest_ago_makes_room():
    desks = Desks(room=100)
    for name in ("one", "two", "three"):
        desks.put(name, _desk(30))
    desks.get("one")
    desks.put("four", _desk(40))
    assert desks.bytes <= 100
    desks.get("one")
    desks.get("four")
    with pytest.raises(ImageError):
        desks.get("two")


def test_a_desk_in_place_of_another_frees_it_first():
    desks = Desks(room=100)
    desks.put("one", _desk(60))
    desks.put("one", _desk(90))
    assert desks.bytes == 90
    with pytest.raises(ImageError, match="Accepted are 100"):
        desks.put("one", _desk(101))
    assert len(desks) == 0


def test_time_goes_from_the_last_use(clock):
    desks = Desks(seconds=60, clock=clock)
    desks.put("one", _desk(1))
    desks.put("two", _desk(1))
    clock.now = 50
    desks.get("one")
    clock.now = 80
    desks.get("one")
    assert len(desks) == 1
    with pytest.raises(ImageError, match="kept for 1 minutes"):
        desks.get("two")
    clock.now = 200
    with pytest.raises(ImageError):
        desks.get("one")


def test_many_threads_at_once_lose_nothing():
    desks, failed = Desks(), []

    def visit(name):
        for size in range(200):
            desks.put(name, _desk(size))
            if desks.get(name).encoding.bytes != size:
                failed.append((name, size))

    threads = [threading.Thread(target=visit, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert desks.bytes == 8 * 199
