"""The panoptic answer against transformers' own, made of the same map, and against loops."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nerveseg.image import load_image
from nerveseg.integrations.segments import segments
from nerveseg.segmentation import Segmentation
from nerveseg.words import Background, Vocabulary

SIDE = 384  # the side at which Mask2Former's processor decides


def made(size=(21, 34), names=("cat", "dog", "sky"), background=None, grid=(6, 8)):
    vocabulary = Vocabulary.parse(list(names))
    P = (torch.randn(len(vocabulary) + 1, *grid, generator=torch.Generator().manual_seed(3)) * 3).softmax(0)
    image = load_image(np.zeros((*size, 3), dtype=np.uint8))
    return Segmentation.build(P, P, vocabulary, image, background=Background.parse(background, vocabulary))


@pytest.fixture(scope="module")
def theirs():
    """`post_process_panoptic_segmentation` of transformers, for queries of a label, a score and a mask, 1 inside and 0 outside."""
    logging.getLogger("transformers").disabled, before = True, logging.getLogger("transformers").disabled  # it tells of torchvision
    from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil

    processor = Mask2FormerImageProcessorPil()

    def answer(queries, labels, fused):
        classes = torch.zeros(len(queries), labels + 1)
        for row, (label, score, _) in zip(classes, queries, strict=True):
            row.fill_((1 - score) / labels)
            row[label] = score
        masks = torch.stack([torch.as_tensor(mask, dtype=torch.float32) for _, _, mask in queries])
        outputs = SimpleNamespace(class_queries_logits=classes.log()[None], masks_queries_logits=torch.logit(masks, eps=1e-6)[None])
        (found,) = processor.post_process_panoptic_segmentation(
            outputs, threshold=0.0, mask_threshold=0.1, label_ids_to_fuse=set(fused), target_sizes=[(SIDE, SIDE)]
        )
        return found

    yield answer
    logging.getLogger("transformers").disabled = before


def alike(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert ours["segmentation"].dtype == theirs["segmentation"].dtype
    assert torch.equal(ours["segmentation"], theirs["segmentation"])
    assert len(ours["segments_info"]) == len(theirs["segments_info"]) > 0
    for mine, other in zip(ours["segments_info"], theirs["segments_info"], strict=True):
        assert list(mine) == list(other)
        assert [type(value) for value in mine.values()] == [type(value) for value in other.values()]
        assert mine.pop("score") == pytest.approx(other.pop("score"), abs=2e-6)
        assert mine == other


def test_a_label_a_segment_is_what_transformers_says_of_fused_labels(theirs):
    result = made((SIDE, SIDE))
    queries = [(k, part["score"], np.asarray(part["mask"]) > 0) for k, part in enumerate(result.segments())]
    alike(result.panoptic(), theirs(queries, 3, fused=range(3)))


def test_parts_are_what_transformers_says_of_labels_that_are_not_fused(theirs):
    result = made((SIDE, SIDE), background="auto")
    ours = result.panoptic(parts=True)
    queries = [(entry["label_id"], entry["score"], ours["segmentation"] == entry["id"]) for entry in ours["segments_info"]]
    assert len(queries) > 4
    alike(ours, theirs(queries, 4, fused=[result.background]))


def test_undecided_pixels_hold_what_transformers_gives_to_no_segment(theirs):
    sure = made((SIDE, SIDE))
    result = sure.abstain(0.5)
    undecided = (result.segmentation == result.ignore_index).numpy()
    assert 0 < undecided.sum() < undecided.size
    queries = [(k, part["score"], np.asarray(part["mask"]) > 0) for k, part in enumerate(result.segments())]
    # A query that is strongest in those pixels but claims the whole image, most of which others win: transformers drops it.
    alike(result.panoptic(), theirs([*queries, (0, 0.9, np.where(undecided, 0.9, 0.2))], 3, fused=range(3)))


def test_where_nothing_is_decided_there_are_no_segments():
    found = made().abstain(1.0).panoptic()
    assert not found["segmentation"].any()
    assert found["segments_info"] == []


def test_scores_are_the_mean_probability_and_the_temperature_counts():
    result = made()
    for entry in (found := result.panoptic(parts=True))["segments_info"]:
        inside = found["segmentation"] == entry["id"]
        assert entry["score"] == pytest.approx(float(result.confidence()[inside].mean()), abs=2e-6)
        assert set(result.segmentation[inside].tolist()) == {entry["label_id"]}


@given(
    ids=arrays.arrays(np.int64, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.sampled_from([0, 1, 2, 255])),
    parts=st.booleans(),
    background=st.sampled_from([None, 2]),
)
def test_every_pixel_is_of_the_segment_that_a_flood_from_it_finds(ids, parts, background):
    confidence = np.linspace(0, 1, ids.size).reshape(ids.shape)
    found = segments(ids, confidence, 3, background=background, parts=parts)
    seen = set()
    for y, x in np.ndindex(ids.shape):
        number, label = int(found.numbers[y, x]), int(ids[y, x])
        if label == 255:
            assert number == 0
            continue
        whole = not parts or label == background
        own = {(int(v), int(u)) for v, u in zip(*np.nonzero(ids == label), strict=True)} if whole else flood(ids, y, x)
        assert {(int(v), int(u)) for v, u in zip(*np.nonzero(found.numbers == number), strict=True)} == own
        assert (found.labels[number - 1], found.whole[number - 1]) == (label, whole)
        assert found.scores[number - 1] == pytest.approx(np.mean([confidence[place] for place in own]), abs=2e-6)
        seen.add(number)
    assert seen == set(range(1, len(found.labels) + 1))
    sizes = [(label, -int((found.numbers == number).sum())) for number, label in enumerate(found.labels, start=1)]
    assert sizes == sorted(sizes)


def flood(ids, y, x):
    own, edge = {(y, x)}, [(y, x)]
    while edge:
        v, u = edge.pop()
        for place in [(v + down, u + across) for down in (-1, 0, 1) for across in (-1, 0, 1)]:
            inside = 0 <= place[0] < ids.shape[0] and 0 <= place[1] < ids.shape[1]
            if inside and place not in own and ids[place] == ids[y, x]:
                own.add(place)
                edge.append(place)
    return own
