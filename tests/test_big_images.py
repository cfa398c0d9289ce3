"""An image in tiles, end to end on the embedded pair: encode once, decode, click and write as ever."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nerveseg.errors import OptionError
from nerveseg.segmenter import Segmenter
from nerveseg.synthetic import scenes
from nerveseg.synthetic.names import NAMES
from nerveseg.transition import TiledHeads


@pytest.fixture(scope="module")
def big():
    """Two scenes side by side, 128 × 256, and the true names."""
    pair = [scenes.render("val", index, (128, 128), (1, 2)) for index in (3, 5)]
    mask = np.concatenate([scene.mask for scene in pair], axis=1)
    return np.concatenate([scene.image for scene in pair], axis=1), mask


@pytest.fixture(scope="module")
def mini(shipped):
    """With its own graph: the last tile's place hangs on the grid."""
    return shipped


@pytest.fixture(scope="module")
def labels(big):
    return [NAMES[at] for at in np.unique(big[1])]


@pytest.fixture(scope="module")
def encoding(mini, big):
    return mini.encode(big[0], tile=128)


def test_one_tile_is_the_plain_way_exactly(mini, big, labels):
    part = big[0][:, :96].copy()
    plain, one = mini.encode(part), mini.encode(part, tile=128)
    assert torch.equal(one.features.embeddings, plain.features.embeddings)
    assert torch.equal(one.heads.keys, plain.heads.keys)
    assert one.image.notes == plain.image.notes
    assert torch.equal(mini.decode(one, labels).segmentation, mini.decode(plain, labels).segmentation)


def test_an_encoding_in_tiles_is_an_encoding(mini, big, labels, encoding):
    assert isinstance(encoding.heads, TiledHeads)
    assert encoding.heads.places.columns == (0, 20, 40)
    assert encoding.features.grid == (16, 32)
    assert encoding.heads.grid == (40, 80)
    assert encoding.bytes == encoding.features.bytes + encoding.heads.bytes + 128 * 256 * 3
    assert encoding.image.notes == ("Encoded in 1 × 3 tiles of 128 × 128 pixels that share at least 0.5.",)
    result = mini.decode(encoding, labels)
    assert result.segmentation.shape == (128, 256)
    assert result.walk.bound <= mini.recipe.walk.options.tolerance
    truth = np.searchsorted(np.unique(big[1]), big[1])
    whole = (mini.decode(mini.encode(big[0]), labels).segmentation.numpy() == truth).mean()
    assert (result.segmentation.numpy() == truth).mean() > max(whole, 0.8)


def test_knobs_and_words_change_without_a_pass(mini, labels, encoding):
    sharper = mini.decode(encoding, labels[:2], background="auto", settings={"walk.alpha": 0.5, "transition.beta": 0.0})
    assert sharper.id2label[2] == "background"
    thin = mini.decode(encoding, labels, settings={"transition.keep": 32})
    assert thin.walk.outcome == "converged"


def test_clicks_work_on_it(mini, labels, encoding):
    from nerveseg.clicks import Click

    fixed = mini.decode(encoding, labels, clicks=[Click(labels[0], points=((128.0, 5.0),))])
    assert int(fixed.segmentation[5, 128]) == 0


def test_the_seed_reaches_every_tile(mini, big, encoding):
    other = mini.encode(big[0], tile=128, seed=7)
    assert all(not torch.equal(one.keys, two.keys) for one, two in zip(other.heads.tiles, encoding.heads.tiles, strict=True))
    again = mini.encode(big[0], tile=128)
    assert all(torch.equal(one.keys, two.keys) for one, two in zip(again.heads.tiles, encoding.heads.tiles, strict=True))


def test_features_that_are_there_already_are_of_the_whole_image(mini, big, labels, encoding):
    given = mini.encode(big[0], tile=128, features=encoding.features)
    assert given.features is encoding.features
    assert "label network" not in {name for name, taken in given.seconds.items() if taken > 0.05}


def test_without_a_graph_the_label_source_goes_over_tiles_alone(big, labels):
    plain = Segmenter.from_pretrained("mini", settings={"graph.name": "none", "walk.name": "none", "masks.upsample": "logits"})
    encoding = plain.encode(big[0], tile=128)
    assert encoding.heads is None
    assert encoding.features.grid == (16, 32)
    assert plain.decode(encoding, labels).segmentation.shape == (128, 256)


def test_a_walk_on_the_heads_of_one_pass_is_refused(mini, labels, encoding):
    with pytest.raises(OptionError, match="walks on S"):
        mini.decode(encoding, labels, settings={"walk.name": "cliper"})


@pytest.mark.parametrize("given", [{"tile": 16}, {"tile": 64, "overlap": 1.5}])
def test_sides_and_overlaps_out_of_range_are_refused(mini, big, given):
    with pytest.raises(OptionError, match="Accepted is"):
        mini.encode(big[0], **given)
