from __future__ import annotations

import pytest
import torch

from nerveseg import backbones
from nerveseg.errors import OptionError
from nerveseg.graph import clip as graph
from nerveseg.image.geometry import to_tensor
from nerveseg.labels import cliper, maskclip
from nerveseg.registry import options as make


def opts(**more):
    return make(graph.Options, {"size": 64, **more})


@torch.no_grad()
@pytest.mark.parametrize(("what", "left", "right"), [("qk", "q", "k"), ("keys", "k", "k"), ("queries", "q", "q"), ("values", "v", "v")])
def test_heads_are_what_the_blocks_own_projections_say(clip, image, what, left, right):
    heads = graph.heads(image, {"clip": clip}, opts(what=what, layers=(-1, -3)))
    seen = {}
    blocks = clip.model.vision_model.encoder.layers
    handles = [
        getattr(blocks[layer].self_attn, f"{part}_proj").register_forward_hook(
            lambda _m, _a, out, key=(layer, part): seen.__setitem__(key, out[0, 1:])
        )
        for layer in (-1, -3)
        for part in "qkv"
    ]
    clip.vision(to_tensor(image, (64, 96))[None])
    for handle in handles:
        handle.remove()
    assert heads.grid == (4, 6)
    for side, part in ((heads.queries, left), (heads.keys, right)):
        rows = [seen[layer, part][:, h * 8 : (h + 1) * 8] for layer in (-1, -3) for h in range(4)]
        torch.testing.assert_close(side, torch.stack(rows))


@pytest.mark.parametrize("source", [maskclip, cliper])
def test_the_label_sources_pass_serves_the_graph_too(clip, image, monkeypatch, source):
    made = []
    visions = type(clip).visions
    monkeypatch.setattr(type(clip), "visions", lambda self, *given, **named: (made.append(1), visions(self, *given, **named))[1])
    shared = backbones.shared({"clip": clip}, {"clip"})
    options = make(source.Options, {"short_side": 64, "positions": "bilinear"})
    source.encode(source.look(image, shared, options), shared, options)
    found = graph.heads(image, shared, opts())
    assert len(made) == 1
    assert torch.equal(found.keys, graph.heads(image, {"clip": clip}, opts()).keys)


@pytest.mark.parametrize("layers", [(), (-1, -1), (-5,), (0,), ("last",)])
def test_layers_that_are_not_there_are_refused(clip, image, layers):
    with pytest.raises(OptionError, match="-4 to -1"):
        graph.heads(image, {"clip": clip}, opts(layers=layers))
