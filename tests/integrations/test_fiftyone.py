"""The FiftyOne model on stand-ins of FiftyOne's classes; `benchmarks/integrations.py` runs the real ones, which bring OpenCV along."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from nerveseg.errors import LabelError, MissingExtra, OptionError
from nerveseg.image import load_image
from nerveseg.integrations import fiftyone
from nerveseg.segmentation import Segmentation
from nerveseg.synthetic import bundled
from nerveseg.words import Background, Vocabulary


class Base:
    """``fiftyone.core.models.Model`` of FiftyOne 1.22.1: what raises there raises here."""

    def __enter__(self):
        return self

    def __exit__(self, *args):
        pass

    @property
    def media_type(self):
        raise NotImplementedError

    @property
    def has_logits(self):
        return False

    @property
    def ragged_batches(self):
        raise NotImplementedError

    @property
    def transforms(self):
        raise NotImplementedError

    @property
    def preprocess(self):
        raise NotImplementedError

    def predict(self, arg):
        raise NotImplementedError

    def predict_all(self, args):
        return [self.predict(arg) for arg in args]


class Mask:
    """``fiftyone.Segmentation(mask=None, mask_path=None)`` of the same, by keywords alone."""

    def __init__(self, *, mask=None, mask_path=None):
        self.mask, self.mask_path = mask, mask_path


@pytest.fixture
def stand_ins(monkeypatch):
    models = ModuleType("fiftyone.core.models")
    models.Model = Base
    package = ModuleType("fiftyone")
    package.Segmentation = Mask
    for name, module in (("fiftyone", package), ("fiftyone.core", ModuleType("fiftyone.core")), ("fiftyone.core.models", models)):
        monkeypatch.setitem(sys.modules, name, module)


class Labels:
    """A segmenter without networks: an image's top left pixel seeds its maps."""

    def __init__(self):
        self.calls = []

    def __call__(self, images, labels, *, background=None, batch=1):
        self.calls.append((len(images), batch))
        return [self.one(image, labels, background) for image in images]

    def one(self, image, vocabulary, background):
        seed = torch.Generator().manual_seed(int(image[0, 0, 0]))
        P = (torch.randn(len(vocabulary) + 1, 4, 5, generator=seed) * 3).softmax(0)
        return Segmentation.build(P, P, vocabulary, load_image(image), background=Background.parse(background, vocabulary))


def images():
    return [np.full((12 + 3 * index, 20, 3), index, dtype=np.uint8) for index in range(3)]


def test_it_answers_all_that_apply_model_asks(stand_ins):
    model = fiftyone.model(Labels(), ["cat", "dog"])
    assert isinstance(model, Base)
    assert (model.media_type, model.ragged_batches, model.transforms, model.preprocess, model.has_logits) == (
        "image",
        False,
        None,
        False,
        False,
    )
    with model as inside:
        assert inside is model


@pytest.mark.parametrize("background", [None, "auto", ["wall"]])
def test_masks_are_ids_and_one_and_nothing_is_nought(stand_ins, background):
    labels = Labels()
    model = fiftyone.model(labels, ["cat; kitten", "dog", "sky"], background=background)
    assert model.mask_targets == {1: "cat", 2: "dog", 3: "sky"}
    found = model.predict_all(images())
    assert labels.calls == [(3, 3)]
    for image, one in zip(images(), found, strict=True):
        ids = labels.one(image, Vocabulary.parse(["cat; kitten", "dog", "sky"]), background).segmentation.numpy()
        assert one.mask.dtype == np.uint8
        assert np.array_equal(one.mask, np.where(ids == 3, 0, ids + 1))
        assert np.array_equal(model.predict(image).mask, one.mask)
    assert model.predict_all([]) == []


def test_a_threshold_leaves_unsure_pixels_out_and_a_call_may_set_its_own(stand_ins):
    labels, (image, *_) = Labels(), images()
    result = labels.one(image, Vocabulary.parse(["cat", "dog"]), None)
    model = fiftyone.model(labels, ["cat", "dog"], abstain=0.7)
    unsure = (result.confidence() < 0.7).numpy()
    assert 0 < unsure.sum() < unsure.size
    assert np.array_equal(model.predict(image).mask == 0, unsure)
    model.config.confidence_thresh = 0.9  # as apply_model(confidence_thresh=0.9) does for its own length
    assert np.array_equal(model.predict(image).mask == 0, (result.confidence() < 0.9).numpy())
    model.config.confidence_thresh = None
    assert model.predict(image).mask.min() == 1


def test_past_255_labels_masks_have_16_bits():
    ids = np.array([[0, 254, 255, 299, 65535]])
    assert fiftyone.mask(ids[:, :2], 255).tolist() == [[1, 255]]
    assert fiftyone.mask(ids[:, :2], 255).dtype == np.uint8
    assert fiftyone.mask(ids, 300).tolist() == [[1, 255, 256, 300, 0]]
    assert fiftyone.mask(ids, 300, 299).tolist() == [[1, 255, 256, 0, 0]]


def test_bad_words_and_thresholds_are_refused_before_fiftyone_is_looked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(LabelError, match="single label"):
        fiftyone.model(Labels(), ["cat"])
    with pytest.raises(OptionError, match=r"abstain = 1\.5"):
        fiftyone.model(Labels(), ["cat", "dog"], abstain=1.5)
    with pytest.raises(MissingExtra, match="pip install fiftyone"):
        fiftyone.model(Labels(), ["cat", "dog"])


def test_the_real_segmenter_is_such_a_labeller(stand_ins, mini):
    image = load_image(bundled.scenes()[0].path).pixels
    model = fiftyone.model(mini, ["cat", "hat"], background="auto")
    assert model.config == SimpleNamespace(confidence_thresh=0.0)
    result = mini(image, ["cat", "hat"], background="auto")
    assert np.array_equal(model.predict(image).mask, (result.segmentation.numpy() + 1) % 3)
