"""What the page does, without the page: the same as the library does when it is called by hand."""

from __future__ import annotations

import zipfile
from io import BytesIO

import pytest
import torch
from PIL import Image

from nerveseg import Click, registry
from nerveseg.errors import ImageError, LabelError, MissingExtra, OptionError, OutputError
from nerveseg.image import load_image
from nerveseg.recipe import load as recipe
from nerveseg.segmentation import Segmentation
from nerveseg.synthetic import bundled
from nerveseg.ui.knobs import Knobs
from nerveseg.ui.work import MAX_LABELS, Work, written
from nerveseg.words.vocabulary import Vocabulary

_SCENE = bundled.scenes()[2]
_WORDS = "apple, rabbit, grass"


@pytest.fixture
def work(mini):
    """With empty desks."""
    return Work(mini)


def _wish(work, words=_WORDS, background="none", others="", **settings):
    return work.wish(words, background, others, settings)


def test_it_is_the_librarys_answer(work, mini):
    told = []
    work.open("me", _SCENE.path, "", told.append)
    desk = work.label("me", _wish(work), told.append)
    expected = mini.decode(mini.encode(_SCENE.path), _WORDS.split(", "))
    assert torch.equal(desk.result.segmentation, expected.segmentation)
    assert told[:3] == ["read", "read", "label network"]
    assert told[-4:] == ["labels", "transition", "walk", "decide"]
    assert desk.passes == 1
    assert work.open("me", _SCENE.path).passes == 2


def test_clicks_come_and_go(work, mini):
    work.open("me", _SCENE.path)
    first = work.label("me", _wish(work)).result
    for step in range(11):
        work.click("me", Click("rabbit", points=(10 + 5 * step, 20)))
    held = work.desks.get("me")
    assert len(held.trail) == 8
    assert all(step.before is None for step in held.trail)
    start = mini.correct(mini.encode(_SCENE.path), _WORDS.split(", "))
    for left in range(10, 0, -1):
        desk = work.undo("me")
        assert len(desk.clicks) == left
        expected = start.add(*desk.clicks).result
        assert (desk.result.segmentation != expected.segmentation).float().mean() < 2e-3
    assert torch.equal(work.undo("me").result.segmentation, first.segmentation)
    assert work.undo("me").clicks == ()


def test_clicks_outlast_knobs_and_words_that_stay(work):
    work.open("me", _SCENE.path)
    work.label("me", _wish(work))
    work.click("me", Click("rabbit", points=(30, 30)))
    work.click("me", Click("my toy", points=(90, 20)))
    work.click("me", Click("apple", points=(60, 20)))
    desk = work.label("me", _wish(work, **{"walk.alpha": 0.9}))
    assert [click.label for click in desk.clicks] == ["rabbit", "my toy", "apple"]
    assert desk.result.id2label[int(desk.result.segmentation[20, 90])] == "my toy"
    desk = work.label("me", _wish(work, "rabbit, sky"))
    assert [click.label for click in desk.clicks] == ["rabbit", "my toy"]
    assert desk.result.id2label[int(desk.result.segmentation[30, 30])] == "rabbit"


def test_the_background_is_one_of_three(work):
    work.open("me", _SCENE.path)
    assert work.label("me", _wish(work)).result.background is None
    assert work.label("me", _wish(work, background="auto")).result.background == 3
    assert work.label("me", _wish(work, "apple", "words", "grass, sky")).result.background == 1


@pytest.mark.parametrize(
    ("words", "background", "others", "said"),
    [
        ("", "none", "", "Got no words"),
        ("cat", "none", "", "single label"),
        ("cat, Cat", "none", "", "twice"),
        ("cat, dog\x00", "none", "", "control character"),
        ("cat, \u202edog", "none", "", "control character"),
        ("cat, dog", "words", " ", "for the background"),
        ("cat, dog", "words", "dog", "both"),
        (", ".join(map(str, range(10_000))), "none", "", "10,000 words"),
        ("x" * 30_000, "none", "", "30,000 letters"),
        (";".join(map(str, range(MAX_LABELS + 1))), "none", "", "513 words"),
    ],
)
def test_words_that_cannot_be_labels_are_refused(work, words, background, others, said):
    with pytest.raises(LabelError, match=said):
        work.wish(words, background, others)


def test_bad_images_and_bad_clicks_are_refused(work):
    with pytest.raises(ImageError, match="Got no image"):
        work.label("me", _wish(work))
    for data in (b"", b"GIF89a", _SCENE.path.read_bytes()[:100]):
        with pytest.raises(ImageError):
            work.open("me", data)
    large = BytesIO()
    Image.new("1", (20_000, 20_000)).save(large, format="PNG")
    with pytest.raises(ImageError):
        work.open("me", large.getvalue())
    work.open("me", _SCENE.path)
    with pytest.raises(OptionError, match="without labels"):
        work.click("me", Click("apple", points=(3, 3)))
    work.label("me", _wish(work))
    with pytest.raises(OptionError):
        work.click("me", Click("apple", points=(3000, 3)))
    with pytest.raises(LabelError):
        work.click("me", Click("x" * 201, points=(3, 3)))
    with pytest.raises(LabelError):
        work.click("me", Click("a\nb\x07", points=(3, 3)))
    assert work.desks.get("me").clicks == ()


def test_an_image_that_cannot_be_read_leaves_no_other_in_its_place(work):
    work.open("me", _SCENE.path)
    with pytest.raises(ImageError):
        work.open("me", b"no image")
    with pytest.raises(ImageError, match="Got no image"):
        work.label("me", _wish(work))


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("../../etc/passwd", "passwd"),
        ("a\\b\\c d.png", "c d"),
        ("n\x00\x1bx.jpg", "nx"),
        ("." * 9, "picture"),
        ("é" * 300 + ".png", "é" * 80),
    ],
)
def test_names_of_files_are_made_plain(work, tmp_path, name, stem):
    work.open("me", _SCENE.path.read_bytes(), name)
    work.label("me", _wish(work))
    path = work.save("me", "overlay", tmp_path)
    assert path.name == f"{stem}.overlay.png"
    assert path.parent.parent == tmp_path


@pytest.mark.parametrize("format", registry.names("writers"))
def test_every_format_is_one_file(work, mini, tmp_path, format):
    result = mini.decode(mini.encode(_SCENE.path), _WORDS.split(", "))
    try:
        path = written(result, format, tmp_path)
    except MissingExtra:
        pytest.skip(f"{format} needs a package that is not here")
    assert path.is_file()
    if path.suffix == ".zip" and path.name.endswith(f"-{format}.zip"):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert all(entry.external_attr >> 16 == 0o644 for entry in archive.infolist())
            assert len(archive.namelist()) > 1


def test_more_labels_than_a_format_holds_are_refused(tmp_path):
    P = torch.full((301, 2, 2), 1 / 301)
    result = Segmentation.build(P, P, Vocabulary.parse([f"word {number}" for number in range(300)]), load_image(_SCENE.path))
    with pytest.raises(OutputError):
        written(result, "voc", tmp_path)


def test_notes_say_which_words_are_not_known(work):
    work.open("me", _SCENE.path)
    desk = work.label("me", _wish(work, "apple, zeppelin"))
    assert [note for note in work.notes(desk) if "zeppelin" in note]


def test_notes_say_that_an_image_is_unlike_those_that_the_networks_know(work):
    held = BytesIO()
    Image.effect_noise((120, 96), 80).convert("RGB").save(held, "PNG")
    assert "know drawn scenes only" in work.notes(work.open("me", held.getvalue(), "noise.png"))[0]


def test_only_what_was_changed_is_set():
    mini, paper, clip = recipe("mini"), recipe("nerve-paper"), recipe("clip")
    own = Knobs.of(mini)
    assert own == Knobs(0.98, 0.2, 40, endless=True)
    assert own.settings(mini) == {}
    assert Knobs(0.9, 0.2, 40, endless=True).settings(mini) == {"walk.alpha": 0.9}
    assert Knobs(0.98, 0.5, 7, endless=False).settings(mini) == {"transition.beta": 0.5, "walk.name": "truncated", "walk.steps": 7}
    assert Knobs.of(paper).endless is False
    assert Knobs.of(paper).settings(paper) == {}
    assert Knobs(Knobs.of(paper).alpha, Knobs.of(paper).beta, 3, endless=True).settings(paper) == {"walk.name": "infinite"}
    assert Knobs.of(clip) == Knobs()
    assert Knobs().settings(clip) == {}


def test_every_recipes_knobs_compose():
    from nerveseg.recipe import list_recipes

    for name in list_recipes():
        chosen = recipe(name)
        own = Knobs.of(chosen)
        turned = Knobs(own.alpha and 0.5, own.beta and 0.25, own.steps and 5, endless=not own.endless)
        assert chosen.changed(turned.settings(chosen)).digest
