"""NERVE, flat: one image and some words → one label a pixel, to be read from top to bottom.

    python examples/nerve_in_200_lines.py IMAGE "dog, grass, sky" [ids.png]

Everything that happens, happens in this file, with torch and the model classes of transformers and diffusers. Of the package it takes data
only: the knobs of the recipe ``mini``, the sentences around words, the folder of the embedded pair. A test holds it equal to the package.
What it leaves out is what makes the package general and fast: other label sources and kernels, backgrounds and decision rules, walks
without an n × n matrix. Numbers in brackets are equations of arXiv 2511.08248; n tokens, C classes, H heads of width d.
"""

from __future__ import annotations

import itertools
import math
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from nerveseg import recipe as recipes
from nerveseg.words.prompts import TEMPLATES, fill

Knobs = dict[str, dict[str, Any]]
# The choices of a recipe that this file can follow; others need the package.
SHOWN = {"labels.name": ["maskclip"], "labels.window": [0], "calibration.name": ["none", "z_score"], "graph.name": ["stable_diffusion"]}
SHOWN |= {"kernel.name": ["exp", "power", "softmax"], "transition.weights": ["entropy"], "transition.keep": [None]}
SHOWN |= {"walk.name": ["infinite"], "masks.name": ["argmax"], "masks.min_area": [0], "refiner.name": ["none"]}


def knobs_of(recipe: str) -> Knobs:
    """Every knob of a recipe, after a look at whether this file can follow it."""
    knobs = tomllib.loads(recipes.load(recipe).to_toml())
    split = {where: where.split(".") for where in SHOWN}
    strange = [where for where, (table, name) in split.items() if knobs[table].get(name) not in SHOWN[where]]
    return sys.exit(f"Got {strange} in the recipe {recipe}. Accepted are {SHOWN}. Use the package.") if strange else knobs


def pixels(image: Image.Image, side: int, multiple: int, mean: Any, deviation: Any, *, square: bool = False) -> Tensor:
    """(1, 3, h, w), normalised: the shorter side becomes ``side`` (in a square both do), each rounded to a multiple."""
    scales = [side / (length if square else min(image.size)) for length in image.size]
    width, height = (max(1, int(length * scale / multiple + 0.5)) * multiple for length, scale in zip(image.size, scales, strict=True))
    rgb = np.array(image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC))
    scaled = torch.from_numpy(rgb).permute(2, 0, 1).float() / 255
    return ((scaled - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1))[None]


def word_vectors(clip: Any, tokenizer: Any, words: list[str], templates: str) -> Tensor:
    """(C, E), one unit vector a word: the mean over the sentences that it is set into."""
    vectors: list[Tensor] = []
    for word in words:
        tokens = tokenizer([fill(template, word) for template in TEMPLATES[templates]], padding=True, return_tensors="pt")
        pooled = clip.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).pooler_output
        vectors.append(F.normalize(F.normalize(clip.text_projection(pooled), dim=-1).mean(0), dim=-1))
    return torch.stack(vectors)


def class_scores(clip: Any, text: Tensor, image: Image.Image, o: dict[str, Any]) -> Tensor:
    """(C, h, w) on CLIP's grid: softmax over the words, each patch speaking for itself – the last block's value path alone (MaskCLIP)."""
    tower, config = clip.vision_model, clip.config.vision_config
    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training images
    x = pixels(image, o["short_side"] or config.image_size, config.patch_size, mean, deviation)
    patches, places = tower.embeddings.patch_embedding(x), tower.embeddings.position_embedding.weight
    side, grid = math.isqrt(len(places) - 1), patches.shape[2:]
    spread = places[1:].T.unflatten(1, (side, side))[None]
    spread = spread if grid == (side, side) else F.interpolate(spread, size=grid, mode=o["positions"], align_corners=False)
    first = tower.embeddings.class_embedding + places[0]
    x = tower.pre_layrnorm(torch.cat([first.expand(1, 1, -1), (patches + spread).flatten(2).mT], 1))
    *blocks, last = tower.encoder.layers
    for block in blocks:
        x = block(x, None)
    y = last.self_attn.out_proj(last.self_attn.v_proj(last.layer_norm1(x)))
    y = x + y if o["residual"] else y
    y = y + last.mlp(last.layer_norm2(y)) if o["ffn"] else y
    vectors = F.normalize(clip.visual_projection(tower.post_layernorm(y))[0, 1:], dim=-1)
    return (o["scale"] * vectors @ text.T).softmax(-1).T.unflatten(1, grid)


def generation(s: Tensor, grid: tuple[int, int], o: dict[str, Any]) -> Tensor:
    """G (n, C + 1) on the graph's grid: classes and ``rest``, rows sum to 1 (11); then the recipe's calibration of the rows."""
    s = (F.interpolate(s[None], size=grid, mode="bilinear", align_corners=False)[0] if s.shape[1:] != grid else s).flatten(1).T
    s = s / s.sum(1).max().clamp_min(1)
    rest = (1 - s.sum(1, keepdim=True)).clamp_min(0)
    if o["name"] == "none":
        return torch.cat([s, rest], 1)
    classes = torch.cat([s, rest], 1) if o["rest"] == "class" else s
    q = classes.amax(0)  # how strongly a class shows at all
    deviation, mean = torch.std_mean(classes, dim=0, correction=0)
    z = torch.where(deviation > 1e-6 * q, (classes - mean) / deviation.clamp_min(1e-30), torch.zeros_like(classes))
    rows = (o["gain"] * z * q.pow(o["score_power"]) + o["log_score"] * q.clamp_min(1e-30).log()).masked_fill(q <= 0, -torch.inf).softmax(1)
    return rows if o["rest"] == "class" else torch.cat([rows * (1 - rest), rest], 1)


def attention_heads(folder: Path, image: Image.Image, o: dict[str, Any]) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Q, K (H, n, d) of the chosen self-attention layers: the image's latents, noised to step t, in one pass of the U-Net."""
    vae: Any = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval()
    unet: Any = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32).eval()
    tower: Any = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    empty = tokenizer("", padding="max_length", max_length=tower.config.max_position_embeddings, return_tensors="pt")["input_ids"]
    shrink = 2 ** (len(vae.config.block_out_channels) - 1)
    multiple = shrink * 2 ** (len(unet.config.block_out_channels) - 1)
    x = pixels(image, o["size"] or shrink * unet.config.sample_size, multiple, [0.5] * 3, [0.5] * 3, square=o["fit"] == "square")
    latents = vae.encode(x).latent_dist.mode() * vae.config.scaling_factor
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(o["seed"]))
    scheduler: Any = DDPMScheduler.from_pretrained(folder / "scheduler")
    noised = scheduler.add_noise(latents, noise, torch.tensor([o["t"]]))
    order = ("down_blocks", "mid_block", "up_blocks")  # in which a pass reaches them
    names = sorted((name for name, _ in unet.named_modules() if name.endswith(".attn1")), key=lambda name: order.index(name.split(".")[0]))
    layers = [unet.get_submodule(names[place]) for place in o["layers"]]
    seen: dict[tuple[str, int], Tensor] = {}
    for part, place in itertools.product(("to_q", "to_k"), range(len(layers))):
        getattr(layers[place], part).register_forward_hook(lambda _module, _given, out, key=(part, place): seen.update({key: out[0]}))
    unet(noised, o["t"], encoder_hidden_states=tower(input_ids=empty).last_hidden_state)
    heads = {key: out.unflatten(-1, (layers[key[1]].heads, -1)).transpose(0, 1) for key, out in seen.items()}
    Q, K = (torch.cat([heads[part, place] for place in range(len(layers))]) for part in ("to_q", "to_k"))
    cell = math.isqrt(latents.shape[2] * latents.shape[3] // Q.shape[1])
    return Q, K, (latents.shape[2] // cell, latents.shape[3] // cell)


def transition(Q: Tensor, K: Tensor, grid: tuple[int, int], G: Tensor, o: dict[str, Any], kernel: dict[str, Any]) -> Tensor:
    """S (n, n), row-stochastic, multiplies from the left: heads weighed by the certainty of one step, global and local graph blended."""
    n, sides = len(G), {"q": Q, "k": K}
    A, B = (sides[letter] for letter in o["pairing"])
    cosines = F.normalize(A, dim=2) @ F.normalize(B, dim=2).mT
    # The global graph (8), by a kernel that is never negative: exp(τ·cos), cos^p over the positive cosines, or attention itself (7).
    logits = {"exp": cosines, "power": cosines.clamp_min(1e-30).log(), "softmax": A @ B.mT / math.sqrt(A.shape[2])}[kernel["name"]]
    sharpness = torch.full((len(Q),), kernel.get("tau", kernel.get("power", 1 / kernel.get("temperature", 1))))
    if "neighbours" in o:
        sharpness = solved(logits[:, :: stride(grid, 128)], o["neighbours"])
    spread = (sharpness[:, None, None] * logits).softmax(2)
    # Head weights: the mean entropy of one global step Y, on evenly strided rows (12-14).
    Y = spread[:, :: stride(grid, max(256, math.ceil(o["entropy_share"] * n)))] @ G
    weights = torch.softmax(o["peakedness"] * torch.xlogy(Y, Y).sum(2).mean(1), 0)
    # The local graph: the eight neighbours, and staying in place (9).
    y, x = torch.arange(n) // grid[1], torch.arange(n) % grid[1]
    near = ((y[:, None] - y).abs() <= 1) & ((x[:, None] - x).abs() <= 1)
    local = cosines.clamp_min(0).pow(o["local_power"]) * near * (1 - torch.eye(n)) + o["stay"] * torch.eye(n)
    blend = o["beta"] * spread + (1 - o["beta"]) * local / local.sum(2, keepdim=True)
    return (weights[:, None, None] * blend).sum(0)  # (10, 15)


def stride(grid: tuple[int, int], count: int) -> int:
    """Which rows an estimate looks at: about ``count`` of them, not all in the same few columns."""
    step = max(1, grid[0] * grid[1] // count)
    return next(some for some in itertools.count(step) if math.gcd(some, grid[1]) == 1)


def solved(logits: Tensor, neighbours: float) -> Tensor:
    """The sharpness of each head at which a row's perplexity is, in the mean, this share of the tokens: bisection on its logarithm."""
    low, high = torch.full((len(logits),), -7.0), torch.full((len(logits),), 9.0)
    for _ in range(30):
        middle = (low + high) / 2
        rows = (middle.exp()[:, None, None] * logits).softmax(2)
        flat = torch.xlogy(rows, rows).sum(2).neg().exp().mean(1) > neighbours * logits.shape[2]
        low, high = torch.where(flat, middle, low), torch.where(flat, high, middle)
    return ((low + high) / 2).exp()


def walk(S: Tensor, G: Tensor, alpha: float, tolerance: float) -> tuple[Tensor, int, float]:
    """P = (1 − α)(I − αS)⁻¹G (3), by P ← (1 − α)G + αSP (19) until no row can be farther than the tolerance from the limit, in L1."""
    P, steps, bound = G, 0, 2.0
    while bound > tolerance:
        after = (1 - alpha) * G + alpha * (S @ P)
        bound = float((after - P).abs().sum(1).max()) * alpha / (1 - alpha)
        P, steps = after, steps + 1
    return P, steps, bound


@torch.inference_mode()
def nerve(image: Image.Image, words: list[str], pair: Path, knobs: Knobs) -> tuple[Tensor, Tensor, Tensor]:
    """Ids (H, W) in the order of the words; P and G (n, C + 1) on the token grid."""
    clip: Any = CLIPModel.from_pretrained(pair / "clip", dtype=torch.float32).eval()
    text = word_vectors(clip, CLIPTokenizer.from_pretrained(pair / "clip"), words, knobs["words"]["templates"])
    Q, K, grid = attention_heads(pair / "diffusion", image, knobs["graph"])
    G = generation(class_scores(clip, text, image, knobs["labels"]), grid, knobs["calibration"])
    S = transition(Q, K, grid, G, knobs["transition"], knobs["kernel"])
    P, steps, bound = walk(S, G, knobs["walk"]["alpha"], 0.1 * knobs["walk"]["tolerance"])
    print(f"{len(P)} tokens, {len(Q)} heads, {steps} steps, every row within {bound:.1e} of the infinite walk")
    maps = P[:, :-1].T.unflatten(1, grid)[None]  # without rest: every pixel gets one of the words
    return F.interpolate(maps, size=image.size[::-1], mode="bilinear", align_corners=False)[0].argmax(0), P, G


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    given = [word.strip() for word in sys.argv[2].split(",")]
    ids, _, _ = nerve(Image.open(sys.argv[1]).convert("RGB"), given, Path(str(files("nerveseg"))) / "weights/embedded", knobs_of("mini"))
    for number, word in enumerate(given):
        print(f"{(ids == number).float().mean():7.1%}  {word}")
    Image.fromarray((ids * (255 // len(given))).byte().numpy()).save([*sys.argv, "ids.png"][3])
