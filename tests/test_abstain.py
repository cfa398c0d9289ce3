"""Leaving out the pixels that are not sure: which ones, what stays as it was, and what each format makes of them."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image

from nerveseg.errors import OptionError
from nerveseg.image import load_image
from nerveseg.masks.draw import paint
from nerveseg.segmentation import CONFIDENCES, Segmentation
from nerveseg.words import Background, Vocabulary
from nerveseg.writers import coco, cvat, panoptic, png, voc

SIZE = (21, 34)
NAMES = ["cat", "dog", "sky"]


def made(names=NAMES, background=None, sharp=2.0, **options):
    vocabulary = Vocabulary.parse(names)
    P = (torch.randn(len(vocabulary) + 1, 6, 8, generator=torch.Generator().manual_seed(0)) * sharp).softmax(0)
    image = load_image(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    return Segmentation.build(P, P, vocabulary, image, background=Background.parse(background, vocabulary), **options)


@pytest.mark.parametrize("kind", CONFIDENCES)
@pytest.mark.parametrize("background", [None, "auto"])
def test_pixels_below_the_threshold_are_ignored_and_no_others(kind, background):
    result = made(background=background)
    p, ids, threshold = result.segmentation_scores, result.segmentation, float(result.confidence(kind).median())
    left = result.abstain(threshold, kind)
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            own = float(p[ids[y, x], y, x])
            others = [float(p[c, y, x]) for c in range(len(p)) if c != int(ids[y, x])]
            entropy = 1 + sum(float(v) * np.log(float(v)) for v in p[:, y, x]) / np.log(len(p))
            sure = {"probability": own, "margin": own - max(others), "entropy": entropy}[kind]
            if abs(sure - threshold) > 1e-5:
                assert int(left.segmentation[y, x]) == (255 if sure < threshold else int(ids[y, x]))


def test_all_else_stays_as_it_was_and_the_result_itself_too():
    result = made()
    before = result.segmentation.clone()
    left = result.abstain(0.7)
    there = left.segmentation != left.ignore_index
    assert 0 < int(there.sum()) < there.numel()
    assert torch.equal(result.segmentation, before)
    torch.testing.assert_close(left.segmentation_scores, result.segmentation_scores)
    torch.testing.assert_close(left.confidence()[there], result.confidence()[there])
    assert sum(left.shares().values()) == pytest.approx(float(there.float().mean()))
    assert sum(np.asarray(part["mask"]).astype(bool).sum() for part in left.segments()) == int(there.sum())
    for field in dataclasses.fields(Segmentation):
        if field.name != "segmentation":
            assert getattr(left, field.name) is getattr(result, field.name)


@pytest.mark.parametrize("kind", CONFIDENCES)
def test_a_higher_threshold_leaves_out_more_and_what_is_out_stays_out(kind):
    result = made()
    assert torch.equal(result.abstain(0.0, kind).segmentation, result.segmentation)
    out = [result.abstain(threshold, kind).segmentation == 255 for threshold in (0.2, 0.5, 0.8, 1.0)]
    for fewer, more in itertools.pairwise(out):
        assert bool((more | ~fewer).all())
    again = result.abstain(0.8, kind).abstain(0.2, kind)
    assert torch.equal(again.segmentation, result.abstain(0.8, kind).segmentation)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(OptionError, match="0 to 1"):
        made().abstain(threshold)


def test_an_unknown_kind_is_refused():
    with pytest.raises(OptionError, match="margin"):
        made().abstain(0.5, "variance")


def test_refined_maps_count_where_there_are_some():
    result = made(refiner="pamr")
    left = result.abstain(0.7).segmentation == 255
    own = result.refined.gather(0, result.segmentation[None])[0]
    assert torch.equal(left, own < 0.7)


def test_past_255_labels_the_ignored_id_is_another(tmp_path):
    result = made([f"thing {number}" for number in range(300)]).abstain(0.05)
    assert int(result.segmentation.max()) == 65535
    result.save(tmp_path / "a.png")
    np.testing.assert_array_equal(png.read(tmp_path / "a.png").ids, result.segmentation.numpy())


def test_the_label_map_reads_back_with_its_record(tmp_path):
    result = made().abstain(0.7)
    result.save(tmp_path / "a.png")
    read = png.read(tmp_path / "a.png")
    np.testing.assert_array_equal(read.ids, result.segmentation.numpy())
    assert read.run["ignore_index"] == 255
    assert read.labels == tuple(NAMES)


@pytest.mark.parametrize("writer", [coco, panoptic, voc, cvat], ids=lambda writer: writer.__name__)
@pytest.mark.parametrize("background", [None, "auto"])
@pytest.mark.parametrize("threshold", [0.7, 1.0])
def test_collections_keep_ignored_pixels_apart_from_the_background(tmp_path, writer, background, threshold):
    result = made(background=background).abstain(threshold)
    result.save(tmp_path / "made", format=writer.__name__.rpartition(".")[2])
    ((_, read),) = writer.read(tmp_path / "made")
    np.testing.assert_array_equal(read.ids, result.segmentation.numpy())


def test_an_overlay_shows_the_image_where_nothing_was_decided():
    result = made().abstain(0.7)
    pixels = result.image.pixels
    drawn = np.asarray(paint(pixels, result.segmentation.numpy(), 3, alpha=1.0))
    ids = result.segmentation.numpy()
    # Border lines are drawn on both sides of a change.
    around = np.lib.stride_tricks.sliding_window_view(np.pad(ids, 2, "edge"), (5, 5))
    calm = (around == ids[..., None, None]).all((2, 3))
    out = (ids == 255) & calm
    assert out.any()
    np.testing.assert_array_equal(drawn[out], pixels[out])


def test_an_overlay_and_its_legend_cope_with_nothing_at_all(tmp_path):
    result = made().abstain(1.0)
    assert bool((result.segmentation == 255).all())
    assert result.segments() == []
    result.save(tmp_path / "a.overlay.png")
    with Image.open(tmp_path / "a.overlay.png") as drawn:
        assert drawn.height > SIZE[0]


def test_a_threshold_of_zero_writes_the_same_files(tmp_path):
    result = made()
    for name, one in (("a", result), ("b", result.abstain(0.0))):
        one.save(tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert json.loads((tmp_path / "a.run.json").read_text("utf-8")) == json.loads((tmp_path / "b.run.json").read_text("utf-8"))
