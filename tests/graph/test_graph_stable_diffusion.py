from __future__ import annotations

import pytest
import torch

from nerveseg.errors import OptionError
from nerveseg.graph import stable_diffusion as graph
from nerveseg.image.load import load_image
from nerveseg.registry import options as make


def opts(**more):
    return make(graph.Options, {"size": 128, **more})


def test_heads_of_the_last_two_layers_lie_side_by_side(diffusion, image):
    heads = graph.heads(image, {"diffusion": diffusion}, opts())
    assert heads.queries.shape == heads.keys.shape == (10, 256, 4)
    assert heads.grid == (16, 16)
    for at, layer in ((0, -1), (5, -2)):
        alone = graph.heads(image, {"diffusion": diffusion}, opts(layers=(layer,)))
        torch.testing.assert_close(heads.queries[at : at + 5], alone.queries)


def test_the_paper_squashes_and_aspect_keeps_proportions(diffusion, image):
    assert graph.heads(image, {"diffusion": diffusion}, opts(fit="square")).grid == (16, 16)
    assert graph.heads(image, {"diffusion": diffusion}, opts(fit="aspect")).grid == (16, 24)
    assert graph.heads(image, {"diffusion": diffusion}, opts(size=0)).grid == (16, 16)
    assert graph.heads(image, {"diffusion": diffusion}, opts(size=100)).grid == (16, 16)


def test_a_strip_does_not_run_out_of_memory(diffusion, checkpoints, monkeypatch):
    seen = {}

    def stop(_self, pixels, **_more):
        seen.update(size=pixels.shape[-2:])
        raise RuntimeError("enough")

    monkeypatch.setattr(type(diffusion), "attention", stop)
    with pytest.raises(RuntimeError, match="enough"):
        graph.heads(load_image(checkpoints.colours(2, 4000)), {"diffusion": diffusion}, opts(fit="aspect", size=512))
    height, width = seen["size"]
    assert height == 64
    assert (height // 8) * (width // 8) <= 16384
    with pytest.raises(OptionError, match="at most"):
        graph.heads(load_image(checkpoints.colours(8, 8)), {"diffusion": diffusion}, opts(size=2048))


def test_images_do_not_depend_on_their_order(diffusion, image, checkpoints):
    other = load_image(checkpoints.colours(64, 64, seed=9))
    first = graph.heads(image, {"diffusion": diffusion}, opts()).queries
    graph.heads(other, {"diffusion": diffusion}, opts())
    assert torch.equal(graph.heads(image, {"diffusion": diffusion}, opts()).queries, first)


def test_noise_may_be_given(diffusion, image):
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    given, seeded = (
        graph.heads(image, {"diffusion": diffusion}, opts(), noise=noise),
        graph.heads(image, {"diffusion": diffusion}, opts()),
    )
    assert torch.equal(given.keys, seeded.keys)


def test_layers_of_two_grids_are_refused(diffusion, image):
    with pytest.raises(OptionError, match="8×8"):
        graph.heads(image, {"diffusion": diffusion}, opts(layers=(-1, "up_blocks.2.attentions.0")))


def test_colours_reach_the_vae_between_minus_1_and_1(diffusion, image, monkeypatch):
    seen = {}
    encode = diffusion.vae.encode
    monkeypatch.setattr(diffusion.vae, "encode", lambda x: (seen.update(x=x), encode(x))[1])
    graph.heads(image, {"diffusion": diffusion}, opts())
    assert seen["x"].shape == (1, 3, 128, 128)
    assert -1 <= seen["x"].min() < 0 < seen["x"].max() <= 1


def test_coarser_layers_come_to_the_finest_grid_where_that_is_asked_for(diffusion, image):
    layers = (-1, "up_blocks.2.attentions.0")
    mixed = graph.heads(image, {"diffusion": diffusion}, opts(layers=layers, mix_grids=True))
    fine, coarse = (graph.heads(image, {"diffusion": diffusion}, opts(layers=(layer,))) for layer in layers)
    assert mixed.grid == fine.grid == (16, 16)
    assert torch.equal(mixed.queries[:5], fine.queries)
    assert mixed.queries.shape == (15, 256, 4)
    for head in (0, 9):  # bilinear, written out: halves of cells, edges held
        old = coarse.keys[head].view(8, 8, 4)
        for y, x in ((0, 0), (3, 6), (15, 9)):
            down, right = (y + 0.5) / 2 - 0.5, (x + 0.5) / 2 - 0.5
            top, left = (min(max(int(value // 1), 0), 7) for value in (max(down, 0), max(right, 0)))
            a, b = max(down, 0) - top, max(right, 0) - left
            under, beside = min(top + 1, 7), min(left + 1, 7)
            upper = (1 - b) * old[top, left] + b * old[top, beside]
            lower = (1 - b) * old[under, left] + b * old[under, beside]
            torch.testing.assert_close(mixed.keys[5 + head, y * 16 + x], (1 - a) * upper + a * lower, atol=1e-5, rtol=1e-5)
    same = graph.heads(image, {"diffusion": diffusion}, opts(mix_grids=True))
    assert torch.equal(same.queries, graph.heads(image, {"diffusion": diffusion}, opts()).queries)


def test_heads_of_two_widths_keep_their_cosines_and_their_attention(checkpoints, tmp_path, image):
    from nerveseg.backbones.stable_diffusion import load as load_diffusion

    model = load_diffusion(checkpoints.make_diffusion(tmp_path / "sd15", eights=True))
    layers = ("up_blocks.3.attentions.2", "up_blocks.2.attentions.0", "mid_block.attentions.0")
    mixed = graph.heads(image, {"diffusion": model}, opts(layers=layers, mix_grids=True))
    assert mixed.queries.shape == (24, 256, 16)
    narrow = graph.heads(image, {"diffusion": model}, opts(layers=layers[:1]))
    assert narrow.queries.shape == (8, 256, 4)
    wide = mixed.queries[:8] @ mixed.keys[:8].mT
    torch.testing.assert_close(wide / 16**0.5, narrow.queries @ narrow.keys.mT / 4**0.5, atol=1e-5, rtol=1e-4)
    cosines = torch.nn.functional.normalize(narrow.queries, dim=-1) @ torch.nn.functional.normalize(narrow.keys, dim=-1).mT
    padded = torch.nn.functional.normalize(mixed.queries[:8], dim=-1) @ torch.nn.functional.normalize(mixed.keys[:8], dim=-1).mT
    torch.testing.assert_close(padded, cosines, atol=1e-5, rtol=1e-4)
    with pytest.raises(OptionError, match="mix_grids"):
        graph.heads(image, {"diffusion": model}, opts(layers=layers))
