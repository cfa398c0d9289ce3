"""Random checkpoints in the real layouts, small enough to be made anew in every test session."""

from __future__ import annotations

import json
from pathlib import Path

import torch

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
WORDS = ("photo", "cat", "dog", "grass", "sky")


def write_tokenizer(folder: Path, *, pad: str = EOS) -> int:
    """A byte-level BPE like CLIP's: 256 bytes, 256 bytes that end a word, merges that make each of WORDS whole, two marks last."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    vocab = letters + [letter + "</w>" for letter in letters]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        left = word[0]
        for i, letter in enumerate(word[1:], start=1):
            right = letter + ("</w>" if i == len(word) - 1 else "")
            if (left, right) not in merges:
                merges.append((left, right))
                vocab.append(left + right)
            left += right
    vocab += [BOS, EOS]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocab)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n", "utf-8")
    marks = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": pad}
    config = {**marks, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(marks), "utf-8")
    return len(vocab)


def make_clip(folder: Path, *, patch: int = 16, layers: int = 4, side: int = 64, legacy_end: bool = False, words: bool = False) -> Path:
    """A CLIP of reduced width: quick GELU, 4 heads, class token, square position grid."""
    from transformers.models.clip.configuration_clip import CLIPConfig
    from transformers.models.clip.modeling_clip import CLIPModel

    size = write_tokenizer(folder)
    text = {"vocab_size": size, "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"max_position_embeddings": 77, "bos_token_id": size - 2, "pad_token_id": size - 1}
    text |= {"eos_token_id": 2 if legacy_end else size - 1}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": layers, "num_attention_heads": 4}
    vision |= {"image_size": side, "patch_size": patch, "hidden_act": "quick_gelu"}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = CLIPConfig(text_config={**text, "hidden_act": "quick_gelu"}, vision_config=vision, projection_dim=20)
        model = CLIPModel(config)
        _stir(model)
        model.save_pretrained(folder)
    if words:
        (folder / "words.json").write_text(json.dumps([*WORDS, "hot dog"]), "utf-8")
    return folder


def make_diffusion(
    folder: Path, *, tiny: bool = False, eights: bool = False, scheduler: str = "PNDMScheduler", prompt_only: bool = False
) -> Path:
    """A latent diffusion model: SD 2.1's four levels with 5, 10, 20, 20 heads, SD 1.5's with 8 (``eights``), or two levels (``tiny``)."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    with torch.random.fork_rng():
        torch.manual_seed(2)
        if tiny:
            unet = {"block_out_channels": (20, 40), "attention_head_dim": (5, 10), "sample_size": 16, "norm_num_groups": 4}
            unet |= {"down_block_types": ("CrossAttnDownBlock2D",) * 2, "up_block_types": ("CrossAttnUpBlock2D",) * 2}
            vae = {"block_out_channels": (8, 8, 8), "norm_num_groups": 4}
        else:
            unet = {"block_out_channels": (20, 40, 80, 80), "attention_head_dim": (5, 10, 20, 20), "sample_size": 16, "norm_num_groups": 4}
            unet |= {"down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)}
            unet |= {"up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3, "use_linear_projection": not eights}
            unet |= {"block_out_channels": (32, 64, 128, 128), "attention_head_dim": 8} if eights else {}
            vae = {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4}
        levels = len(vae["block_out_channels"])
        kinds = {"down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels}
        network = UNet2DConditionModel(cross_attention_dim=24, layers_per_block=2, **unet)
        _stir(network)
        network.save_pretrained(folder / "unet")
        AutoencoderKL(latent_channels=4, layers_per_block=1, **kinds, **vae).save_pretrained(folder / "vae")
        _write_text_tower(folder, prompt_only=prompt_only)
    (folder / "scheduler").mkdir()
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": scheduler, **betas, "steps_offset": 1}), "utf-8")
    return folder


def make_groupvit(folder: Path, *, patch: int = 16, side: int = 64) -> Path:
    """A GroupViT of reduced width: three stages, 6 then 3 groups, batch norms that have seen something, sharp assignments."""
    from transformers.models.groupvit.configuration_groupvit import GroupViTConfig
    from transformers.models.groupvit.modeling_groupvit import GroupViTModel

    size = write_tokenizer(folder)
    text = {"vocab_size": size, "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"max_position_embeddings": 77, "bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": size - 1}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "depths": (1, 1, 1), "num_attention_heads": 4}
    vision |= {"num_group_tokens": (6, 3, 0), "num_output_groups": (6, 3, 3), "image_size": side, "patch_size": patch}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = GroupViTModel(GroupViTConfig(text_config=text, vision_config=vision, projection_dim=20, projection_intermediate_dim=40))
        _stir(model)
        with torch.no_grad():
            for name, value in model.named_parameters():
                if "group_token" in name:
                    value.normal_()
                elif ".assign." in name and value.ndim == 2:
                    value.mul_(20)
            for name, value in model.named_buffers():
                if "running" in name:
                    value.copy_(0.5 + torch.rand_like(value))
        model.save_pretrained(folder)
    return folder


def make_dino(folder: Path, *, patch: int = 8, side: int = 32) -> Path:
    """A DINO of reduced width: 3 blocks, 4 heads, as ``ViTModel`` without a pooler."""
    from transformers.models.vit.configuration_vit import ViTConfig
    from transformers.models.vit.modeling_vit import ViTModel

    sizes = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = ViTModel(ViTConfig(image_size=side, patch_size=patch, **sizes), add_pooling_layer=False)
        _stir(model)
        _spread(model)
        model.save_pretrained(folder)
    return folder


def make_dinov2(folder: Path, *, patch: int = 14, side: int = 56, registers: int = 0) -> Path:
    """A DINOv2 of reduced width: 3 blocks, 4 heads; with registers where asked."""
    if registers:
        from transformers.models.dinov2_with_registers.configuration_dinov2_with_registers import Dinov2WithRegistersConfig as Config
        from transformers.models.dinov2_with_registers.modeling_dinov2_with_registers import Dinov2WithRegistersModel as Model
    else:
        from transformers.models.dinov2.configuration_dinov2 import Dinov2Config as Config
        from transformers.models.dinov2.modeling_dinov2 import Dinov2Model as Model

    more = {"num_register_tokens": registers} if registers else {}
    with torch.random.fork_rng():
        torch.manual_seed(6)
        config = Config(image_size=side, patch_size=patch, hidden_size=24, mlp_ratio=2, num_hidden_layers=3, num_attention_heads=4, **more)
        model = Model(config)
        _stir(model)
        _spread(model)
        model.save_pretrained(folder)
    return folder


def _spread(model: torch.nn.Module) -> None:
    """Attention that is far from uniform, and tokens that are far from zero."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "cls_token" in name or "register_tokens" in name:
                value.copy_(torch.randn_like(value) * 0.5)
            elif value.ndim == 2 and ("q_proj" in name or "k_proj" in name or "query" in name or "key" in name):
                value.mul_(10)


def make_taesd(folder: Path) -> Path:
    """A TAESD of reduced width: latents of 4 channels at an eighth, as the published one."""
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    with torch.random.fork_rng():
        torch.manual_seed(5)
        widths = {"encoder_block_out_channels": (8, 8, 8, 8), "decoder_block_out_channels": (8, 8, 8, 8)}
        AutoencoderTiny(num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1), **widths).save_pretrained(folder)
    return folder


def _write_text_tower(folder: Path, *, prompt_only: bool) -> None:
    from safetensors.torch import load_file, save_file
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    if prompt_only:
        save_file({"prompt": torch.randn(1, 8, 24)}, folder / "empty_prompt.safetensors")
        return
    size = write_tokenizer(folder / "tokenizer", pad="!")  # SD 2 pads with "!"
    config = CLIPTextConfig(vocab_size=size, hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
    config.eos_token_id, config.bos_token_id = size - 1, size - 2
    part = folder / "text_encoder"
    CLIPTextModel(config).save_pretrained(part)
    # Published checkpoints carry the prefix that older versions of transformers wrote.
    tensors = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in load_file(part / "model.safetensors").items()}
    save_file(tensors, part / "model.safetensors", metadata={"format": "pt"})


def _stir(model: torch.nn.Module) -> None:
    """Random norms and biases, so that a swapped norm or a forgotten bias shows."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim == 1:
                value.add_(torch.randn_like(value) * 0.1)
            elif "position_embedding" in name or "class_embedding" in name:
                value.copy_(torch.randn_like(value) * 0.5)


def write_saved(path: Path, *, grid: tuple[int, int] = (5, 7)) -> Path:
    """Scores of four named classes, and two heads, on one grid."""
    import numpy as np

    g = torch.Generator().manual_seed(4)
    scores = torch.randn(4, *grid, generator=g).softmax(0).numpy()
    queries, keys = (torch.randn(2, grid[0] * grid[1], 6, generator=g).numpy() for _ in range(2))
    np.savez(path, scores=scores, labels=np.array(["sky", "cat", "dog", "grass"]), queries=queries, keys=keys, grid=np.array(grid))
    return path


def words(vectors: torch.Tensor, groups: tuple[int, ...], others: torch.Tensor | None = None):
    """`Words` with names that do not matter beside vectors that do."""
    from nerveseg.labels.base import Words

    others = vectors[:0] if others is None else others
    names = tuple(f"word {i}" for i in range(len(vectors)))
    return Words(names, tuple(groups), tuple(f"other {i}" for i in range(len(others))), vectors, others)


def colours(height: int, width: int, seed: int = 0):
    """An image of smooth colours, uint8."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 5, generator=g)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0]
    return (smooth.permute(1, 2, 0) * 255).to(torch.uint8).numpy()
