from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from nerveseg.backbones import KINDS
from nerveseg.backbones.dino import MEAN, STD, load
from nerveseg.errors import OptionError, ShapeError, WeightsError


@pytest.fixture(scope="module")
def registers(checkpoints, tmp_path_factory):
    return load(checkpoints.make_dinov2(tmp_path_factory.mktemp("registers"), registers=4))


@pytest.fixture(params=["dino", "dinov2", "registers"])
def network(request):
    return request.getfixturevalue(request.param)


def pixels(height, width, seed=0):
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def library(network, x):
    more = {"interpolate_pos_encoding": True} if network.model.config.model_type == "vit" else {}
    with torch.no_grad():
        return network.model(x, **more).last_hidden_state[0]


def test_both_kinds_are_read_by_this_file():
    assert (KINDS["dino"], KINDS["dinov2"]) == ("dino", "dino")
    assert (MEAN, STD) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("rows", [4, 6])
@pytest.mark.parametrize("columns", [4, 7])
def test_output_is_the_librarys_last_hidden_state_without_class_token_and_registers(network, rows, columns):
    x = pixels(rows * network.patch, columns * network.patch)
    found = network.tokens(x)
    torch.testing.assert_close(found, library(network, x)[network.before :], atol=1e-5, rtol=1e-4)
    assert found.shape == (rows * columns, 24)


def test_the_trained_grid_takes_the_embeddings_as_they_are(network):
    x = pixels(network.side, network.side)
    plain = network.tokens(x)
    for positions in ("bilinear", "bicubic", "bicubic-offset", "bicubic-antialias"):
        assert torch.equal(network.tokens(x, positions=positions), plain)
    wide = pixels(network.side, 2 * network.side)
    assert not torch.equal(network.tokens(wide, positions="bicubic-offset"), network.tokens(wide))


@torch.no_grad()
@pytest.mark.parametrize("layer", [-1, -2])
def test_queries_keys_and_values_reproduce_the_blocks_own_attention(network, layer):
    x = pixels(3 * network.patch, 5 * network.patch)
    blocks = network.model.layers if hasattr(network.model, "layers") else network.model.encoder.layer
    attention = blocks[layer].attention
    seen = {}

    def keep(_module, args, kwargs, output):
        seen.update(entered=args[0] if args else kwargs["hidden_states"], left=output[0])

    handle = attention.register_forward_hook(keep, with_kwargs=True)
    library(network, x)
    handle.remove()
    Q, K, V = network.parts(x, tuple((layer, part) for part in "qkv"))
    # The class token and the registers take part in the block's own attention, so they are put back here.
    first = seen["entered"][0, : network.before]
    d, rows = 24 // 4, []
    for h in range(4):
        own = slice(h * d, (h + 1) * d)
        q, k, v = (
            torch.cat([projection(first)[:, own], side[h]])
            for projection, side in ((attention.q_proj, Q), (attention.k_proj, K), (attention.v_proj, V))
        )
        weights = torch.exp(q @ k.T / math.sqrt(d))
        rows.append(weights / weights.sum(1, keepdim=True) @ v)
    expected = attention.o_proj(torch.cat(rows, dim=1))
    torch.testing.assert_close(seen["left"][0], expected, atol=1e-5, rtol=1e-4)
    assert Q.shape == (4, 15, 6)


def test_several_parts_in_one_pass_are_those_of_single_passes(network):
    x = pixels(3 * network.patch, 3 * network.patch)
    wanted = ((-1, "k"), (-3, "output"), (-2, "q"))
    for found, (layer, kind) in zip(network.parts(x, wanted), wanted, strict=True):
        torch.testing.assert_close(found, network.tokens(x, layer=layer, kind=kind))


@pytest.mark.parametrize(("wanted", "passed"), [(((-2, "v"),), 1), (((-3, "k"),), 0), (((-1, "q"), (-1, "k")), 2), (((-2, "output"),), 2)])
def test_the_pass_ends_once_all_is_in_hand(dino, wanted, passed):
    """Feed-forward parts run until then: none of the asked block's own where a projection was asked for."""
    ran = []
    handles = [block.mlp.register_forward_hook(lambda *_: ran.append(1)) for block in dino.model.layers]
    dino.parts(pixels(16, 16), wanted)
    for handle in handles:
        handle.remove()
    assert len(ran) == passed
    assert not any(block.attention.q_proj._forward_hooks for block in dino.model.layers)


def test_half_precision_gives_float32(dino_folder):
    half = load(dino_folder, dtype=torch.bfloat16)
    for kind in ("output", "k"):
        found = half.tokens(pixels(16, 24), kind=kind)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, load(dino_folder).tokens(pixels(16, 24), kind=kind), atol=0.15, rtol=0.1)


def test_the_published_layout_of_weights_is_read(dino, dino_folder, tmp_path):
    """Published checkpoints carry the names that older versions of transformers wrote."""
    old = {"q_proj": "attention.query", "k_proj": "attention.key", "v_proj": "attention.value", "o_proj": "output.dense"}
    folder = tmp_path / "old"
    shutil.copytree(dino_folder, folder)
    tensors = {}
    for name, value in load_file(folder / "model.safetensors").items():
        name = name.removeprefix("vit.")
        if not name.startswith("encoder.") and name.startswith("layers."):
            name = name.replace("layers.", "encoder.layer.", 1).replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
            for new, was in old.items():
                name = name.replace(f"attention.{new}", f"attention.{was}")
        tensors[name] = value.clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(load(folder).tokens(pixels(16, 16)), dino.tokens(pixels(16, 16)))


@pytest.mark.parametrize("layer", [0, 1, -4, True])
def test_blocks_that_are_not_there_are_refused(dino, layer):
    with pytest.raises(OptionError, match="-3 to -1"):
        dino.tokens(pixels(16, 16), layer=layer)


def test_parts_and_sides_that_do_not_exist_are_refused(dino):
    with pytest.raises(OptionError, match="output, q, k, v"):
        dino.tokens(pixels(16, 16), kind="w")
    for x in (pixels(16, 17), torch.zeros(2, 3, 16, 16)):
        with pytest.raises(ShapeError, match="multiples of 8"):
            dino.tokens(x)


def test_other_folders_are_refused(clip_folder, dino_folder, tmp_path):
    with pytest.raises(WeightsError, match="model_type 'clip'"):
        load(clip_folder)
    with pytest.raises(WeightsError, match=r"without config\.json"):
        load(tmp_path)
    folder = tmp_path / "half"
    shutil.copytree(dino_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    kept = dict(list(tensors.items())[:-3])
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="weights of ViTModel"):
        load(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "vit_mae"}))
    with pytest.raises(WeightsError, match="vit_mae"):
        load(folder)
