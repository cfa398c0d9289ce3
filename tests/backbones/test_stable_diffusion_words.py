"""Words in the diffusion model: the text tower when it is wanted, cross-attention of named layers, one pass that serves both kinds."""

from __future__ import annotations

import shutil

import pytest
import torch

from nerveseg.backbones import shared
from nerveseg.backbones import stable_diffusion as backbone
from nerveseg.errors import OptionError, ShapeError, WeightsError

PROMPTS = ("a photo of cat", "grass", "sky and dog")


@pytest.fixture(scope="module")
def fresh(diffusion_folder):
    """A model of this file's own, since what it keeps is looked at."""
    return backbone.load(diffusion_folder)


@pytest.fixture(scope="module")
def eights(checkpoints, tmp_path_factory):
    return backbone.load(checkpoints.make_diffusion(tmp_path_factory.mktemp("sd15"), eights=True))


@pytest.fixture(scope="module")
def x_t():
    return torch.randn(1, 4, 16, 8, generator=torch.Generator().manual_seed(4))


def whole_pass(model, x_t, prompt, t, path):
    """The whole U-Net; what one attention layer's projections and the layer itself answered."""
    record, layer = {}, model.unet.get_submodule(path)
    handles = [
        getattr(layer, name).register_forward_hook(lambda _m, _a, out, n=name: record.update({n: out})) for name in ("to_q", "to_k", "to_v")
    ]
    handles.append(layer.register_forward_hook(lambda _m, _a, out: record.update(out=out)))
    with torch.no_grad():
        model.unet(x_t, t, encoder_hidden_states=prompt)
    for handle in handles:
        handle.remove()
    return record


@pytest.mark.parametrize("layer", ["down_blocks.0.attentions.1", "mid_block.attentions.0", "up_blocks.3.attentions.2"])
@pytest.mark.parametrize("family", ["fresh", "eights"])
def test_captured_cross_attention_reproduces_the_layers_own_output(family, layer, x_t, request):
    model = request.getfixturevalue(family)
    prompt = model.prompt_embeddings(PROMPTS[:1])
    (seen,) = model.cross_attention(x_t, prompt, t=100, cross=[layer])
    (path,) = model.resolve([layer], cross=True)
    record = whole_pass(model, x_t, prompt, 100, path)
    attention = model.unet.get_submodule(path)
    V = record["to_v"][0].unflatten(-1, (attention.heads, -1)).transpose(0, 1)
    P = seen.cross[0].probabilities()
    assert seen.cross[0].layer == path
    assert P.shape == (attention.heads, P.shape[1], 77)
    torch.testing.assert_close(P.sum(-1), torch.ones(P.shape[:2]))
    torch.testing.assert_close(attention.to_out[0]((P @ V).transpose(0, 1).flatten(1)), record["out"][0], atol=1e-5, rtol=1e-5)


def test_probabilities_written_out_by_hand(fresh, x_t):
    (seen,) = fresh.cross_attention(x_t, fresh.prompt, t=7, cross=["mid_block.attentions.0"])
    layer = seen.cross[0]
    P = layer.probabilities()
    H, n, d = layer.queries.shape
    for h, i in ((0, 0), (H - 1, n - 1)):
        row = [sum(float(layer.queries[h, i, j] * layer.keys[h, w, j]) for j in range(d)) / d**0.5 for w in range(77)]
        top = max(row)
        grown = [torch.tensor(value - top).exp().item() for value in row]
        torch.testing.assert_close(P[h, i], torch.tensor([value / sum(grown) for value in grown]))


def test_one_pass_serves_both_kinds_of_attention(fresh):
    pixels = torch.rand(1, 3, 128, 64, generator=torch.Generator().manual_seed(3)) * 2 - 1
    apart = fresh.attention(pixels, t=50, layers=(-1, 0), seed=9)
    x_t = fresh.noised(fresh.latents(pixels).mean, t=50, seed=9)
    (seen,) = fresh.cross_attention(x_t, fresh.prompt, t=50, cross=(-1, 3), own=(-1, 0))
    for one, two in zip(apart, seen.own, strict=True):
        assert (one.layer, one.grid) == (two.layer, two.grid)
        assert torch.equal(one.queries, two.queries)
    (alone,) = fresh.cross_attention(x_t, fresh.prompt, t=50, cross=(3,))
    torch.testing.assert_close(alone.cross[0].keys, seen.cross[1].keys)


def test_a_batch_of_prompts_is_its_loop(fresh, x_t):
    prompts = fresh.prompt_embeddings(PROMPTS)
    together = list(fresh.cross_attention(x_t, prompts, t=100, cross=(-1, 0), own=(-1,)))
    assert len(together) == 3
    for row, seen in enumerate(together):
        (alone,) = fresh.cross_attention(x_t, prompts[row : row + 1], t=100, cross=(-1, 0), own=(-1,))
        torch.testing.assert_close(seen.cross[0].probabilities(), alone.cross[0].probabilities(), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(seen.own[0].keys, alone.own[0].keys, atol=1e-5, rtol=1e-4)
    assert not torch.equal(together[0].cross[0].keys, together[1].cross[0].keys)


def test_nothing_after_the_last_needed_projection_is_computed(fresh, x_t, monkeypatch):
    calls = []
    block = "up_blocks.3.attentions.2.transformer_blocks.0."
    for name in ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_k", "attn2.to_v", "ff"):
        module = fresh.unet.get_submodule(block + name)
        monkeypatch.setattr(module, "forward", lambda *a, _f=module.forward, _n=name, **k: (calls.append(_n), _f(*a, **k))[1])
    fresh.cross_attention(x_t, fresh.prompt, t=1, cross=(), own=(-1,))
    assert calls == ["attn1.to_q", "attn1.to_k"]
    calls.clear()
    fresh.cross_attention(x_t, fresh.prompt, t=1, cross=(-1,))
    assert calls[-2:] == ["attn2.to_q", "attn2.to_k"]


def test_depth_is_the_grid_that_a_layer_has(fresh, tiny_diffusion, eights):
    for model in (fresh, tiny_diffusion, eights):
        x = torch.zeros(1, 4, 16, 16)
        (seen,) = model.cross_attention(x, model.prompt, t=1, cross=range(len(model.cross_layers)), own=range(len(model.layers)))
        for layer in (*seen.cross, *seen.own):
            h, w = layer.grid
            assert h * w == layer.queries.shape[1]
            assert h == w == 16 >> model.depth(layer.layer)
        assert [layer.layer for layer in seen.cross] == list(model.cross_layers)


def test_heads_of_stable_diffusion_1(eights, x_t):
    (seen,) = eights.cross_attention(x_t, eights.prompt, t=1, cross=(-1, 0, 6), own=(-1, -4))
    assert [layer.queries.shape for layer in seen.own] == [(8, 128, 4), (8, 32, 8)]
    assert [layer.queries.shape for layer in seen.cross] == [(8, 128, 4), (8, 128, 4), (8, 2, 16)]


def test_the_text_tower_comes_when_words_do_and_may_go(diffusion_folder):
    model = backbone.load(diffusion_folder)
    assert model._kept == {}
    state = torch.get_rng_state()
    one = model.prompt_embeddings(PROMPTS)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.text_tower() is model.text_tower()
    assert not any(p.requires_grad or p.is_inference() for p in model.text_tower().model.parameters())
    model.drop_text_tower()
    assert "tower" not in model._kept
    torch.testing.assert_close(model.prompt_embeddings(PROMPTS[::-1]), one.flip(0))
    torch.testing.assert_close(model.prompt_embeddings([""]), model.prompt)


def test_embeddings_are_the_towers_answer_to_the_padded_prompt(fresh, diffusion_folder):
    from transformers.models.clip.modeling_clip import CLIPTextModel
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(diffusion_folder / "tokenizer", local_files_only=True)
    tower = CLIPTextModel.from_pretrained(diffusion_folder / "text_encoder", local_files_only=True).eval()
    texts = [*PROMPTS, "cat, dog " * 30]
    ids = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(fresh.prompt_embeddings(texts), tower(ids).last_hidden_state, atol=1e-6, rtol=1e-5)
    assert [fresh.text_tower().framed(fresh.text_tower().pieces(text)) for text in texts] == [tuple(row) for row in ids.tolist()]


def test_pieces_that_meet_at_white_space_are_the_joined_text(fresh):
    tower = fresh.text_tower()
    pieces = ("a photograph of", "person with clothes, people", "and", "Cat", ", ground, land")
    assert tuple(token for piece in pieces for token in tower.pieces(piece)) == tower.pieces(" ".join(pieces))


def test_prompts_are_kept_within_bounds(fresh, monkeypatch):
    monkeypatch.setattr(backbone, "_PROMPTS_KEPT", 3)
    fresh._kept.pop("prompts", None)
    first = fresh.prompt_embeddings(["cat", "dog", "sky", "grass", "cat"])
    assert torch.equal(first[0], first[4])
    assert len(fresh._kept["prompts"]) == 3
    torch.testing.assert_close(fresh.prompt_embeddings(["cat", "grass"]), first[[0, 3]])
    assert len(fresh._kept["prompts"]) == 3


def test_a_folder_with_the_empty_prompt_alone_says_that_words_cannot_go_through(tiny_diffusion, diffusion_folder, tmp_path):
    with pytest.raises(WeightsError, match="words cannot go through"):
        tiny_diffusion.prompt_embeddings(["cat"])
    lacking = shutil.copytree(diffusion_folder, tmp_path / "lacking")
    for name in ("vocab.json", "merges.txt"):
        (lacking / "tokenizer" / name).unlink()
    with pytest.raises(WeightsError, match="tokenizer"):
        backbone.load(lacking)
    loose = backbone.StableDiffusion(tiny_diffusion.vae, tiny_diffusion.unet, tiny_diffusion.alphas, tiny_diffusion.prompt)
    with pytest.raises(WeightsError, match="without a folder"):
        loose.prompt_embeddings(["cat"])


def test_latents_are_the_vaes_mean_and_deviation_scaled(fresh):
    pixels = torch.rand(1, 3, 64, 128) * 2 - 1
    with torch.no_grad():
        expected = fresh.vae.encode(pixels).latent_dist
    found = fresh.latents(pixels)
    factor = fresh.vae.config.scaling_factor
    torch.testing.assert_close(found.mean, expected.mean * factor)
    torch.testing.assert_close(found.deviation, expected.std * factor)
    noise = torch.randn(found.mean.shape)
    kept = float(fresh.alphas[40])
    torch.testing.assert_close(fresh.noised(found.mean, t=40, noise=noise), kept**0.5 * found.mean + (1 - kept) ** 0.5 * noise)


def test_an_image_passes_the_vae_once_where_two_stages_look_at_it(fresh, monkeypatch):
    calls = []
    encode = fresh.vae.encode
    monkeypatch.setattr(fresh.vae, "encode", lambda x: (calls.append(x.shape), encode(x))[1])
    once = shared({"diffusion": fresh}, {"diffusion"})["diffusion"]
    pixels = torch.zeros(1, 3, 64, 64)
    latents = once.latents(pixels)
    (layer,) = once.attention(pixels, t=100, layers=(-1,))
    assert len(calls) == 1
    (alone,) = fresh.attention(pixels, t=100, layers=(-1,))
    assert torch.equal(layer.queries, alone.queries)
    once.attention(torch.ones(1, 3, 64, 64), t=100, layers=(-1,))
    assert len(calls) == 3
    assert torch.equal(latents.mean, fresh.latents(pixels).mean)


def test_what_does_not_exist_is_refused(fresh, x_t):
    for wanted in (
        {"cross": (16,)},
        {"cross": ()},
        {"cross": (-1, 15)},
        {"cross": (-1,), "own": ("up_blocks.9",)},
        {"cross": (-1,), "t": 1000},
    ):
        with pytest.raises(OptionError, match="Accepted"):
            fresh.cross_attention(x_t, fresh.prompt, **{"t": 1, **wanted})
    with pytest.raises(ShapeError, match="multiples of 64"):
        fresh.latents(torch.zeros(1, 3, 64, 72))
    assert all(not m._forward_hooks for m in fresh.unet.modules())
