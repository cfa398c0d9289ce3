"""Seconds and memory of one image at the true size of the published models, beside the bare passes that it cannot do without.

    python benchmarks/full_size.py [--recipe nerve] [--labels 21,171] [--repeat 3] [--device cpu] [--dtype float32] [--batch 1] [-o FILE]
    python benchmarks/full_size.py --vocabulary 3,21,171,847 [-o FILE]

Weights are random: CLIP ViT-L/14 at 336 pixels and the VAE and U-Net of Stable Diffusion 2.1-base; only speed and memory mean anything.
*Bare* is what any use of these networks pays: CLIP's vision tower, the VAE's encoder, and the U-Net up to the last layer that is needed.
*Whole* is a JPEG decoded, both networks, labels, S, the walk, and a label map at the image's size. Words are embedded before: they are
kept on disk. Both are timed in turn in one process, the fastest of each counts. Writes FILE, a markdown table.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from nerveseg import recipe as recipes
from nerveseg.backbones import capture
from nerveseg.backbones.clip import Clip
from nerveseg.backbones.stable_diffusion import StableDiffusion
from nerveseg.image import geometry, load_image
from nerveseg.segmenter import Segmenter, device_and_dtype

SIZE = (375, 500)  # an image of Pascal VOC


class WordlessClip(Clip):
    """A CLIP whose words are random vectors: its text tower is not part of what is timed."""

    def text(self, strings: Any, templates: Any = ("{}",), *, batch: int = 256) -> torch.Tensor:
        """One random unit vector a string."""
        generator = torch.Generator().manual_seed(len(strings))
        return torch.nn.functional.normalize(torch.randn(len(strings), self.width, generator=generator), dim=-1).to(self.device)

    def unknown(self, strings: Any) -> tuple[str, ...]:
        """None."""
        return ()

    def truncated(self, strings: Any, templates: Any = ("{}",)) -> tuple[str, ...]:
        """None."""
        return ()


def main() -> None:
    """Build, time, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="nerve")
    parser.add_argument("--labels", default="21,171")
    parser.add_argument("--vocabulary", default=None, help="numbers of labels for the curve of decode against vocabulary")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", default=None)
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--batch", type=int, default=1, help="images whose passes are put together; seconds are those of one image")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, default=None)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    segmenter = random_segmenter(given.recipe, given.device, given.dtype)
    jpeg = image()
    if given.vocabulary:
        text = curve(segmenter, jpeg, [int(k) for k in given.vocabulary.split(",")], given.repeat)
    else:
        text = stages(segmenter, jpeg, [int(k) for k in given.labels.split(",")], given.repeat, given.batch)
    print(text)
    if given.output is not None:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(text, encoding="utf-8")


def random_segmenter(recipe: str, device: str | None, dtype: str | None) -> Segmenter:
    """A segmenter on random weights of the true sizes."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers.models.clip.configuration_clip import CLIPConfig
    from transformers.models.clip.modeling_clip import CLIPModel

    place, kind = device_and_dtype(device, dtype)
    torch.manual_seed(0)
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    vision |= {"image_size": 336, "patch_size": 14, "hidden_act": "quick_gelu"}
    text = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=768))
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(320, 640, 1280, 1280),
        attention_head_dim=(5, 10, 20, 20),
        cross_attention_dim=1024,
        use_linear_projection=True,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(block_out_channels=(128, 256, 512, 512), latent_channels=4, sample_size=512, layers_per_block=2, **levels)
    vae.decoder = None
    parts = [part.eval().requires_grad_(requires_grad=False).to(place, kind) for part in (clip, unet, vae)]
    networks = {
        "clip": WordlessClip(parts[0], None),
        "diffusion": StableDiffusion(parts[2], parts[1], torch.linspace(0.9999, 0.005, 1000), torch.randn(1, 77, 1024).to(place, kind)),
    }
    chosen = recipes.load(recipe)
    return Segmenter(chosen, {name: networks[name] for name in chosen.needs}, {}, place, kind)


def image() -> bytes:
    """A JPEG of smooth colours and noise."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((SIZE[1], SIZE[0]), Image.Resampling.BICUBIC)
    noisy = np.clip(np.asarray(small) + rng.normal(0, 8, (*SIZE, 3)), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noisy).save(stream, "jpeg", quality=90)
    return stream.getvalue()


def stages(segmenter: Segmenter, jpeg: bytes, counts: list[int], repeat: int, batch: int) -> str:
    """Bare passes and the whole, and the share of each stage, by image."""
    bare = {name: best(work, repeat, segmenter)[0] / batch for name, work in bare_passes(segmenter, jpeg, batch).items()}
    total = sum(bare.values())
    lines = ["| labels | bare passes s | whole s | whole / bare | shares of the whole |", "|---|---|---|---|---|"]
    for count in counts:
        words = [f"word {i}" for i in range(count)]
        taken, results = best(lambda words=words: segmenter([jpeg] * batch, words, batch=batch), repeat, segmenter)
        taken, result = taken / batch, results[-1]
        shares = ", ".join(f"{name} {100 * part / taken:.1f} %" for name, part in result.seconds.items() if part >= 0.0005 * taken)
        lines.append(f"| {count} | {total:.3f} | {taken:.3f} | {taken / total:.2f} | {shares} |")
    passes = ", ".join(f"{name} {part:.3f} s" for name, part in bare.items())
    return "\n".join([*lines, "", f"Batch {batch}. Bare passes: {passes}. {memory(segmenter)} {machine(segmenter)}", ""])


def curve(segmenter: Segmenter, jpeg: bytes, counts: list[int], repeat: int) -> str:
    """Seconds of encode and decode against the number of labels."""
    encode, encoding = best(lambda: segmenter.encode(load_image(jpeg)), 1, segmenter)
    lines = ["| labels | decode s | × decode at 21 | end to end s | × end to end at 21 |", "|---|---|---|---|---|"]
    found = {}
    for count in counts:
        words = [f"word {i}" for i in range(count)]
        found[count] = best(lambda words=words: segmenter.decode(encoding, words), repeat, segmenter)[0]
    unit = found.get(21, found[counts[0]])
    for count, taken in found.items():
        lines.append(f"| {count} | {taken:.2f} | {taken / unit:.2f} | {encode + taken:.2f} | {(encode + taken) / (encode + unit):.2f} |")
    return "\n".join([*lines, "", machine(segmenter), ""])


def bare_passes(segmenter: Segmenter, jpeg: bytes, batch: int) -> dict[str, Callable[[], Any]]:
    """The passes that the recipe's stages are made of, as the libraries run them."""
    shot, found = load_image(jpeg), {}
    if "clip" in segmenter.networks:
        clip, options = segmenter.networks["clip"], segmenter.recipe.labels.options
        frame = geometry.fit(shot.size, "aspect", options.short_side or clip.side, clip.patch)
        pixels = geometry.to_tensor(shot, frame.fitted)[None].to(segmenter.device, segmenter.dtype).repeat(batch, 1, 1, 1)
        found["CLIP vision"] = lambda: clip.model.vision_model(pixel_values=pixels, interpolate_pos_encoding=True)
    if "diffusion" in segmenter.networks and segmenter.recipe.graph is not None:
        sd, knobs = segmenter.networks["diffusion"], segmenter.recipe.graph.options
        side = knobs.size or sd.side
        half = (0.5, 0.5, 0.5)
        square = geometry.to_tensor(shot, (side, side), half, half)[None].to(segmenter.device, segmenter.dtype).repeat(batch, 1, 1, 1)
        latents = torch.randn(batch, 4, side // sd.shrink, side // sd.shrink, device=segmenter.device, dtype=segmenter.dtype)
        last = {path: sd.unet.get_submodule(path).to_k for path in sd.resolve(knobs.layers)}

        def up_to_the_last_layer() -> None:
            with capture.outputs_of(last, stop=True), capture.stop_once_complete():
                sd.unet(latents, torch.tensor([knobs.t], device=segmenter.device), encoder_hidden_states=sd.prompt.expand(batch, -1, -1))

        found["VAE encoder"] = lambda: sd.vae.encode(square)
        found["U-Net"] = up_to_the_last_layer
    return found


def best(work: Callable[[], Any], repeat: int, segmenter: Segmenter) -> tuple[float, Any]:
    """The fastest of some runs after one to warm up, and what it gave."""
    taken, result = float("inf"), None
    with torch.inference_mode():
        for number in range(repeat + 1):
            started = time.perf_counter()
            made = work()
            if segmenter.device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
            if number and seconds < taken:
                taken, result = seconds, made
    return taken, result


def memory(segmenter: Segmenter) -> str:
    """Peak memory, of the device where it is one."""
    if segmenter.device.type == "cuda":
        return f"Peak device memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB."
    return f"Peak resident memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB, weights included."


def machine(segmenter: Segmenter) -> str:
    """Where and how it ran."""
    where = torch.cuda.get_device_name() if segmenter.device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    recipe = dataclasses.asdict(segmenter.recipe.transition)
    return f"{where}, {str(segmenter.dtype).removeprefix('torch.')}, recipe {segmenter.recipe.name}, kernel {recipe['kernel']}."


if __name__ == "__main__":
    main()
