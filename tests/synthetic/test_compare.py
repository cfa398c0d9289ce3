from __future__ import annotations

import numpy as np
import pytest

from nerveseg import recipe, registry
from nerveseg.errors import RecipeError
from nerveseg.synthetic import compare
from nerveseg.synthetic.score import Counts


@pytest.mark.parametrize("name", recipe.list_recipes())
def test_a_recipe_is_carried_over_or_needs_more_than_the_pair(name):
    chosen = compare.carried(name)
    if chosen is None:
        assert set(recipe.load(name).needs) - {"clip", "diffusion"}
        return
    assert {str(value) for kind, value in chosen.weights.items() if kind in chosen.needs} <= {"embedded:clip", "embedded:diffusion"}
    before = recipe.load(name)
    assert (chosen.labels.name, chosen.rule.name, chosen.transition) == (before.labels.name, before.rule.name, before.transition)
    assert (chosen.walk and chosen.walk.options) == (before.walk and before.walk.options)


@pytest.mark.parametrize("source", [name for name in registry.names("labels") if compare.suits(name)])
def test_a_label_source_is_compared_with_itself_under_the_walk(source):
    alone, walked = compare.without_walk(source), compare.with_walk(source)
    assert alone.walk is None
    assert walked.walk.options == recipe.load("mini").walk.options
    assert walked.transition == recipe.load("mini").transition
    assert walked.labels.options == alone.labels.options
    assert alone.rule.name == walked.rule.name == "argmax"


def test_what_was_measured_is_kept(tmp_path, monkeypatch):
    first = compare.measure("recipe", "maskclip", 2, keep=tmp_path)
    monkeypatch.setattr(compare.Segmenter, "from_pretrained", None)  # nothing is measured again
    again = compare.measure("recipe", "maskclip", 2, keep=tmp_path)
    np.testing.assert_array_equal(first.counts.both, again.counts.both)
    assert (first.seconds, first.peak) == (again.seconds, again.peak)
    assert compare.measure("recipe", "maskclip", 1, keep=tmp_path).counts.both.shape[0] == 1


def test_one_scene_is_measured():
    found = compare.measure("recipe", "mini", 1)
    assert found.counts.both.shape[0] == 1
    assert found.counts.both.sum() <= found.counts.true.sum()
    assert found.seconds > 0
    assert found.peak > 100


def test_a_recipe_that_needs_more_is_refused():
    with pytest.raises(RecipeError, match="embedded pair"):
        compare.measure("recipe", "groupvit", 1)


def test_the_tables_are_sorted_and_carry_intervals():
    def result(right):
        return compare.Result(Counts(*(np.full((4, 3), value) for value in (right, 10, 10))), 0.5, 300.0)

    found = {("recipe", "a"): result(5), ("recipe", "b"): result(8), ("alone", "x"): result(5), ("walked", "x"): result(8)}
    text = compare.tables(found)
    assert text.index("| b | 66.7 [66.7, 66.7] |") < text.index("| a | 33.3 [33.3, 33.3] |")
    assert "| x | 33.3 | 66.7 | +33.3 [+33.3, +33.3] |" in text
