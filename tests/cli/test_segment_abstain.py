"""``segment --abstain``: unsure pixels get the ignored id, and a wrong threshold is a wrong command."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nerveseg.synthetic import bundled
from nerveseg.writers import png

WORDS = ("--labels", "dog, cat, grass", "--recipe", "mini")


def test_unsure_pixels_are_ignored_and_the_others_as_they_were(run, tmp_path):
    scene = bundled.scenes()[0].path
    plain = run("segment", scene, *WORDS, "--json", "-o", "all")
    left = run("segment", scene, *WORDS, "--json", "-o", "sure", "--abstain", 0.9)
    assert plain.exit_code == left.exit_code == 0, left.stderr
    every, sure = (png.read(next((tmp_path / folder).glob("*[!y].png"))).ids for folder in ("all", "sure"))
    out = sure == 255
    assert 0 < out.sum() < out.size
    assert (every != 255).all()
    np.testing.assert_array_equal(sure[~out], every[~out])
    shares = [entry["share"] for entry in json.loads(left.stdout)["labels"]]
    assert sum(shares) == pytest.approx(1 - out.mean())


def test_people_are_told_how_much_was_left_out(run, photo):
    result = run("segment", photo(), *WORDS, "--abstain", 1)
    assert result.exit_code == 0, result.stderr
    assert "not decided" in result.stdout


@pytest.mark.parametrize("threshold", [-0.5, 1.5, "nan"])
def test_a_wrong_threshold_is_a_wrong_command_before_any_network_is_loaded(run, photo, monkeypatch, threshold):
    monkeypatch.setattr("nerveseg.cli._session.Networks.segmenter", lambda _: 1 / 0)
    result = run("segment", photo(), *WORDS, "--abstain", threshold)
    assert result.exit_code == 2
    assert "Accepted is 0 to 1" in result.stderr
