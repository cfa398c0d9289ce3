"""Tuning: halves that share nothing, rounds that go on, and no recipe where the other half does not confirm a gain."""

from __future__ import annotations

import dataclasses

import pytest

from nerveseg import datasets
from nerveseg import recipe as recipes
from nerveseg.bench import tune as tuning
from nerveseg.bench.job import Job
from nerveseg.bench.report.bootstrap import Interval
from nerveseg.errors import DataError

JOB = Job("mini", "embedded", split="val", limit=8, threads=1)
GRID = ({"walk.alpha": (0.5,)},)


def test_halves_share_nothing_and_do_not_depend_on_the_order():
    data = datasets.open("embedded", split="val")
    one, other = tuning.halves(data, 20)
    assert len(one) == len(other) == 10
    assert not set(one) & set(other)
    turned = dataclasses.replace(data, items=data.items[:20][::-1])
    assert tuning.halves(turned) == (one, other)


def test_too_few_images_are_refused():
    with pytest.raises(DataError, match="Label more"):
        tuning.halves(datasets.open("embedded"), 7)


def test_candidates_hold_what_is_there_and_drop_sharpness_where_a_kernel_has_none():
    recipe = recipes.load("mini")
    names = [variant.name for variant in tuning._candidates(recipe, {}, {"kernel.name": ("exp", "elu")})]
    assert names[0] == "as it was"
    assert [recipe.changed(variant.settings).transition.kernel for variant in tuning._candidates(recipe, {}, {"kernel.name": ("elu",)})]
    (_, elu) = tuning._candidates(recipe, {}, {"kernel.name": ("elu",)})
    assert elu.settings["transition.neighbours"] is None


def test_a_recipe_is_written_only_where_the_gain_is_real(tmp_path, monkeypatch):
    found = tuning.tune(JOB, tmp_path / "a", rounds=GRID)
    assert found.images == (4, 4)
    assert found.real == (tmp_path / "a" / "recipe.toml").is_file()
    again = tuning.tune(JOB, tmp_path / "a", rounds=GRID)  # every round is there already
    assert again == found
    monkeypatch.setattr(tuning, "difference", lambda *_a, **_k: Interval(5.0, -0.1, 10.0))
    assert not tuning.tune(JOB, tmp_path / "b", cache=str(tmp_path / "a" / "encodings"), rounds=GRID).real
    assert not (tmp_path / "b" / "recipe.toml").exists()
    monkeypatch.setattr(tuning, "difference", lambda *_a, **_k: Interval(5.0, 0.1, 10.0))
    real = tuning.tune(JOB, tmp_path / "c", cache=str(tmp_path / "a" / "encodings"), rounds=GRID)
    written = recipes.load(tmp_path / "c" / "recipe.toml")
    assert written.walk.options == recipes.load("mini").changed(real.settings).walk.options
