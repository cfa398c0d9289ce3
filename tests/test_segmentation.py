from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from nerveseg import registry
from nerveseg.errors import LabelError, OptionError, OutputError, RegistryError, ShapeError
from nerveseg.image import load_image
from nerveseg.labels.base import Logits
from nerveseg.masks.rules import floor
from nerveseg.masks.upsample import resample
from nerveseg.segmentation import CONFIDENCES, Segmentation, WalkInfo
from nerveseg.words import Background, Vocabulary

SIZE = (21, 34)
NAMES = ["cat", "dog", "sky"]


def rows(k, h=6, w=8, seed=0, sharp=3.0):
    return (torch.randn(k, h, w, generator=torch.Generator().manual_seed(seed)) * sharp).softmax(0)


def image(height=SIZE[0], width=SIZE[1]):
    return load_image(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def made(names=NAMES, background=None, **options):
    vocabulary = Vocabulary.parse(names)
    P = options.pop("P", rows(len(vocabulary) + 1))
    return Segmentation.build(P, P, vocabulary, image(), background=Background.parse(background, vocabulary), **options)


def test_ids_and_names_are_in_the_callers_order():
    result = made()
    assert result.segmentation.shape == SIZE
    assert result.segmentation.dtype == torch.int64
    assert result.size == SIZE
    assert result.id2label == {0: "cat", 1: "dog", 2: "sky"}
    assert result.label2id == {"cat": 0, "dog": 1, "sky": 2}
    assert result.ignore_index == 255
    assert result.background is None
    assert int(result.segmentation.max()) <= 2


@pytest.mark.parametrize("background", ["auto", ["wall", "floor"]])
def test_the_background_is_the_last_label(background):
    result = made(background=background)
    assert result.id2label[3] == "background"
    assert result.background == 3
    assert result.segmentation_scores.shape == (4, *SIZE)
    assert result.labels[3].strings == Background.parse(background, Vocabulary.parse(NAMES)).strings


@pytest.mark.parametrize("background", [None, "auto"])
def test_scores_sum_to_one_and_agree_with_the_ids(background):
    result = made(background=background)
    scores = result.segmentation_scores
    torch.testing.assert_close(scores.sum(0), torch.ones(SIZE))
    assert float(scores.min()) >= 0.0
    assert torch.equal(scores.argmax(0), result.segmentation)
    assert result.segmentation_scores is scores


def test_one_label_needs_a_background():
    with pytest.raises(LabelError, match="background"):
        made(["cat"])
    result = made(["cat"], background="auto")
    assert result.id2label == {0: "cat", 1: "background"}


def test_past_255_labels_the_ignored_id_is_65535():
    assert made([f"thing {number}" for number in range(255)]).ignore_index == 255
    assert made([f"thing {number}" for number in range(256)]).ignore_index == 65535


def test_confidences_by_hand():
    result = made(rule="z_score")
    p, ids = result.segmentation_scores, result.segmentation
    own = p.gather(0, ids[None])[0]
    other = p.scatter(0, ids[None], -1.0).amax(0)
    entropy = -(p * p.clamp_min(1e-30).log()).sum(0)
    torch.testing.assert_close(result.confidence(), own)
    torch.testing.assert_close(result.confidence("margin"), (own - other).clamp_min(0))
    torch.testing.assert_close(result.confidence("entropy"), 1 - entropy / math.log(3))


@pytest.mark.parametrize("kind", CONFIDENCES)
def test_sure_pixels_have_confidence_one(kind):
    sure = torch.zeros(4, 6, 8)
    sure[1] = 1.0
    torch.testing.assert_close(made(P=sure).confidence(kind), torch.ones(SIZE))
    value = made().confidence(kind)
    assert float(value.min()) >= 0.0
    assert float(value.max()) <= 1.0


def test_an_unknown_confidence_is_refused():
    with pytest.raises(OptionError, match="entropy"):
        made().confidence("variance")


def test_segments_list_the_labels_that_are_there():
    result = made()
    segments = result.segments()
    assert [part["label"] for part in segments] == [NAMES[index] for index in result.segmentation.unique().tolist()]
    cover = sum(np.asarray(part["mask"]).astype(int) for part in segments)
    assert (cover == 255).all()
    for part in segments:
        index = NAMES.index(part["label"])
        assert part["mask"].mode == "L"
        assert part["mask"].size == (SIZE[1], SIZE[0])
        inside = torch.from_numpy(np.asarray(part["mask"]) == 255)
        assert part["score"] == pytest.approx(float(result.segmentation_scores[index][inside].mean()), abs=1e-5)


def test_shares_sum_to_one():
    shares = made(background="auto").shares()
    assert list(shares) == [*NAMES, "background"]
    assert sum(shares.values()) == pytest.approx(1.0)


def test_ignored_pixels_count_for_nothing():
    result = made()
    ids = result.segmentation.clone()
    ids[:5] = 255
    part = Segmentation(ids, result.probabilities, result.labels, result.image)
    assert sum(part.shares().values()) == pytest.approx(16 / 21)
    assert len(part.segments()) == len(part.segmentation[5:].unique())
    assert float(part.confidence()[:5].max()) == 0.0
    assert part.overlay(legend=False).size == (34, 21)


def test_rule_options_and_clean_up_reach_the_ids():
    all_rest = made(background="auto", rule="floor", options=floor.Options(floor=1.0))
    assert bool((all_rest.segmentation == 3).all())
    calm = made(min_area=10_000)
    assert len(calm.segmentation.unique()) == 1


def test_a_refiner_makes_the_scores(monkeypatch):
    class Swap:
        Options = registry.load("refiners", "none").Options

        @staticmethod
        def refine(P, image, options):
            assert P.shape[1:] == image.size
            return P.flip(0)

    load_before = registry.load
    monkeypatch.setattr(registry, "load", lambda kind, name: Swap if name == "swap" else load_before(kind, name))
    plain, swapped = made(), made(refiner="swap")
    assert torch.equal(swapped.segmentation, 2 - plain.segmentation)
    torch.testing.assert_close(swapped.segmentation_scores, plain.segmentation_scores.flip(0))
    torch.testing.assert_close(swapped.confidence(), plain.confidence())


def test_overlay_and_its_legend():
    result = made(["猫", "Straße", "a name that is far too long to be shown in any legend"])
    assert result.overlay(legend=False).size == (34, 21)
    assert result.overlay().height > 21
    assert isinstance(result.overlay(alpha=0.0), Image.Image)


def test_columns_that_do_not_match_are_refused():
    vocabulary = Vocabulary.parse(NAMES)
    with pytest.raises(ShapeError, match=r"K \+ 1"):
        Segmentation.build(rows(3), rows(3), vocabulary, image())
    result = made()
    with pytest.raises(ShapeError, match=r"Segmentation\.build"):
        Segmentation(result.segmentation[:3], result.probabilities, result.labels, result.image)


def test_what_is_reported_is_kept_and_cannot_be_changed():
    result = made(walk=WalkInfo(8, 1e-5, "converged", (0.5, 0.5)), seconds={"walk": 0.1}, weights={"clip": "ab"}, recipe="mini")
    assert result.walk.steps == 8
    assert result.seconds["walk"] == 0.1
    assert result.recipe == "mini"
    with pytest.raises(TypeError):
        result.seconds["walk"] = 2
    with pytest.raises(AttributeError):
        result.recipe = "other"


def test_saving_chooses_the_format_by_the_longest_ending(tmp_path):
    result = made()
    assert [path.name for path in result.save(tmp_path / "a.png")] == ["a.png", "a.run.json"]
    assert [path.name for path in result.save(str(tmp_path / "A.Overlay.PNG"))] == ["A.Overlay.PNG"]
    assert [path.name for path in result.save(tmp_path / "b.png", "overlay", alpha=0.2, legend=False)] == ["b.png"]
    assert [path.name for path in result.save(tmp_path / "c.png", sidecar=False)] == ["c.png"]


def test_saving_elsewhere_is_refused(tmp_path):
    result = made()
    with pytest.raises(OutputError, match="endings"):
        result.save(tmp_path / "a.jpg")
    with pytest.raises(OutputError, match="endings"):
        result.save(tmp_path / ".png")
    with pytest.raises(RegistryError):
        result.save(tmp_path / "a.png", "pgn")
    with pytest.raises(OptionError, match="alpha"):
        result.save(tmp_path / "a.png", alhpa=0.1, format="overlay")
    assert list(tmp_path.iterdir()) == []


def test_one_pixel():
    vocabulary = Vocabulary.parse(["a", "b"])
    result = Segmentation.build(rows(3), rows(3), vocabulary, image(1, 1), rule="z_score")
    assert result.segmentation.shape == (1, 1)
    assert len(result.segments()) == 1
    result.overlay()


@pytest.mark.parametrize(("refiner", "shape"), [("pamr", (12, 16)), ("lposs_plus", (3, 4))])
def test_logits_are_refined_once_before_the_softmax(refiner, shape):
    words = Vocabulary.parse(["cat", "dog"])
    logits = Logits(torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)), (0, 1), 4.0, "max")
    P = torch.full((3, 3, 4), 1 / 3)
    result = Segmentation.build(P, P, words, image(12, 16), refiner=refiner, logits=logits)
    stage = registry.load("refiners", refiner)
    maps = logits.maps if refiner == "lposs_plus" else resample(logits.maps, (12, 16))
    refined = stage.refine(maps, image(12, 16), stage.Options())
    assert tuple(result.strings.logits.maps.shape[1:]) == shape
    torch.testing.assert_close(result.strings.logits.maps, refined)
    torch.testing.assert_close(result.segmentation_scores, (4.0 * resample(refined, (12, 16))).softmax(0))
    assert torch.equal(result.segmentation, result.segmentation_scores.argmax(0))
