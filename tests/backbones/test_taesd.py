from __future__ import annotations

import pytest
import torch

from nerveseg.backbones import taesd as backbone
from nerveseg.errors import OptionError, ShapeError, WeightsError
from nerveseg.graph import stable_diffusion, stable_diffusion_tiny
from nerveseg.registry import options as make


@pytest.fixture(scope="module")
def pixels():
    return torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(3)) * 2 - 1


def test_the_latent_is_the_models_own(taesd, checkpoints, tmp_path, pixels):
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    whole = AutoencoderTiny.from_pretrained(checkpoints.make_taesd(tmp_path / "t"), local_files_only=True).eval()
    with torch.no_grad():
        torch.testing.assert_close(taesd.latent(pixels), whole.encode(pixels).latents)
    assert taesd.latent(pixels).shape == (1, 4, 8, 16)
    assert taesd.model.decoder is None
    with pytest.raises(ShapeError, match="multiples of 8"):
        taesd.latent(pixels[..., :-1])


def test_a_folder_of_something_else_is_refused(tmp_path, diffusion_folder):
    with pytest.raises(WeightsError, match="TAESD"):
        backbone.load(tmp_path)
    with pytest.raises(WeightsError, match="AutoencoderKL"):
        backbone.load(diffusion_folder / "vae")


def test_the_graph_is_stable_diffusions_after_another_encoder(taesd, diffusion, image, monkeypatch):
    networks = {"taesd": taesd, "diffusion": diffusion}
    options = make(stable_diffusion_tiny.Options, {"size": 64, "layers": (-1, -2), "t": 40, "seed": 3})
    assert stable_diffusion_tiny.Options is stable_diffusion.Options
    monkeypatch.setattr(diffusion.vae, "encode", None)  # the VAE is not asked
    found = stable_diffusion_tiny.heads(image, networks, options)
    monkeypatch.undo()
    x_0 = taesd.latent(diffusion.pixels(image, size=64, fit="square"))
    x_t = diffusion.noised(x_0, t=40, seed=3)
    seen, handles = {}, []
    for layer in (-1, -2):
        attention = diffusion.unet.get_submodule(diffusion.layers[layer])
        handles.append(attention.to_k.register_forward_hook(lambda _m, _a, out, at=layer: seen.update({at: out})))
    with torch.no_grad():
        diffusion.unet(x_t, 40, encoder_hidden_states=diffusion.prompt)
    for handle in handles:
        handle.remove()
    expected = torch.cat([seen[layer][0].unflatten(-1, (5, 4)).transpose(0, 1) for layer in (-1, -2)])
    torch.testing.assert_close(found.keys, expected)
    assert found.grid == (8, 8)


def test_an_encoder_of_another_family_is_refused(taesd, tiny_diffusion, image):
    options = make(stable_diffusion_tiny.Options, {"size": 64})
    with pytest.raises(OptionError, match="made for this diffusion model"):
        stable_diffusion_tiny.heads(image, {"taesd": taesd, "diffusion": tiny_diffusion}, options)
