from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tomllib

import pytest

from nerveseg import recipe, registry
from nerveseg.errors import NerveSegError, OptionError, RecipeError, RegistryError


@pytest.mark.parametrize("name", recipe.list_recipes())
def test_every_packaged_recipe_composes(name):
    chosen = recipe.load(name)
    assert chosen.name == name
    assert chosen.title != name
    assert set(chosen.needs) <= set(chosen.weights)
    for stage in (chosen.labels, chosen.calibration, chosen.rule, chosen.refiner, chosen.kernel):
        registry.check(stage.options)


@pytest.mark.parametrize(("name", "benchmark"), [(name, data) for name in recipe.list_recipes() for data in recipe.load(name).benchmarks])
def test_what_a_method_sets_for_a_benchmark_composes_too(name, benchmark):
    chosen = recipe.load(name)
    assert benchmark in recipe.BENCHMARKS
    changed = chosen.for_benchmark(benchmark)
    assert changed.digest != chosen.digest or not chosen.table["benchmarks"][benchmark]


def test_a_benchmark_without_settings_of_its_own_takes_the_recipe_as_it_is():
    assert recipe.load("mini").for_benchmark("voc21").digest == recipe.load("mini").digest


@pytest.mark.parametrize("name", recipe.list_recipes())
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
    assert first.changed({"walk.name": "truncated"}).walk.options.alpha == first.walk.options.alpha
    assert first.changed({"kernel.name": "softmax"}).kernel.options.temperature == 1.0
    assert first.changed({"labels.name": "clip"}).labels.name == "clip"
    assert first.changed({"walk.name": "truncated", "walk.steps": 3}).walk.options.steps == 3


@pytest.mark.parametrize(("part", "attribute"), [("graph.name", "graph"), ("walk.name", "walk")])
def test_graph_and_walk_may_be_none(part, attribute):
    chosen = recipe.load("mini").changed({part: "none"})
    assert getattr(chosen, attribute) is None
    assert tomllib.loads(chosen.to_toml())[part.partition(".")[0]] == {part.partition(".")[2]: "none"}


def test_without_a_graph_no_diffusion_model_is_needed():
    assert recipe.load("mini").changed({"graph.name": "none"}).needs == ("clip",)


@pytest.mark.parametrize(
    ("settings", "error", "word"),
    [
        ({"walk.alpha": 1.5}, OptionError, "walk.alpha = 1.5"),
        ({"walk.alpha": "0.5"}, OptionError, "float"),
        ({"walk.alpha": True}, OptionError, "float"),
        ({"walk.alhpa": 0.5}, OptionError, "Did you mean 'alpha'"),
        ({"alpha": 0.5}, OptionError, r"TABLE\.KNOB"),
        ({"walk.solver.alpha": 0.5}, OptionError, r"TABLE\.KNOB"),
        ({"walk.name": "wolk"}, RegistryError, "Accepted are"),
        ({"labels.name": "none"}, RegistryError, "Accepted are"),
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
        ('[graph]\nname = "stable_diffusion"\n[masks]\nupsample = "logits"\n', "something walks"),
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


_INF = float("inf")


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"masks.name": _INF}, "Got inf for rules"),
        ({"labels.name": 3.5}, "Got 3.5 for labels"),
        ({"walk.name": 1}, "Got 1 for walks"),
        ({"calibration.name": {}}, "Got {} for calibrations"),
        ({"refiner.name": True}, "Got True for refiners"),
        ({"graph.name": None}, "Got None for graphs"),
        ({"kernel.name": ["exp"]}, "for kernels"),
        ({"words.templatez": "plain"}, "Did you mean 'templates'"),
        ({"words.templates": "nope"}, "Got the templates 'nope'"),
        ({"words.templates": ["a {}"]}, "Accepted is the name of a set"),
        ({"weights.clipp": "x"}, "Did you mean 'clip'"),
        ({"weights.clip": 3}, "Give it as a text"),
        ({"weights.clip": " "}, "Give it as a text"),
        ({"lables.scale": 1.0}, "Did you mean 'labels'"),
        ({3: 4}, "Got the setting 3"),
        ({"walk.alpha": 10**400}, "Accepted is a float"),
        ({"walk.alpha": 10**5001}, "too large to be written"),
        ({"walk.alpha": "x" * 10**6}, "Accepted is a float"),
        ({"masks.min_area": 10**30}, "Accepted is a whole number"),
        ({"masks.temperature": 10**400}, "Accepted is a number"),
        ({"labels.scale": _INF}, "Choose a value in that range"),
        ({"walk.tolerance": float("nan")}, "Choose a value in that range"),
        ({"graph.layers": [1e400]}, "Accepted is a tuple"),
        ({"graph.layers": [[[[1]]]]}, "Accepted is a tuple"),
        ({"graph.layers": [{"a": 1}]}, "Accepted is a tuple"),
        ({"masks.upsample": [1]}, "Accepted are 'probabilities'"),
    ],
)
def test_settings_of_any_kind_are_refused_in_our_words(settings, word):
    with pytest.raises(NerveSegError, match=word) as caught:
        recipe.load("mini", settings)
    assert len(str(caught.value)) < 600


def test_an_infinite_peakedness_is_a_choice():
    assert recipe.load("mini", {"transition.peakedness": _INF}).transition.peakedness == _INF


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[labels]\nx = " + "[" * 2000 + "]" * 2000, "brackets inside one another"),
        ("[labels]\nname = " + "[" * 200 + "]" * 200, "for labels"),
        ("[walk]\nalpha = " + "9" * 5001, "thousands of digits"),
        ("[benchmarks]\nvoc21 = inf\n", r"Write \[benchmarks.voc21\]"),
        ("[benchmarks.foo]\n", r"Got \[benchmarks.foo\]"),
        ('[benchmarks.coco_object]\n"labels.scale" = 3.0\n', "Did you mean 'coco-object'"),
        ('[benchmarks.voc21]\n"labels.scalee" = 3.0\n', r"\[benchmarks.voc21\].*Did you mean 'scale'"),
        ("[benchmarks.voc21.labels]\nscale = 3.0\n", "Got the setting 'labels'"),
        ("benchmarks = 3\n", r"Write it as \[benchmarks\]"),
        ("labels = 3\n", r"Write it as \[labels\]"),
        ("title = 1979-05-27\n", "Put it in quotes"),
        ("format = true\n", "format True"),
        ("[[labels]]\nname = 'clip'\n", "Got 'labels'"),
        (b"title = 'caf\xe9'", "no UTF-8"),
        (b"#" * (2 << 20), "more than 1,048,576 bytes"),
        (b"title = 'a'\x00", "cannot be read"),
    ],
)
def test_files_of_any_kind_are_refused_in_our_words(tmp_path, text, word):
    path = tmp_path / "own.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(NerveSegError, match=word) as caught:
        recipe.load(path, {"walk.alpha": 0.5})
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("given", ["a\0b", "x" * 5000, "x" * 300 + ".toml", None, 3, b"mini"])
def test_what_is_no_path_is_refused_in_our_words(given):
    with pytest.raises(RecipeError, match="Got the recipe"):
        recipe.load(given)


def test_a_recipe_that_is_carried_has_all_of_it_but_where_its_weights_lie(tmp_path):
    chosen = recipe.load("cliper")
    (tmp_path / "recipe.toml").write_text(recipe.placed_at(chosen, {"clip": "./a", "diffusion": "./b"}), "utf-8")
    carried = recipe.load(tmp_path)
    assert dict(carried.weights) == {**chosen.weights, "clip": "./a", "diffusion": "./b"}
    assert carried.benchmarks == chosen.benchmarks
    for name in chosen.benchmarks:
        assert (
            carried.for_benchmark(name).changed({f"weights.{k}": v for k, v in chosen.weights.items()}).digest
            == chosen.for_benchmark(name).digest
        )


def test_a_folder_with_a_recipe_has_the_folders_name(tmp_path):
    home = tmp_path / "mine"
    home.mkdir()
    (home / "recipe.toml").write_text(recipe.load("mini").to_toml(), "utf-8")
    assert recipe.load(home).name == "mine"


def test_names_are_listed_without_composing():
    assert {"mini", "nerve", "nerve-paper"} <= set(recipe.list_recipes())
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


def test_knobs_for_a_record_are_json_infinity_included():
    chosen = recipe.load("mini").changed({"transition.peakedness": math.inf})
    assert chosen.transition.peakedness == math.inf
    tables = json.loads(json.dumps(chosen.tables(), allow_nan=False))
    assert tables["transition"]["peakedness"] == "inf"
    assert tables["walk"]["alpha"] == chosen.walk.options.alpha


def test_choices_by_their_old_keys_are_the_same_recipe_and_each_new_key_is_told(tmp_path):
    new = recipe.load("mini", {"walk.name": "truncated", "kernel.name": "cosine"})
    text = new.to_toml()
    for part, key in (("labels", "source"), ("graph", "source"), ("walk", "solver"), ("masks", "rule")):
        text = re.sub(rf"^\[{part}\]\nname =", f"[{part}]\n{key} =", text, flags=re.MULTILINE)
    text = re.sub(r"^\[kernel\]\n(?:.+\n)+", "", text, flags=re.MULTILINE).replace("[transition]\n", '[transition]\nkernel = "cosine"\n')
    text += '\n[benchmarks.voc21]\n"masks.rule" = "floor"\n'
    (tmp_path / "mini.toml").write_text(text, "utf-8")
    with pytest.warns(FutureWarning) as told:
        old = recipe.load(tmp_path / "mini.toml")
    assert old.digest == new.digest
    assert old.for_benchmark("voc21").rule.name == "floor"
    said = " ".join(str(one.message) for one in told)
    for key in ("[labels] name", "[graph] name", "[kernel] name", "[walk] name", "[masks] name", "masks.name"):
        assert f"{key} now" in said
    with pytest.warns(FutureWarning, match=r"walk\.solver in the settings is called walk\.name now"):
        assert recipe.load("mini", {"walk.solver": "truncated"}).walk.name == "truncated"
