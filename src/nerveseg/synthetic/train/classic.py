"""A tiny CLIP that is trained as its elders were: by its class token and captions alone, on the second world.

Two losses, and neither sees a patch. *Contrast*: of all captions of the batch, and of each caption with one thing in it changed, the
image picks its own; and each caption its image. *Words*: a sigmoid for each name of the world, told or not told by the caption, so
that what a batch holds by chance does not decide what is learnt. What patches know of labels they know by the class token's attention.

Half of the patches are left out at random until the last fifth of the training, which is nearly twice as many images in the same time
(FLIP, arXiv 2212.00794).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.clip.configuration_clip import CLIPConfig
from transformers.models.clip.modeling_clip import CLIPModel

from nerveseg.synthetic import captions, scenes
from nerveseg.synthetic.names import NAMES, THINGS
from nerveseg.synthetic.train import loop, tokenizer
from nerveseg.synthetic.train.clip import dense, embed_words, groups, normalised

__all__ = ["WORLD", "build", "losses", "train", "watch"]

WORLD = 2
TEMPLATES = ("{}", "a {}", "a photo of a {}", "a picture of a {}", "a picture of a {}", "a drawing of a {}", "a scene with a {}")

_SMALL = ((96, 96), (96, 128), (128, 96), (112, 112), (128, 128))
_LARGE = ((160, 160), (128, 192), (192, 128), (192, 192), (160, 224))
_LARGE_FROM = 0.3  # share of the training after which every other batch holds large images
_TOKENS = 6400  # vision tokens in a batch
_KEPT, _ALL_FROM = 0.5, 0.8
_RATE = 1e-3


def build(words: int) -> CLIPModel:
    """An untrained CLIP of about 3.5 M parameters: patch 8, width 192, 8 blocks; text 2 × 128."""
    text = {
        "vocab_size": words,
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": tokenizer.CONTEXT,
        "bos_token_id": words - 2,
        "eos_token_id": words - 1,
        "pad_token_id": words - 1,
    }
    vision = {
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 8,
        "num_attention_heads": 6,
        "image_size": 160,
        "patch_size": 8,
    }
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=128, logit_scale_init_value=2.6592)
    return CLIPModel._from_config(config, attn_implementation="eager")


class _Bias(nn.Module):
    """The offset of the words' sigmoid, which training alone needs: most names are absent from most images."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(-4.0))


def train(folder: Path, minutes: float) -> None:
    """Train for ``minutes`` in all, and save the averaged weights and the tokenizer under ``folder``/classic."""
    torch.manual_seed(3)
    words = tokenizer.save(folder / "classic", WORLD)
    model, offset = build(len(words)), _Bias()
    ema = loop.Ema(model, 0.9985)
    optimiser = torch.optim.AdamW([*groups(model), {"params": list(offset.parameters()), "weight_decay": 0.0}], lr=_RATE, betas=(0.9, 0.98))
    small, large = loop.cycle(_SMALL, 1), loop.cycle(_LARGE, 2)

    def step(number: int, progress: float) -> dict[str, float]:
        grown = progress > _LARGE_FROM and number % 2 == 1
        size = next(large) if grown else next(small)
        kept = 1.0 if progress > _ALL_FROM else _KEPT
        count = max(8, int(_TOKENS / (kept * size[0] * size[1] / 64)))
        batch = loop.images(number * 128, min(count, 128), size, (1, 5) if grown else (1, 3), WORLD)
        for group in optimiser.param_groups:
            group["lr"] = loop.learning_rate(_RATE, progress, number, warmup=400)
        parts = losses(model, offset.bias, words, batch, number, kept)
        optimiser.zero_grad()
        sum(parts.values(), torch.zeros(())).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=4.0)
        ema.update(model)
        return {name: float(loss.detach()) for name, loss in parts.items()}

    state = {"model": model, "offset": offset, "ema": ema, "optimiser": optimiser}
    loop.train(folder / "classic-run", state, step, minutes, lambda: watch(model, words, ema))
    model.load_state_dict(ema.average)
    model.save_pretrained(folder / "classic")


def losses(
    model: CLIPModel, bias: Tensor, words: tokenizer.CLIPTokenizer, batch: list[scenes.Scene], number: int, kept: float
) -> dict[str, Tensor]:
    """The two losses of a batch; of a scene only the image, the captions and the names that the caption tells are read.

    Args:
        model: see `build`.
        bias: offset of the words' sigmoid.
        words: the tokenizer.
        batch: scenes of one size.
        number: of the step; seeds what is drawn.
        kept: share of the patches that the tower sees.
    """
    generator = torch.Generator().manual_seed(number)
    pixels, told, _ = loop.words_of(batch)
    with torch.autocast("cpu", torch.bfloat16):
        images = _class_tokens(model, normalised(pixels), kept, generator)
        texts = embed_words(model, words, [*told, *(scene.foil for scene in batch), *_named(generator)])
    scale = model.logit_scale.exp()
    logits = scale * images @ texts[: 2 * len(batch)].T
    target = torch.arange(len(batch))
    contrast = (F.cross_entropy(logits, target) + F.cross_entropy(logits[:, : len(batch)].T, target)) / 2
    present = torch.tensor([[name in scene.told for name in NAMES] for scene in batch], dtype=torch.float32)
    each = F.binary_cross_entropy_with_logits(scale * images @ texts[2 * len(batch) :].T + bias, present, reduction="none")
    # What is there and is not told may not count as absent: a caption keeps silent about it, and so does the loss.
    silent = torch.tensor([[name in scene.names and name not in scene.told for name in NAMES] for scene in batch])
    return {"contrast": contrast, "words": each.masked_fill(silent, 0.0).sum(1).mean() / 2}


def _class_tokens(model: CLIPModel, pixels: Tensor, kept: float, generator: torch.Generator) -> Tensor:
    tower: Any = model.vision_model
    x = tower.pre_layrnorm(tower.embeddings(pixels, interpolate_pos_encoding=True))
    if kept < 1:
        n = x.shape[1] - 1
        chosen = torch.rand(len(x), n, generator=generator).topk(max(1, round(kept * n)), dim=1).indices
        x = torch.cat([x[:, :1], x[:, 1:].gather(1, chosen[..., None].expand(-1, -1, x.shape[2]))], 1)
    for block in tower.encoder.layers:
        x = block(x, None)
    return F.normalize(model.visual_projection(tower.post_layernorm(x[:, 0])).float(), dim=-1)


def _named(generator: torch.Generator) -> list[str]:
    """Every name in a sentence, now and then by a synonym."""
    template = TEMPLATES[int(torch.randint(len(TEMPLATES), (), generator=generator))]
    chance = torch.rand(len(NAMES), 2, generator=generator).tolist()
    nouns = []
    for name, (often, which) in zip(NAMES, chance, strict=True):
        others = captions.SYNONYMS.get(name, ())
        nouns.append(others[int(which * len(others))] if others and often < 0.25 else name)
    return [template.format(noun) for noun in nouns]


@torch.no_grad()
def watch(model: CLIPModel, words: tokenizer.CLIPTokenizer, ema: loop.Ema, count: int = 64) -> dict[str, float]:
    """Numbers to look at, which no step of the training sees, on validation scenes.

    Returns:
        ``retrieval``: images that pick their own caption out of ``count``; ``foils``: that prefer it to its foil; ``words``: average
        precision of the names by the class token; ``patches_right`` and ``thing_patches_right``: under the value path, among the names
        that the scene holds and eight others.
    """
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(ema.average)
    held = [scenes.render("val", index, world=WORLD) for index in range(count)]
    classes = embed_words(model, words, [f"a photo of a {name}" for name in NAMES])
    told = embed_words(model, words, [scene.caption for scene in held])
    foils = embed_words(model, words, [scene.foil for scene in held])
    images, right, things_right, things, total = [], 0, 0, 0, 0
    for index, scene in enumerate(held):
        pixels = torch.from_numpy(scene.image.copy()).permute(2, 0, 1)[None].float() / 255
        whole, patches = dense(model, normalised(pixels))
        images.append(whole[0])
        offered = _offered(scene, index)
        guess = torch.tensor(offered)[(patches[0] @ classes[offered].T).argmax(-1)]
        truth = torch.from_numpy(scene.mask[4::8, 4::8].astype(int)).flatten()
        thing = truth < len(THINGS)
        right, total = right + int((guess == truth).sum()), total + truth.numel()
        things_right, things = things_right + int((guess == truth)[thing].sum()), things + int(thing.sum())
    seen = torch.stack(images)
    model.load_state_dict(kept)
    return {
        "retrieval": float(((seen @ told.T).argmax(1) == torch.arange(count)).float().mean()),
        "foils": float(((seen * told).sum(1) > (seen * foils).sum(1)).float().mean()),
        "words": _precision(seen @ classes.T, torch.tensor([[name in scene.told for name in NAMES] for scene in held])),
        "patches_right": right / total,
        "thing_patches_right": things_right / max(things, 1),
    }


def _offered(scene: scenes.Scene, index: int) -> list[int]:
    others = torch.randperm(len(NAMES), generator=torch.Generator().manual_seed(index)).tolist()
    present = [NAMES.index(name) for name in scene.names]
    return [*present, *[i for i in others if i not in present][:8]]


def _precision(scores: Tensor, true: Tensor) -> float:
    """Mean average precision over images."""
    hits = true.gather(1, scores.argsort(1, descending=True)).float()
    at = hits.cumsum(1) / torch.arange(1, hits.shape[1] + 1)
    return float(((at * hits).sum(1) / hits.sum(1).clamp_min(1)).mean())
