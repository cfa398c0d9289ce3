from __future__ import annotations

import os
import subprocess
import sys
import tomllib

import pytest

from nerveseg import recipe, registry
from nerveseg.errors import OptionError, RecipeError, RegistryError


@pytest.mark.parametrize("name", recipe.names())
def test_every_packaged_recipe_composes(name):
    chosen = recipe.load(name)
    assert chosen.name == name
    assert chosen.title != name
    assert set(chosen.needs) <= set(chosen.weights)
    for stage in (chosen.labels, chosen.calibration, chosen.rule, chosen.refiner, chosen.kernel):
        registry.check(stage.options)


@pytest.mark.parametrize(("name", "benchmark"), [(name, data) for name in recipe.names() for data in recipe.load(name).benchmarks])
def test_what_a_method_sets_for_a_benchmark_composes_too(name, benchmark):
    chosen = recipe.load(name)
    assert benchmark in recipe.BENCHMARKS
    changed = chosen.for_benchmark(benchmark)
    assert changed.digest != chosen.digest or not chosen.table["benchmarks"][benchmark]


def test_a_benchmark_without_settings_of_its_own_takes_the_recipe_as_it_is():
    assert recipe.load("mini").for_benchmark("voc21").digest == recipe.load("mini").digest


@pytest.mark.parametrize("name", recipe.names())
def test_writing_and_reading_gives_the_same_recipe(name, tmp_path):
    first = recipe.load(name)
    path = tmp_path / f"{name}.toml"
    path.write_text(first.to_toml(), "utf-8")
    again = recipe.load(path)
    assert again.to_toml() == first.to_toml()
    assert again.digest == first.digest
    for part in ("labels", "calibration", "graph", "transition", "kernel", "walk", "rule", "refiner", "min_area", "templates"):
        left, right = getattr(first, part), getattr(again, part)
        assert getattr(left, "options", left) == getattr(right, "options", right)


def test_the_default_is_the_papers_setting():
    chosen = recipe.load("nerve")
    assert dict(chosen.weights) == {"clip": "clip-l14-336", "diffusion": "sd-2.1-base"}
    assert (chosen.labels.name, chosen.labels.options.short_side) == ("cliper", 336)
    assert (chosen.graph.options.size, chosen.graph.options.layers, chosen.graph.options.t) == (512, (-1, -2), 100)
    assert chosen.walk.name == "infinite"
    assert chosen.transition.neighbours is not None


def test_the_papers_own_has_its_kernel_and_its_steps():
    chosen = recipe.load("nerve-paper")
    assert (chosen.kernel.name, chosen.transition.pairing, chosen.transition.weights) == ("cosine", "qk", "entropy")
    assert (chosen.walk.name, chosen.walk.options.steps) == ("truncated", 40)
    assert (chosen.calibration.name, chosen.rule.name) == ("none", "argmax")
    assert chosen.transition.stay <= 0.1, "(9): a small constant"


def test_knobs_are_changed_by_dotted_name_and_the_original_stays():
    first = recipe.load("mini")
    second = first.changed({"walk.alpha": 0.5, "transition.beta": 0.1, "masks.min_area": 9})
    assert (second.walk.options.alpha, second.transition.beta, second.min_area) == (0.5, 0.1, 9)
    assert first.walk.options.alpha != 0.5
    assert first.changed({}) is first
    assert second.digest != first.digest
    assert recipe.load("mini", {"walk.alpha": 0.5}).walk.options.alpha == 0.5


def test_another_stage_forgets_the_old_ones_knobs():
    first = recipe.load("mini")
    assert first.changed({"walk.solver": "truncated"}).walk.options.alpha == first.walk.options.alpha
    assert first.changed({"transition.kernel": "softmax"}).kernel.options.temperature == 1.0
    assert first.changed({"labels.source": "clip"}).labels.name == "clip"
    assert first.changed({"walk.solver": "truncated", "walk.steps": 3}).walk.options.steps == 3


@pytest.mark.parametrize(("part", "attribute"), [("graph.source", "graph"), ("walk.solver", "walk")])
def test_graph_and_walk_may_be_none(part, attribute):
    chosen = recipe.load("mini").changed({part: "none"})
    assert getattr(chosen, attribute) is None
    assert tomllib.loads(chosen.to_toml())[part.partition(".")[0]] == {part.partition(".")[2]: "none"}


def test_without_a_graph_no_diffusion_model_is_needed():
    assert recipe.load("mini").changed({"graph.source": "none"}).needs == ("clip",)


@pytest.mark.parametrize(
    ("settings", "error", "word"),
    [
        ({"walk.alpha": 1.5}, OptionError, "walk.alpha = 1.5"),
        ({"walk.alpha": "0.5"}, OptionError, "float"),
        ({"walk.alpha": True}, OptionError, "float"),
        ({"walk.alhpa": 0.5}, OptionError, "Did you mean 'alpha'"),
        ({"alpha": 0.5}, OptionError, r"TABLE\.KNOB"),
        ({"walk.solver.alpha": 0.5}, OptionError, r"TABLE\.KNOB"),
        ({"walk.solver": "wolk"}, RegistryError, "Accepted are"),
        ({"labels.source": "none"}, RegistryError, "Accepted are"),
        ({"masks.min_area": -1}, OptionError, "min_area"),
        ({"transition.pairing": "vv"}, OptionError, "'qk'"),
    ],
)
def test_settings_that_do_not_exist(settings, error, word):
    with pytest.raises(error, match=word):
        recipe.load("mini", settings)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[wlak]\nalpha = 1\n", "'wlak'"),
        ("walk = 3\n", r"\[walk\]"),
        ("[title]\na = 1\n", "'title'"),
        ("[walk\n", "TOML"),
        ("[transitoin]\nbeta = 1\n", "Did you mean 'transition'"),
        ("format = 2\n", "Upgrade nerveseg"),
        ('[masks]\nupsample = "logit"\n', "masks.upsample"),
        ('[masks]\nupsampel = "logits"\n', "Did you mean 'upsample'"),
        ('[graph]\nsource = "stable_diffusion"\n[masks]\nupsample = "logits"\n', "something walks"),
    ],
)
def test_files_that_are_no_recipe(tmp_path, text, word):
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises((RecipeError, OptionError), match=word):
        recipe.load(path)


def test_recipes_that_are_not_there(tmp_path):
    with pytest.raises(RecipeError, match="Did you mean 'nerve'"):
        recipe.load("nervee")
    with pytest.raises(RecipeError, match="cannot be read"):
        recipe.load(tmp_path / "none.toml")
    with pytest.raises(RecipeError, match="cannot be read"):
        recipe.load(tmp_path)


def test_a_folder_with_a_recipe_has_the_folders_name(tmp_path):
    home = tmp_path / "mine"
    home.mkdir()
    (home / "recipe.toml").write_text(recipe.load("mini").to_toml(), "utf-8")
    assert recipe.load(home).name == "mine"


def test_names_are_listed_without_composing():
    assert {"mini", "nerve", "nerve-paper"} <= set(recipe.names())
    name, tables = recipe.raw("mini")
    assert name == "mini"
    assert tables["weights"]["clip"] == "embedded:clip"


def test_a_composed_recipe_cannot_be_changed_in_place():
    chosen = recipe.load("mini")
    with pytest.raises(TypeError):
        chosen.weights["clip"] = "other"
    with pytest.raises(AttributeError):
        chosen.name = "other"


def test_every_process_writes_a_recipe_the_same_way():
    code = "from nerveseg import recipe; print(recipe.load('mini').to_toml())"
    texts = {
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1
