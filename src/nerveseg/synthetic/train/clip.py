"""The tiny CLIP, trained from captions alone.

Three losses, all fed by images and the words of their captions: the contrastive loss of CLIP on the class token; *presence*: the surest
patches of an image must carry each of its words; *membership*: every patch must carry one of its words, whichever. The last two read the
dense path that segmentation reads later (the value path of the last block), so the dense path is trained, and no mask is ever seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.clip.configuration_clip import CLIPConfig
from transformers.models.clip.modeling_clip import CLIPModel

from nerveseg.synthetic import scenes
from nerveseg.synthetic.names import NAMES
from nerveseg.synthetic.train import loop, tokenizer

__all__ = ["build", "dense", "embed_words", "groups", "losses", "normalised", "train"]

TEMPLATES = ("{}", "a {}", "a photo of a {}", "a picture of a {}", "a picture of a {}", "a drawing of a {}", "a scene with a {}")

_SMALL = ((64, 64), (64, 64), (64, 80), (80, 64), (48, 64), (64, 48))
_LARGE = ((96, 96), (128, 128), (96, 128), (128, 96), (128, 160), (160, 128), (128, 192), (144, 144))
_LARGE_FROM = 0.6  # share of the training after which every other batch holds large images
_TOKENS = 3600  # vision tokens in a batch
_SUREST = 10  # patches that must carry a word of the caption: about the solid part of the smallest thing


def build(words: int) -> CLIPModel:
    """An untrained CLIP of about 3.3 M parameters: patch 8, width 192, 6 blocks; text 2 × 128."""
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
        "intermediate_size": 640,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "image_size": 128,
        "patch_size": 8,
    }
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=128, logit_scale_init_value=2.6592)
    # The fused attention's backward takes half of a step at so few tokens; plain products take a tenth.
    return CLIPModel._from_config(config, attn_implementation="eager")


def dense(model: CLIPModel, pixels: Tensor, layer: int | None = None) -> tuple[Tensor, ...]:
    """Unit embeddings of the image (B, D), by the class token, and of its patches (B, n, D), by the last block's value path.

    Args:
        model: see `build`.
        pixels: normalised as CLIP's.
        layer: also read the patches of this earlier block's input, normalised by its own LN1, through the same value path.
    """
    tower: Any = model.vision_model
    x = tower.pre_layrnorm(tower.embeddings(pixels, interpolate_pos_encoding=True))
    *blocks, last = tower.encoder.layers
    early = []
    for place, block in enumerate(blocks):
        if place == layer:
            early = [block.layer_norm1(x)]
        x = block(x, None)
    image = tower.post_layernorm(last(x, None)[:, 0])
    values = (last.self_attn.out_proj(last.self_attn.v_proj(last.layer_norm1(y))) for y in (x, *early))
    patches = (tower.post_layernorm(y[:, 1:]) for y in values)
    return tuple(F.normalize(model.visual_projection(y).float(), dim=-1) for y in (image, *patches))


def train(folder: Path, minutes: float) -> None:
    """Train for ``minutes`` in all, and save the averaged weights, the tokenizer and the list of trained words under ``folder``/clip."""
    torch.manual_seed(1)
    words = tokenizer.save(folder / "clip")
    model = build(len(words))
    ema = loop.Ema(model, 0.9985)
    optimiser = torch.optim.AdamW(groups(model), lr=1e-3, betas=(0.9, 0.98))
    small, large = loop.cycle(_SMALL, 1), loop.cycle(_LARGE, 2)

    def step(number: int, progress: float) -> dict[str, float]:
        size = next(large) if progress > _LARGE_FROM and number % 2 else next(small)
        count = max(8, _TOKENS // (size[0] * size[1] // 64))
        batch = loop.images(number * 128, count, size, (0, 2) if size[0] * size[1] < 8000 else (1, 4))
        optimiser.param_groups[0]["lr"] = optimiser.param_groups[1]["lr"] = loop.learning_rate(1.2e-3, progress, number)
        parts = losses(model, words, batch, number)
        optimiser.zero_grad()
        sum(parts.values(), torch.zeros(())).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=4.0)
        ema.update(model)
        return {name: float(loss.detach()) for name, loss in parts.items()}

    loop.train(folder / "clip-run", {"model": model, "ema": ema, "optimiser": optimiser}, step, minutes, lambda: watch(model, words, ema))
    model.load_state_dict(ema.average)
    model.save_pretrained(folder / "clip")


def losses(model: CLIPModel, words: tokenizer.CLIPTokenizer, batch: list[scenes.Scene], number: int) -> dict[str, Tensor]:
    """The three losses of a batch; of a scene only the image, the caption and the caption's names are read."""
    pixels, captions, names = loop.words_of(batch)
    template = TEMPLATES[number % len(TEMPLATES)]
    layer = 1 + number // 2 % (len(model.vision_model.encoder.layers) - 2)
    with torch.autocast("cpu", torch.bfloat16):
        images, *depths = dense(model, normalised(pixels), layer)
        texts = embed_words(model, words, [*captions, *(template.format(name) for name in NAMES)])
    told, classes = texts[: len(captions)], texts[len(captions) :]
    scale = model.logit_scale.exp()
    logits = scale * images @ told.T
    target = torch.arange(len(batch))
    contrast = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    present = torch.zeros(len(batch), len(NAMES))
    for row, held in enumerate(names):
        present[row, [NAMES.index(name) for name in held]] = 1
    # The last block's input counts in full, an earlier one by half: early-layer fusion reads them all.
    parts = [_dense_losses((scale * patches @ classes.T).log_softmax(-1), present) for patches in depths]
    shares = [1.0, 0.5][: len(parts)]
    member, presence = (torch.stack([w * part[i] for w, part in zip(shares, parts, strict=True)]).sum() / sum(shares) for i in (0, 1))
    return {"contrast": 0.3 * contrast, "member": member, "presence": presence}


def _dense_losses(labels: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Membership and presence of log-probabilities (B, n, C) under the names that the captions hold (B, C)."""
    member = -(labels + (present - 1)[:, None] * 1e4).logsumexp(-1).mean()
    surest = labels.topk(_SUREST, dim=1).values.exp().mean(1).clamp_min(1e-6).log()
    return member, -(surest * present).sum() / present.sum()


def embed_words(model: CLIPModel, words: tokenizer.CLIPTokenizer, strings: list[str]) -> Tensor:
    """Unit text embeddings (s, D)."""
    tokens = words(strings, padding=True, truncation=True, return_tensors="pt")
    out = model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
    return F.normalize(model.text_projection(out.pooler_output).float(), dim=-1)


def normalised(pixels: Tensor) -> Tensor:
    """Give pixels (B, 3, H, W) in [0, 1] the mean and the deviation that CLIPs expect."""
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    return (pixels - mean[:, None, None]) / std[:, None, None]


def groups(model: nn.Module) -> list[dict[str, object]]:
    """Part the weights that decay from those that do not."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    return [{"params": decayed, "weight_decay": 0.05}, {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0}]


@torch.no_grad()
def watch(model: CLIPModel, words: tokenizer.CLIPTokenizer, ema: loop.Ema, count: int = 48) -> dict[str, float]:
    """Patch accuracy over all names on validation scenes: a number to look at, which no step of the training sees."""
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(ema.average)
    classes = embed_words(model, words, [f"a photo of a {name}" for name in NAMES])
    right = total = things_right = things = 0
    for index in range(count):
        scene = scenes.render("val", index)
        pixels = torch.from_numpy(scene.image.copy()).permute(2, 0, 1)[None].float() / 255
        guess = (dense(model, normalised(pixels))[1][0] @ classes.T).argmax(-1)
        truth = torch.from_numpy(scene.mask[4::8, 4::8].astype(int)).flatten()
        thing = truth < len(NAMES) - 8
        right, total = right + int((guess == truth).sum()), total + truth.numel()
        things_right, things = things_right + int((guess == truth)[thing].sum()), things + int(thing.sum())
    model.load_state_dict(kept)
    return {"patches_right": right / total, "thing_patches_right": things_right / max(things, 1)}
