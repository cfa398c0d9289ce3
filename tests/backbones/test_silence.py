from __future__ import annotations

import pytest
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import utils as hub
from transformers.utils import logging as transformers_logging

from nerveseg.backbones.quiet import without_bars
from nerveseg.segmenter import Segmenter

_LIBRARIES = (transformers_logging, diffusers_logging)


@pytest.fixture(params=[(True, True, True), (True, True, False), (False, True, True), (True, False, True), (False, False, False)])
def state(request):
    before = [library.is_progress_bar_enabled() for library in _LIBRARIES], hub.are_progress_bars_disabled()
    _set(*request.param)
    yield request.param
    _set(*before[0], not before[1])


def _set(*shown):
    for library, on in zip(_LIBRARIES, shown, strict=False):
        (library.enable_progress_bar if on else library.disable_progress_bar)()
    (hub.enable_progress_bars if shown[2] else hub.disable_progress_bars)()


def _get():
    return (*(library.is_progress_bar_enabled() for library in _LIBRARIES), not hub.are_progress_bars_disabled())


def test_bars_are_away_and_come_back_as_they_were(state):
    with without_bars():
        assert _get()[:2] == (False, False)
    assert _get() == state
    with pytest.raises(ValueError, match="x"), without_bars():
        raise ValueError("x")
    assert _get() == state


def test_loading_shows_no_bar_and_leaves_the_switches(capfd):
    before = _get()
    transformers_logging.enable_progress_bar()
    diffusers_logging.enable_progress_bar()
    try:
        Segmenter.from_pretrained("mini")
        assert _get() == (True, True, True)
    finally:
        _set(*before)
    assert capfd.readouterr().err == ""
