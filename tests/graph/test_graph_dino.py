from __future__ import annotations

import pytest
import torch

from nerveseg.backbones.dino import MEAN, STD
from nerveseg.errors import OptionError
from nerveseg.graph import dino as graph
from nerveseg.graph import dinov2 as second
from nerveseg.image.geometry import to_tensor
from nerveseg.image.load import load_image
from nerveseg.registry import options as make


def opts(**more):
    return make(graph.Options, {"size": 48, **more})


@pytest.mark.parametrize(
    ("what", "left", "right"),
    [("keys", "k", "k"), ("queries", "q", "q"), ("values", "v", "v"), ("qk", "q", "k"), ("tokens", "output", "output")],
)
def test_heads_are_those_of_the_backbone_layer_by_layer(dino, image, what, left, right):
    heads = graph.heads(image, {"dino": dino}, opts(what=what, layers=(-1, -3)))
    assert heads.grid == (6, 9)
    pixels = to_tensor(image, (48, 72), MEAN, STD)[None]
    for side, part in ((heads.queries, left), (heads.keys, right)):
        expected = [dino.tokens(pixels, layer=layer, kind=part) for layer in (-1, -3)]
        expected = torch.stack(expected) if what == "tokens" else torch.cat(expected)
        torch.testing.assert_close(side, expected)


def test_dinov2_is_read_with_its_own_patch(dinov2, image):
    heads = second.heads(image, {"dinov2": dinov2}, make(second.Options, {}))
    assert heads.grid == (4, 6)  # as trained: 56 pixels
    assert heads.queries.shape == (4, 24, 6)
    assert torch.equal(heads.queries, heads.keys)


def test_squares_and_strips(dino, image, checkpoints):
    assert graph.heads(image, {"dino": dino}, opts(fit="square")).grid == (6, 6)
    assert graph.heads(image, {"dino": dino}, opts(size=0)).grid == (4, 6)
    strip = graph.heads(load_image(checkpoints.colours(2, 400)), {"dino": dino}, opts(max_tokens=60)).grid
    assert strip[0] * strip[1] <= 60
    with pytest.raises(OptionError, match="at most 10"):
        graph.heads(image, {"dino": dino}, opts(fit="square", max_tokens=10))


@pytest.mark.parametrize("layers", [(), (-1, -1), (-4,), (0,)])
def test_layers_that_are_not_there_are_refused(dino, image, layers):
    with pytest.raises(OptionError, match="layer"):
        graph.heads(image, {"dino": dino}, opts(layers=layers))
