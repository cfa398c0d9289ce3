from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch
from torch.nn import functional as F

from nerveseg.backbones import stable_diffusion as backbone
from nerveseg.errors import OptionError, ShapeError, WeightsError


@pytest.fixture(scope="module")
def pixels():
    return torch.rand(1, 3, 128, 64, generator=torch.Generator().manual_seed(3)) * 2 - 1


def full_pass(model, pixels, t, noise):
    """The textbook way: encode, noise with a scheduler, whole pass."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
    with torch.no_grad():
        latent = model.vae.encode(pixels).latent_dist.mean * model.vae.config.scaling_factor
        x_t = scheduler.add_noise(latent, noise, torch.tensor([t]))
        return model.unet(x_t, t, encoder_hidden_states=model.prompt).sample


@pytest.mark.parametrize("layer", ["up_blocks.3.attentions.2", "mid_block.attentions.0", 0])
def test_captured_q_and_k_reproduce_the_layers_own_output(diffusion, pixels, layer):
    noise = torch.randn(1, 4, 16, 8)
    (path,) = diffusion.resolve([layer])
    attention = diffusion.unet.get_submodule(path)
    record = {}
    handles = [
        attention.register_forward_hook(lambda _m, _a, out: record.update(out=out)),
        attention.to_v.register_forward_hook(lambda _m, _a, out: record.update(v=out)),
    ]
    full_pass(diffusion, pixels, 100, noise)
    for handle in handles:
        handle.remove()
    (found,) = diffusion.attention(pixels, t=100, layers=[layer], noise=noise)
    Q, K = found.queries, found.keys
    V = record["v"][0].unflatten(-1, (attention.heads, -1)).transpose(0, 1)
    mixed = (Q @ K.mT * Q.shape[-1] ** -0.5).softmax(-1) @ V
    torch.testing.assert_close(attention.to_out[0](mixed.transpose(0, 1).flatten(1)), record["out"][0], atol=1e-5, rtol=1e-5)


def test_layers_come_in_the_order_of_a_pass(diffusion, tiny_diffusion):
    names = [name.removesuffix(".transformer_blocks.0.attn1") for name in diffusion.layers]
    assert len(names) == 16
    assert names[0] == "down_blocks.0.attentions.0"
    assert names[6:9] == ["mid_block.attentions.0", "up_blocks.1.attentions.0", "up_blocks.1.attentions.1"]
    assert names[-1] == "up_blocks.3.attentions.2"
    order = []
    for model in (diffusion, tiny_diffusion):
        order.clear()
        handles = [model.unet.get_submodule(n).register_forward_hook(lambda _m, _a, _o, n=n: order.append(n)) for n in model.layers]
        with torch.no_grad():
            model.unet(torch.zeros(1, 4, 16, 16), 0, encoder_hidden_states=model.prompt)
        for handle in handles:
            handle.remove()
        assert tuple(order) == model.layers


def test_the_networks_modules_are_walked_once(diffusion, pixels, monkeypatch):
    fresh = dataclasses.replace(diffusion, _kept={})
    first = fresh.attention(pixels, t=100)

    def refuse(*_given, **_named):
        pytest.fail("the modules were walked again")

    monkeypatch.setattr(diffusion.unet, "named_modules", refuse)
    for one, other in zip(first, fresh.attention(pixels, t=100), strict=True):
        assert torch.equal(one.keys, other.keys)


def test_layers_are_found_by_index_and_by_path_and_returned_as_asked(diffusion, pixels):
    last, before = diffusion.attention(pixels, t=100, layers=(-1, "up_blocks.3.attentions.1"))
    assert (last.layer, before.layer) == (diffusion.layers[-1], diffusion.layers[-2])
    assert last.queries.shape == last.keys.shape == (5, 128, 4)
    assert last.grid == (16, 8)
    (deep,) = diffusion.attention(pixels, t=100, layers=("up_blocks.2.attentions.0",))
    assert deep.grid == (8, 4)
    assert deep.queries.shape == (10, 32, 4)


def test_the_pass_ends_once_everything_is_in_hand(diffusion, pixels, monkeypatch):
    calls = []
    unet = diffusion.unet
    for name in ("conv_out", "up_blocks.3.attentions.1", "up_blocks.3.attentions.2", "up_blocks.3.resnets.1"):
        module = unet.get_submodule(name)
        forward = module.forward
        monkeypatch.setattr(module, "forward", lambda *a, _f=forward, _n=name, **k: (calls.append(_n), _f(*a, **k))[1])
    diffusion.attention(pixels, t=100, layers=("up_blocks.3.attentions.0",))
    assert calls == []
    diffusion.attention(pixels, t=100, layers=(-1, -2))
    assert calls == ["up_blocks.3.resnets.1", "up_blocks.3.attentions.1", "up_blocks.3.attentions.2"]
    full = full_pass(diffusion, pixels, 100, torch.zeros(1, 4, 16, 8))
    assert calls[-1] == "conv_out"
    assert full.shape == (1, 4, 16, 8)


@pytest.mark.parametrize("failing", [False, True])
def test_processors_hooks_and_random_state_are_as_before(diffusion, pixels, monkeypatch, failing):
    processors = dict(diffusion.unet.attn_processors)
    defaults = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    state = torch.get_rng_state()
    if failing:

        def broken(*_args, **_kwargs):
            raise RuntimeError("inside")

        monkeypatch.setattr(diffusion.unet.mid_block, "forward", broken)
        with pytest.raises(RuntimeError, match="inside"):
            diffusion.attention(pixels, t=100)
    else:
        diffusion.attention(pixels, t=100)
    after = diffusion.unet.attn_processors
    assert all(after[name] is processor for name, processor in processors.items())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in diffusion.unet.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()) == defaults


def test_same_seed_same_bytes_other_seed_other_bytes(diffusion, pixels):
    one, two, other = (diffusion.attention(pixels, t=300, seed=seed)[0].queries for seed in (7, 7, 8))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_noise_itself_may_be_given(diffusion, pixels):
    noise = torch.randn(1, 4, 16, 8, generator=torch.Generator().manual_seed(7))
    seeded, given = diffusion.attention(pixels, t=300, seed=7), diffusion.attention(pixels, t=300, noise=noise)
    assert torch.equal(seeded[0].keys, given[0].keys)
    with pytest.raises(ShapeError, match="Got noise"):
        diffusion.attention(pixels, t=300, noise=noise[:, :, :3])


def test_alphas_are_stable_diffusions(diffusion):
    # published figures for the scaled linear schedule: √ᾱ_100 = .9456, √(1 − ᾱ_100) = .3252
    kept = float(diffusion.alphas[100])
    assert (round(kept**0.5, 4), round((1 - kept) ** 0.5, 4)) == (0.9456, 0.3252)


def test_empty_prompt_is_the_text_towers_answer(diffusion, diffusion_folder):
    from transformers.models.clip.modeling_clip import CLIPTextModel
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(diffusion_folder / "tokenizer", local_files_only=True)
    tower = CLIPTextModel.from_pretrained(diffusion_folder / "text_encoder", local_files_only=True).eval()
    ids = tokenizer("", padding="max_length", max_length=77, return_tensors="pt").input_ids
    assert ids.shape == (1, 77)
    torch.testing.assert_close(diffusion.prompt, tower(ids).last_hidden_state.detach())
    assert diffusion.vae.decoder is None


def test_tiny_layout_reads_its_prompt_from_a_tensor(tiny_diffusion):
    assert (tiny_diffusion.shrink, tiny_diffusion.multiple, tiny_diffusion.side) == (4, 8, 64)
    layers = tiny_diffusion.attention(torch.zeros(1, 3, 64, 40), t=20, layers=(-1, -2))
    assert [layer.queries.shape for layer in layers] == [(5, 160, 4)] * 2
    assert layers[0].grid == (16, 10)


def test_normalised_queries_are_the_ones_captured(tiny_diffusion):
    attention = tiny_diffusion.unet.get_submodule(tiny_diffusion.layers[-1])
    attention.norm_q = torch.nn.LayerNorm(4, elementwise_affine=False)
    try:
        (layer,) = tiny_diffusion.attention(torch.rand(1, 3, 64, 64), t=20, layers=(-1,))
    finally:
        attention.norm_q = None
    torch.testing.assert_close(layer.queries, F.layer_norm(layer.queries, (4,)), atol=2e-2, rtol=1e-2)


def test_what_does_not_exist_is_refused(diffusion, pixels):
    for layers in ((16,), ("up_blocks.9",), (), (-1, 15), (True,)):
        with pytest.raises(OptionError, match="Accepted"):
            diffusion.attention(pixels, t=100, layers=layers)
    with pytest.raises(OptionError, match="0 to 999"):
        diffusion.attention(pixels, t=1000)
    with pytest.raises(ShapeError, match="multiples of 64"):
        diffusion.attention(torch.zeros(1, 3, 64, 72), t=100)


def test_a_broken_folder_is_named(tmp_path, diffusion_folder):
    with pytest.raises(WeightsError, match="diffusers' layout"):
        backbone.load(tmp_path)
    broken = shutil.copytree(diffusion_folder, tmp_path / "broken")
    shutil.rmtree(broken / "text_encoder")
    shutil.rmtree(broken / "tokenizer")
    from safetensors.torch import save_file

    save_file({"prompt": torch.zeros(1, 8, 7)}, broken / "empty_prompt.safetensors")
    with pytest.raises(WeightsError, match="7 numbers a token"):
        backbone.load(broken)


def test_a_folder_with_half_precision_files_only_is_read(tmp_path, diffusion_folder, diffusion):
    half = shutil.copytree(diffusion_folder, tmp_path / "half")
    for part in ("unet", "vae"):
        (half / part / "diffusion_pytorch_model.safetensors").rename(half / part / "diffusion_pytorch_model.fp16.safetensors")
    (half / "text_encoder" / "model.safetensors").rename(half / "text_encoder" / "model.fp16.safetensors")
    torch.testing.assert_close(backbone.load(half).prompt, diffusion.prompt)
