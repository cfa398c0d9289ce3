"""Published lists as their programs read them: what parts strings, where the background stands, and what a shared word does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from nerveseg import datasets, registry
from nerveseg.bench import name_check
from nerveseg.bench.words import ask
from nerveseg.datasets import DataSet, Item, classes
from nerveseg.datasets.base import table
from nerveseg.datasets.classes import dialects
from nerveseg.errors import DataError
from nerveseg.labels.base import Logits
from nerveseg.masks.decide import decide
from nerveseg.masks.upsampled_logits import UpsampledLogits

# Our own lines, in each program's form: class 0 stands for the background, "cot" is a class and one of its words.
FORMS = {
    "sclip": ["fog, cot, far hills", "coat, rain coat", "cot", "lamp,shade"],
    "naclip": ["fog, cot, far hills", "coat, rain coat", "cot", "lamp,shade"],
    "clearclip": ["fog,cot, far hills", "coat,rain coat", "cot", "lamp; shade"],
    "proxyclip": ["fog; cot; far hills", "coat; rain coat", "cot", "lamp, shade"],
    "corrclip": ["fog; cot; far hills", "coat; rain coat", "cot", "lamp;shade"],
    "lposs": ["fog;cot;far hills", "coat;rain coat", "cot", "lamp, shade"],
    "cliper": ["fog, cot, far  hills", "coat rain coat", "cot", "lamp, shade, and more "],
}
READ = {
    "sclip": [("fog", "cot", "far hills"), ("coat", "rain coat"), ("cot",), ("lamp,shade",)],
    "clearclip": [("fog", "cot", "far hills"), ("coat", "rain coat"), ("cot",), ("lamp; shade",)],
    "proxyclip": [("fog", "cot", "far hills"), ("coat", "rain coat"), ("cot",), ("lamp, shade",)],
    "corrclip": [("fog", "cot", "far hills"), ("coat", "rain coat"), ("cot",), ("lamp;shade",)],
    "cliper": [("fog", "cot", "far", "hills"), ("coat rain coat",), ("cot",), ("lamp, shade, and more",)],
}
READ["naclip"], READ["lposs"] = READ["sclip"], READ["proxyclip"]

PYTHON = """
from other import *
BEHIND = ["fog", "cot"]
three = ("coat", "cot", "lamp,shade")
more = BEHIND + ["computed"]
class Data(Base):
    CLASSES = ("background", "coat", "cot", "lamp")
    PALETTE = [[0, 0, 0]]
    METAINFO = dict(classes=("a", "b", "c", "d", "e"), palette=[[1, 2, 3]])
by_id = {0: "coat", 1: "cot", 2: "lamp", 3: "hat", 4: "cup", 5: "tin"}
"""


def _write(folder, whose, lines, ending="\n"):
    path = folder / f"{whose}.txt"
    path.write_bytes(ending.join(lines).encode())
    return f"{whose}:{path}"


def _data(found, count, *, background):
    return DataSet("made", "val", "sclip", found, background, (Item("a"),), table({i: i for i in range(count)}))


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("whose", FORMS)
def test_each_form_is_read_as_its_program_reads_it(tmp_path, whose, ending):
    names = _write(tmp_path, whose, [*FORMS[whose], ""], ending)
    found = classes.read("voc21", names, count=4, background=True)
    assert [label.strings for label in found.labels] == READ[whose]
    assert found.names == ("background", READ[whose][1][0], "cot", READ[whose][3][0])
    assert (found.origin, found.dialect, found.others) == (names, whose, ())


def test_a_first_line_of_background_words_acts_where_the_background_is_no_class(tmp_path):
    names = _write(tmp_path, "cliper", FORMS["cliper"])
    found = classes.read("voc20", names, count=3, background=False)
    assert found.names == ("coat rain coat", "cot", "lamp, shade, and more")
    assert found.others == ("fog", "cot", "far", "hills")
    asked = ask(_data(found, 3, background=False))
    assert asked.background.strings == found.others
    assert asked.ids.tolist() == [0, 1, 2, 3], "3 is none of the classes"
    assert found.digest != dataclasses.replace(found, others=()).digest


def test_in_other_forms_there_is_no_background_where_it_is_no_class(tmp_path):
    found = classes.read("voc20", _write(tmp_path, "sclip", FORMS["sclip"][1:]), count=3, background=False)
    assert (found.names, found.others) == (("coat", "cot", "lamp,shade"), ())
    assert ask(_data(found, 3, background=False)).background is None


@pytest.mark.parametrize("whose", FORMS)
def test_a_word_that_is_a_class_and_the_backgrounds_goes_where_its_program_lets_it_go(tmp_path, whose):
    found = classes.read("voc21", _write(tmp_path, whose, FORMS[whose]), count=4, background=True)
    asked = ask(_data(found, 4, background=True))
    if whose == "cliper":  # a denominator alone: the class keeps its pixels
        assert asked.vocabulary.names[1] == "cot"
        assert asked.background.strings == READ[whose][0]
        return
    # As theirs: every string of the list in one softmax, the best of each class, the first of two equals.
    rows = [string for strings in READ[whose] for string in strings]
    groups = torch.tensor([place for place, strings in enumerate(READ[whose]) for _ in strings])
    vectors = {string: torch.randn(9, 7, generator=torch.Generator().manual_seed(len(string) * 31 + ord(string[0]))) for string in rows}
    shares = torch.stack([vectors[string] for string in rows]).softmax(0)
    theirs = torch.stack([shares[groups == c].amax(0) for c in range(4)]).argmax(0)
    own = [string for label in asked.vocabulary for string in label.strings]
    numbers = tuple(place for place, label in enumerate(asked.vocabulary) for _ in label.strings)
    maps = torch.stack([vectors[string] for string in (*own, *asked.background.strings)])
    K = len(asked.vocabulary)
    G = torch.full((K + 1, 9, 7), 1 / (K + 1))
    ids = decide(G, G, (9, 7), background=True, strings=UpsampledLogits(Logits(maps, numbers, 1.0, "max"), "best"))
    assert np.array_equal(asked.guess(ids.numpy()), theirs.numpy())
    assert {0, 1, 3} <= set(theirs.unique().tolist())
    assert asked.vocabulary.names == ("coat", READ[whose][3][0]), "nothing is left that 'cot' could win by"


def test_a_class_keeps_the_strings_that_are_its_own(tmp_path):
    found = classes.read("voc21", _write(tmp_path, "proxyclip", ["fog; cot", "Cot; bunk", "hat"]), count=3, background=True)
    asked = ask(_data(found, 3, background=True))
    assert [(label.name, label.strings) for label in asked.vocabulary] == [("Cot", ("bunk",)), ("hat", ("hat",))]
    assert asked.background.strings == ("fog", "cot", "Cot"), "each as often as it stands in the list"


def test_two_classes_that_begin_alike_keep_names_of_their_own(tmp_path):
    found = classes.read("x", _write(tmp_path, "sclip", ["wood, board", "wood", "hat"]))
    assert found.names == ("wood", "wood (2)", "hat")
    assert found.labels[1].strings == ("wood",)


@pytest.mark.parametrize(
    ("which", "count", "background", "names", "others"),
    [
        ("", 4, True, ("background", "coat", "cot", "lamp"), ()),
        ("#three", 3, False, ("coat", "cot", "lamp,shade"), ()),
        ("", 3, False, ("coat", "cot", "lamp,shade"), ()),
        ("#three,BEHIND", 4, True, ("background", "coat", "cot", "lamp,shade"), ()),
        ("#three,BEHIND", 3, False, ("coat", "cot", "lamp,shade"), ("fog", "cot")),
        ("#Data.METAINFO.classes", 5, False, ("a", "b", "c", "d", "e"), ()),
        ("#by_id", 6, False, ("coat", "cot", "lamp", "hat", "cup", "tin"), ()),
    ],
)
def test_lists_are_read_out_of_python_files_that_are_not_run(tmp_path, which, count, background, names, others):
    path = tmp_path / "lists.py"
    path.write_text(PYTHON)
    found = classes.read("x", f"tagclip:{path}{which}", count=count, background=background)
    assert (found.names, found.others) == (names, others)
    if which.endswith("BEHIND") and background:
        assert found.labels[0].strings == ("fog", "cot")


def test_a_string_of_a_python_file_has_the_marks_of_its_program(tmp_path):
    path = tmp_path / "lists.py"
    path.write_text("CLASSES = ('fog;hill', 'coat', 'cot')\n")
    assert classes.read("x", f"lposs:{path}", count=3, background=True).labels[0].strings == ("fog", "hill")
    assert classes.read("x", f"mmseg:{path}", count=3, background=True).labels[0].strings == ("fog;hill",)


@pytest.mark.parametrize(
    ("names", "text", "said"),
    [
        ("sclip:a.txt", "a\n\nb", "Got an empty line 2"),
        ("sclip:a.txt", "a\nb", r"Got 2 classes in .*Accepted are 3\. Give the list"),
        ("sclip:nope.txt", None, "which cannot be read"),
        ("cliper:a.txt", "a\nb\nc", "Got 2 classes in"),
        ("mmseg:a.py", "X = ['a']\n", r"its lists of strings: X \(1\)\. Write PATH#CLASSES"),
        ("mmseg:a.py", "def f(:\n", "no Python that can be parsed"),
        ("mmseg:a.py#X,Y,Z", "X = ['a']\nY = ['a']\nZ = ['a']", "do not say one list"),
        ("mmseg:a.py#Q", "X = ['a', 'b', 'c']", "do not say one list"),
        ("mmseg:a.py", "X = ['a', 'b', 'c']\nY = ['a', 'b', 'd']", "do not say one list"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, monkeypatch, names, text, said):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / names.partition(":")[2].partition("#")[0]).write_text(text)
    with pytest.raises(DataError, match=said):
        classes.read("voc20", names, count=3, background=False)


def test_a_shared_word_in_a_list_without_a_dialect_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "plain.txt").write_text("fog; cot\ncot\nhat")
    found = classes.read("x", tmp_path / "plain.txt", count=3, background=True)
    with pytest.raises(DataError, match=r"'cot' both as a label and as background.*say whose it is, such as sclip:PATH"):
        ask(_data(found, 3, background=True))


@pytest.mark.parametrize("whose", dialects.DIALECTS)
def test_a_dialect_is_no_data_set_and_no_list_that_ships(whose):
    assert whose not in registry.names("datasets")
    assert dialects.dialect_of(f"{whose}:a.txt") == whose
    assert dialects.dialect_of(whose) is None
    assert dialects.dialect_of(f"c:{whose}") is None


def test_a_folder_and_the_check_of_names_read_them_too(tmp_path):
    from PIL import Image

    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        Image.new("L", (4, 4), 1).save(tmp_path / part / "a.png")
    names = _write(tmp_path, "cliper", FORMS["cliper"])
    data = datasets.open("folder", tmp_path, class_names=names)
    assert (data.background, data.classes) == (True, 4)
    assert ask(data).background.strings == ("fog", "cot", "far", "hills")
    assert name_check.names_of(names).names[0] == "background"
    python = tmp_path / "lists.py"
    python.write_text(PYTHON)
    assert name_check.names_of(f"tagclip:{python}#three").names == ("coat", "cot", "lamp,shade")
