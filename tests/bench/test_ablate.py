"""Ablations: variants compose and equal the package's own decode, rules are chosen where nothing is scored, tables and figures are made."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from nerveseg import datasets, registry
from nerveseg.bench.ablate import _jobs, _report, _run, _solve
from nerveseg.bench.ablate.base import Setting, Variant
from nerveseg.bench.job import Job
from nerveseg.bench.words import ask
from nerveseg.errors import OptionError, RunError
from nerveseg.segmenter import Segmenter

KINDS = registry.names("ablations")
JOB = Job("mini", "embedded", limit=2, threads=1)


@pytest.fixture(scope="module")
def mini():
    return Segmenter.from_pretrained("mini", device="cpu")


@pytest.fixture(scope="module")
def data():
    return datasets.open("embedded")


@pytest.fixture(scope="module")
def encoding(mini, data):
    return mini.encode(data.read(data.items[0])[0])


@pytest.fixture(scope="module")
def setting(mini, data, encoding):
    return Setting(mini.recipe, mini.networks, encoding.heads.count, data)


@pytest.mark.parametrize("kind", KINDS)
def test_variants_compose_and_hold_the_reference_once(kind, setting):
    module = registry.load("ablations", kind)
    variants = module.variants(setting)
    names = [variant.name for variant in variants]
    assert len(set(names)) == len(names)
    assert names.count(module.reference) == 1
    assert "G alone" in names
    assert len(_solve.prepare(setting.recipe, variants)) == len(variants)
    assert module.title
    assert module.claim


def test_a_plain_variant_is_what_decode_does(mini, data, encoding):
    asked = ask(data, data.items[0])
    (prepared,) = _solve.prepare(mini.recipe, [Variant("plain")])
    solver = _solve.Solver(mini, lambda _recipe: encoding, lambda _variant: asked)
    ((_, solved),) = solver([prepared])
    inside = mini.label(encoding, asked.vocabulary, asked.background)
    torch.testing.assert_close(solved.P, inside.P)
    assert solved.grid == inside.grid


def test_one_step_and_heads_are_what_they_say(mini, data, encoding):
    from nerveseg import transition
    from nerveseg.transition import Heads

    asked = ask(data, data.items[0])
    prepared = _solve.prepare(mini.recipe, [Variant("step", once=True), Variant("head", heads=(1,), once=True)])
    step, head = (solved for _, solved in _solve.Solver(mini, lambda _r: encoding, lambda _v: asked)(prepared))
    knobs = {"options": mini.recipe.transition, "kernel_options": mini.recipe.kernel.options}
    torch.testing.assert_close(step.P, transition.build(encoding.heads, step.G, **knobs) @ step.G)
    one = Heads(encoding.heads.queries[1:2], encoding.heads.keys[1:2], encoding.heads.grid)
    torch.testing.assert_close(head.P, transition.build(one, head.G, **knobs) @ head.G)


def test_encodings_are_shared_by_variants_that_re_solve_only(mini, data, encoding):
    made = []
    asked = ask(data, data.items[0])
    variants = [Variant("a"), Variant("b", {"walk.alpha": 0.5}), Variant("c", {"graph.t": 30})]
    solver = _solve.Solver(mini, lambda recipe: made.append(recipe) or encoding, lambda _v: asked)
    assert len(list(solver(_solve.prepare(mini.recipe, variants)))) == 3
    assert len(made) == 2


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablate")
    few = (Variant("G alone", {"walk.name": "none"}), Variant("global, one step", once=True), Variant("global + local, walk"))
    given = _run.Ablation("affinity", JOB, choose=2, cache=str(folder / "encodings"), variants=few)
    summary = _jobs.run(given, folder / "run", command="nerveseg ablate affinity")
    return given, folder / "run", summary


def test_a_run_leaves_a_table_and_a_figure(ran):
    _, folder, summary = ran
    assert (summary.done, summary.left) == (4, 0)
    text = (folder / "table.md").read_text("utf-8")
    assert "global + local, walk" in text
    assert "2 images of embedded test" in text
    assert "rules chosen on 2 others" in text
    assert "nerveseg ablate affinity" in text
    assert (folder / "figure.png").stat().st_size > 5000


def test_it_goes_on_and_gives_the_same_lines(ran, tmp_path):
    given, folder, _ = ran
    lines = (folder / "results.jsonl").read_bytes()
    assert _jobs.run(given, folder).skipped == 4
    assert (folder / "results.jsonl").read_bytes() == lines


def test_rules_are_chosen_where_nothing_is_scored(ran, tmp_path):
    _, folder, _ = ran
    for name in ("run.json", "items.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    good, bad = [[0, 0, 90], [0, 1, 10]], [[0, 0, 10], [0, 1, 90]]
    items = [json.loads(text) for text in (folder / "items.jsonl").read_text("utf-8").splitlines()]
    with (tmp_path / "results.jsonl").open("w", encoding="utf-8") as file:
        for item in items:
            choosing = item.startswith("choose/")
            # Rule a is the better one where rules are chosen, b where they are scored.
            rules = {"a": good if choosing else bad, "b": bad if choosing else good}
            variants = {name: {"about": {}, "rules": rules} for name in ("G alone", "global + local, walk")}
            file.write(json.dumps({"item": item, "variants": variants}) + "\n")
    found = _report.outcome(tmp_path)
    assert {row.rule for row in found.rows} == {"a"}
    assert found.rows[0].miou == pytest.approx(100 * (0.1 + 0) / 2)


def test_of_a_group_the_best_is_shown_by_the_images_that_are_not_scored():
    about = {"x": {"group": "one of us"}, "y": {"group": "one of us"}, "z": {}}
    best = {"x": (50.0, "a"), "y": (60.0, "a"), "z": (1.0, "a")}
    assert list(_report._shown(dict.fromkeys(about), about, best)) == [("one of us", "y"), ("z", "z")]
    worst = {"x": {"group": "one of us", "worst": True}, "y": {"group": "one of us", "worst": True}, "z": {}}
    shown = list(_report._shown(dict.fromkeys(worst), worst, best))
    assert shown == [("one of us", "x"), ("x", "x"), ("y", "y"), ("z", "z")]


def test_a_split_that_is_its_own_is_parted_and_no_image_is_in_both():
    parts = _run.Ablation("steps", dataclasses.replace(JOB, limit=8), choose=3, choose_split="test").parts()
    chosen, scored = ({item.id for item in part.items} for part in (parts.choosing, parts.scored))
    assert (len(chosen), len(scored)) == (3, 5)
    assert not chosen & scored
    many = _run.Ablation("steps", dataclasses.replace(JOB, limit=8), choose=60, choose_split="test").parts()
    assert (len(many.choosing), len(many.scored)) == (4, 4)  # never more than half
    with pytest.raises(OptionError, match="choose on 0 images"):
        _run.Ablation("steps", dataclasses.replace(JOB, limit=1), choose_split="test").parts()


def test_splits_that_share_images_leave_those_out(tmp_path, miniature):
    for part in ("val", "train"):
        miniature.write("folder", tmp_path / part)
        for what in ("images", "masks"):
            (tmp_path / what).mkdir(exist_ok=True)
            (tmp_path / part / what).rename(tmp_path / what / part)
    (tmp_path / "val" / "names.txt").rename(tmp_path / "names.txt")
    job = Job("mini", "folder", root=str(tmp_path), split="all")
    own = _run.Ablation("steps", job).parts()
    assert not {item.image for item in own.choosing.items} & {item.image for item in own.scored.items}
    with pytest.raises(OptionError, match="all of whose images are scored"):
        _run.Ablation("steps", job, choose_split="val").parts()


def test_a_split_that_is_not_there_is_told_with_what_else_can_be_done(tmp_path, miniature):
    miniature.write("ade20k", tmp_path)
    with pytest.raises(OptionError, match=r"Got the split 'train' of ade20k.*--choose-split val.*--choose 0"):
        _run.Ablation("steps", Job("mini", "ade20k", root=str(tmp_path))).parts()


def test_another_job_s_folder_is_refused(ran, tmp_path):
    _, folder, _ = ran
    record = json.loads((folder / "run.json").read_text("utf-8"))
    record["identity"]["kind"] = "something else"
    (tmp_path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    (tmp_path / "items.jsonl").write_bytes((folder / "items.jsonl").read_bytes())
    with pytest.raises(RunError, match="another kind of job"):
        _report.outcome(tmp_path)


@pytest.mark.parametrize("name", ["cliper", "iseg"])
def test_without_a_choice_of_rules_a_variant_decides_as_its_recipe_does(name, data, tmp_path):
    from nerveseg.synthetic.compare import carried

    recipe = carried(name)
    segmenter = Segmenter.from_pretrained(recipe, device="cpu")
    image, mask = data.read(data.items[0])
    asked = ask(data, data.items[0])
    given = _run.Ablation("affinity", JOB, choose=0, variants=(Variant("plain"),))
    worker = _run.Worker(given)
    state = {"segmenter": segmenter, "items": {"score/x": (data, data.items[0])}, "variants": _solve.prepare(recipe, given.variants)}
    worker._state.update(state)
    ((_, rules),) = worker.work("score/x", (image, mask)).result["variants"].items()
    ((_, found),) = rules["rules"].items()
    result = segmenter(image, asked.vocabulary, background=asked.background)
    guess = asked.guess(result.segmentation.numpy())
    assert found == _run.count(mask, guess, data.classes).tolist()
