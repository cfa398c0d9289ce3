"""Names before a run: every finding against plain loops over text vectors, and the command."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path

import pytest

from nerveseg.bench import name_check
from nerveseg.datasets import classes
from nerveseg.errors import DataError, OptionError
from nerveseg.words.vocabulary import BACKGROUND_WORDS

LIST = "background; sky\nrabbit; small rabbit\nmouse; rabbit\ncat; big cat; tractor\nhound\ndonut\n"


@pytest.fixture
def names(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(LIST)
    return classes.read("mine", path)


@pytest.fixture(scope="module")
def mini_clip():
    return name_check.tower("mini", device="cpu", offline=True)[0]


@pytest.fixture
def report(names, mini_clip):
    return name_check.check(names, mini_clip, templates="none")


@pytest.fixture
def apart(names, mini_clip):
    """``apart("a", "b")``: distance of two strings in typical distances, string by string."""
    known = set(BACKGROUND_WORDS) - set(mini_clip.unknown(BACKGROUND_WORDS)) - {"background"}
    yardstick = [label.strings[0] for label in names.labels] + [word for word in BACKGROUND_WORDS if word in known]

    def distance(first, second):
        one, other = (mini_clip.text([word])[0].tolist() for word in (first, second))
        return 1 - sum(a * b for a, b in zip(one, other, strict=True))

    between = [distance(a, b) for i, a in enumerate(yardstick) for b in yardstick[i + 1 :]]
    typical = statistics.median_low(between)
    return lambda first, second: distance(first, second) / typical


def _of(report, kind):
    return [one for one in report.findings if one.kind == kind]


def test_pairs_of_classes_that_are_near_by_hand(names, report, apart):
    wanted = {}
    for i, one in enumerate(names.labels):
        for other in names.labels[i + 1 :]:
            pairs = [(apart(a, b), a, b) for a in one.strings for b in other.strings if a != b]
            if min(pairs)[0] <= 0.25:
                wanted[one.name, other.name] = min(pairs)
    found = {(one.name, one.other): (one.distance, one.string, one.beside) for one in _of(report, "near")}
    assert set(found) == set(wanted)
    assert ("rabbit", "mouse") in found
    for pair, (distance, first, second) in wanted.items():
        assert found[pair][0] == pytest.approx(distance, abs=1e-4)
        assert found[pair][1:] == (first, second)


def test_strings_in_another_sense_by_hand(names, report, apart):
    wanted = set()
    for label in names.labels[1:]:
        for string in label.strings:
            own = [apart(string, other) for other in label.strings if other != string]
            others = [apart(string, word) for far in names.labels[1:] if far is not label for word in far.strings if word != string]
            if own and min(others) < min(own):
                wanted.add((label.name, string))
    assert {(one.name, one.string) for one in _of(report, "off sense")} == wanted
    assert ("mouse", "rabbit") in wanted or ("cat", "tractor") in wanted
    for one in _of(report, "off sense"):
        assert one.distance < one.own


def test_how_far_synonyms_lie_apart_by_hand(names, report, apart):
    wanted = {
        label.name: max((apart(a, b), a, b) for i, a in enumerate(label.strings) for b in label.strings[i + 1 :])
        for label in names.labels
        if len(label.strings) > 1
    }
    assert {spread.name: pytest.approx(spread.widest, abs=1e-4) for spread in report.spreads} == {n: v[0] for n, v in wanted.items()}
    assert [spread.widest for spread in report.spreads] == sorted((spread.widest for spread in report.spreads), reverse=True)
    assert next(spread for spread in report.spreads if spread.name == "cat").strings == 3


def test_words_that_were_not_trained_on_cut_ones_and_strings_in_two_classes(report, mini_clip, tmp_path):
    assert [(one.name, one.string) for one in _of(report, "unknown")] == [("hound", "hound")]
    assert [(one.name, one.string, one.other) for one in _of(report, "same string")] == [("rabbit", "rabbit", "mouse")]
    assert _of(report, "no background") == []
    (tmp_path / "long.txt").write_text("dog\ncat " + "and one dog " * 20 + "\n")
    found = name_check.check(classes.read("long", tmp_path / "long.txt"), mini_clip, templates="none")
    assert [one.name[:3] for one in _of(found, "cut")] == ["cat"]
    assert len(_of(found, "no background")) == 1
    assert report.strings == 11


def test_what_names_are_meant_to_be_comes_from_another_list(mini_clip, tmp_path):
    (tmp_path / "mine.txt").write_text("background\ndog\ngrass\nhorse\n")
    (tmp_path / "meant.txt").write_text("dog\ngrass\nhorse; pony\n")
    mine, meant = (classes.read("x", tmp_path / name) for name in ("mine.txt", "meant.txt"))
    assert _of(name_check.check(mine, mini_clip, templates="none", against=meant), "off sense") == []
    (tmp_path / "turned.txt").write_text("dog\nhorse\ngrass\n")
    turned = classes.read("x", tmp_path / "turned.txt")
    found = _of(name_check.check(mine, mini_clip, templates="none", against=turned), "off sense")
    assert {(one.name, one.other, one.beside) for one in found} == {("grass", "grass", "grass"), ("horse", "horse", "horse")}
    (tmp_path / "two.txt").write_text("dog\nhorse\n")
    with pytest.raises(DataError, match="2 classes"):
        name_check.check(mine, mini_clip, templates="none", against=classes.read("x", tmp_path / "two.txt"))


def test_larger_near_tells_more(names, mini_clip):
    counts = [len(_of(name_check.check(names, mini_clip, templates="none", near=near), "near")) for near in (0.0, 0.25, 1.0)]
    assert counts == sorted(counts)
    assert counts[0] == 0 < counts[-1]
    with pytest.raises(OptionError, match="near"):
        name_check.check(names, mini_clip, templates="none", near=2.0)


def test_one_name_alone_can_be_checked(mini_clip, tmp_path):
    (tmp_path / "one.txt").write_text("dog\n")
    report = name_check.check(classes.read("one", tmp_path / "one.txt"), mini_clip, templates="plain", against=None)
    assert (report.classes, [one.kind for one in report.findings]) == (1, ["no background"])


def test_lists_that_ship_by_name_and_files():
    assert name_check.names_of("voc21").origin == "official"
    assert len(name_check.names_of("voc21:lposs").labels[0].strings) > 20
    with pytest.raises(DataError):
        name_check.names_of("voc21:nothing")
    with pytest.raises(DataError, match="cannot be read"):
        name_check.names_of("nowhere.txt")
    assert len(name_check.names_of("embedded")) == len(name_check.names_of("embedded:synonyms")) == 112
    with pytest.raises(OptionError, match="folder of yours"):
        name_check.names_of("folder")


def test_recipes_without_text_vectors_are_refused():
    with pytest.raises(OptionError, match="one prompt"):
        name_check.tower("nerve-iseg")


def test_only_the_text_towers_network_is_loaded(monkeypatch):
    kinds = []
    load = name_check.backbones.load
    monkeypatch.setattr(name_check.backbones, "load", lambda kind, *rest, **more: kinds.append(kind) or load(kind, *rest, **more))
    name_check.tower("mini", device="cpu")
    assert kinds == ["clip"]


def test_what_the_page_shows_runs(run):
    text = (Path(__file__).parents[2] / "docs" / "names.md").read_text("utf-8")
    commands = re.findall(r"^nerveseg (names .+)$", text, re.MULTILINE)
    assert len(commands) >= 2
    for command in commands:
        result = run(*command.split())
        assert result.exit_code == 0, result.stderr
    assert "rabbit" in run(*commands[0].split()).stdout


def test_the_command(run, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(LIST)
    result = run("names", "check", path)
    assert result.exit_code == 0, result.stderr
    for word in ("near", "off sense", "unknown", "hound", "same string", "synonyms of"):
        assert word in result.stdout
    assert path.read_text() == LIST
    said = json.loads(run("names", "check", path, "--json", "--against", path).stdout)
    assert (said["recipe"], said["classes"], said["strings"]) == ("mini", 6, 11)
    assert {one["kind"] for one in said["findings"]} <= set(name_check.KINDS)
    assert run("names", "check", "nowhere.txt").exit_code == 1
    assert run("names", "check", path, "--recipe", "nerve-iseg").exit_code == 2
    assert run("names", "check", path, "--near", "3").exit_code == 2
