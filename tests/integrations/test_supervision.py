"""Detections of the real supervision: what it makes of the panoptic answer itself, what its parts do with them, and its absence."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch

from nerveseg.errors import MissingExtra
from nerveseg.image import load_image
from nerveseg.segmentation import Segmentation
from nerveseg.words import Background, Vocabulary

SIZE = (24, 36)


@pytest.fixture(scope="module")
def sv():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "OpenCV", UserWarning)  # it says at its first import that it does without
        import supervision
    return supervision


def made(background=None):
    vocabulary = Vocabulary.parse(["cat", "naïve 🐈", "sky"])
    P = (torch.randn(4, 6, 9, generator=torch.Generator().manual_seed(5)) * 3).softmax(0)
    image = load_image(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    return Segmentation.build(P, P, vocabulary, image, background=Background.parse(background, vocabulary)).abstain(0.5)


@pytest.mark.parametrize("parts", [False, True])
def test_detections_are_those_that_supervision_makes_of_transformers_answer(sv, parts):
    result = made()
    ours = result.to_supervision(parts=parts)
    assert type(ours) is sv.Detections
    assert len(ours) == (3 if not parts else len(result.panoptic(parts=True)["segments_info"])) > 0
    assert ours == sv.Detections.from_transformers(result.panoptic(parts=parts), id2label=result.id2label)
    assert ours.mask.dtype == bool
    assert ours.mask.shape[1:] == SIZE


def test_each_decided_pixel_is_in_one_mask_of_its_label_and_the_background_in_none(sv):
    result = made(background="auto")
    found = result.to_supervision(parts=True)
    ids = result.segmentation.numpy()
    inside = ids < result.background
    assert 0 < inside.sum() < inside.size
    assert {result.background, result.ignore_index} <= set(np.unique(ids).tolist())
    assert np.array_equal(found.mask.sum(0), inside)
    for mask, label, name, score in zip(found.mask, found.class_id, found["class_name"], found.confidence, strict=True):
        assert set(ids[mask].tolist()) == {label}
        assert result.id2label[label] == name
        assert score == pytest.approx(float(result.confidence().numpy()[mask].mean()), abs=2e-6)
    sure = found[found.class_id == 1]  # supervision's own filter
    assert set(sure["class_name"]) == {"naïve 🐈"}


def test_nothing_decided_is_no_detection(sv):
    found = made().abstain(1.0).to_supervision()
    assert len(found) == 0
    assert found.mask.shape == (0, *SIZE)
    assert len(sv.Detections.merge([found, made().to_supervision()])) == 3


def test_an_annotator_paints_the_masks_and_no_other_pixel(sv):
    result = made(background="auto")
    found = result.to_supervision()
    before = np.array(result.image.pixels)
    after = sv.MaskAnnotator(opacity=1.0, color_lookup=sv.ColorLookup.CLASS).annotate(before.copy(), found)
    assert np.array_equal((after != before).any(-1) & ~found.mask.any(0), np.zeros(SIZE, dtype=bool))
    for mask in found.mask:
        assert len(np.unique(after[mask], axis=0)) == 1


def test_without_supervision_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingExtra, match=r"pip install 'nerveseg\[supervision\]'"):
        made().to_supervision()
