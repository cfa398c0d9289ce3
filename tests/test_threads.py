"""One segmenter, several threads: the same maps as one thread gives, whatever the recipe passes through its networks."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from nerveseg import refine
from nerveseg.errors import LabelError
from nerveseg.labels._text_embedding import Ask, TextEmbedder
from nerveseg.segmenter import Segmenter, UntrainedWordWarning
from nerveseg.synthetic import scenes
from nerveseg.synthetic.compare import carried, without_walk
from nerveseg.synthetic.names import NAMES

IMAGES = tuple(scenes.render("val", number, (64, 80), (1, 2)).image for number in range(4))
LABELS = NAMES[:3]
# All label sources that pass through networks in their own way: hooks, the U-Net, prompts, a second look.
RECIPES = ("mini", "cliper", "diffsegmenter", "tagclip")
THREADS, CALLS = 4, 4


@pytest.fixture(scope="module")
def segmenters():
    made = {}

    def named(name):
        if name not in made:
            recipe = without_walk(name) if name == "tagclip" else carried(name)
            made[name] = Segmenter.from_pretrained(recipe, device="cpu")
        return made[name]

    return named


def call(segmenter, number):
    """One call in a way of its own, with words that nobody asked before."""
    image, labels = IMAGES[number % 4], [*LABELS, f"new{number}"]
    if number % 4 == 3:
        return segmenter.decode(segmenter.encode_many([image, IMAGES[0]])[0], labels).segmentation
    return segmenter(image, labels).segmentation


def in_threads(work, numbers):
    """All at once, as far as there are threads; results in order."""
    together = threading.Barrier(THREADS)

    def begun(number):
        if number < THREADS:
            together.wait(timeout=60)
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begun, numbers))


@pytest.mark.filterwarnings("ignore::nerveseg.segmenter.UntrainedWordWarning")
@pytest.mark.parametrize("name", RECIPES)
def test_threads_get_the_maps_of_one_thread(name, segmenters):
    segmenter = segmenters(name)
    alone = [call(segmenter, number) for number in range(CALLS)]
    segmenter._texts.clear()
    found = in_threads(lambda number: call(segmenter, number), range(CALLS))
    assert [np.array_equal(one, other) for one, other in zip(found, alone, strict=True)] == [True] * CALLS


@pytest.mark.filterwarnings("ignore::nerveseg.segmenter.UntrainedWordWarning")
def test_two_segmenters_on_the_same_networks_wait_for_each_other(segmenters):
    first = segmenters("mini")
    other = Segmenter(first.recipe.changed({"walk.alpha": 0.5}), first.networks, first.folders, first.device, first.dtype, first.familiar)
    assert other.turn is first.turn
    alone = [call((first, other)[number % 2], number) for number in range(CALLS)]
    found = in_threads(lambda number: call((first, other)[number % 2], number), range(CALLS))
    assert all(np.array_equal(one, again) for one, again in zip(found, alone, strict=True))


def test_refinement_by_a_segmenters_networks_waits_too(segmenters):
    mini, chance = segmenters("mini"), torch.Generator().manual_seed(0)
    maps = torch.rand(3, 10, 10, generator=chance)
    go = lambda number: refine(maps / maps.sum(0), IMAGES[number % 4], recipe=mini).segmentation  # noqa: E731
    alone = [go(number) for number in range(4)]
    assert all(np.array_equal(one, other) for one, other in zip(in_threads(go, range(4)), alone, strict=True))


@pytest.mark.filterwarnings("ignore::nerveseg.segmenter.UntrainedWordWarning")
def test_an_error_in_one_thread_leaves_the_others_their_turn(segmenters, monkeypatch):
    segmenter = segmenters("mini")
    alone = call(segmenter, 0)
    real = Segmenter._heads

    def sometimes(self, image, networks, seed, noise):
        if seed == 13:
            raise RuntimeError("a network that fails")
        return real(self, image, networks, seed, noise)

    monkeypatch.setattr(Segmenter, "_heads", sometimes)

    def go(number):
        if number % 3 == 0:
            with pytest.raises(RuntimeError, match="a network that fails"):
                segmenter.encode(IMAGES[0], seed=13)
            with pytest.raises(LabelError):
                segmenter(IMAGES[0], [])
            return None
        return call(segmenter, 0)

    found = in_threads(go, range(6))
    assert all(np.array_equal(map_, alone) for map_ in found if map_ is not None)
    assert np.array_equal(call(segmenter, 0), alone)


def test_who_holds_the_turn_may_call_and_others_wait(segmenters):
    segmenter, began, done = segmenters("mini"), threading.Event(), threading.Event()

    def other():
        began.set()
        segmenter.encode(IMAGES[0])
        done.set()

    with segmenter.turn:
        thread = threading.Thread(target=other)
        thread.start()
        assert began.wait(10)
        segmenter.encode(IMAGES[0])
        assert not done.is_set()
    thread.join(60)
    assert done.is_set()


def test_a_labelling_with_known_words_waits_for_nobody(segmenters):
    """Decoding goes through no network then: another thread's encode does not hold it up."""
    segmenter = segmenters("mini")
    encoding, labels = segmenter.encode(IMAGES[0]), LABELS
    wanted = segmenter.decode(encoding, labels).segmentation
    with segmenter.turn, ThreadPoolExecutor(1) as pool:
        assert np.array_equal(pool.submit(lambda: segmenter.decode(encoding, labels).segmentation).result(timeout=60), wanted)


def test_vectors_that_are_let_go_meanwhile_are_still_given(segmenters):
    """Eight vocabularies are kept; the ninth lets one go, which may be the one that another thread just found."""

    class Forgetful(dict):
        def __getitem__(self, key):
            raise KeyError(key)

    mini = segmenters("mini")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedWordWarning)
        texts = TextEmbedder(mini.networks, mini.folders, mini.device, mini.dtype, Forgetful(), mini.turn)
        first, again = (texts._vectors(("cat",), (), _ask(mini), ()) for _ in range(2))
    assert torch.equal(first, again)


def _ask(segmenter):
    return Ask(segmenter.recipe.labels.module.embeds, segmenter.recipe.templates, segmenter.recipe.name)
