"""What the comparisons with the authors' own programs share: random weights of the real sizes, an image, stand-ins, the row.

Every script beside this one takes ``--clone DIR``, a clone of an author's repository at the commit that it names, imports the author's
modules from there, gives theirs and ours the same random weights, and prints Markdown rows. No line of theirs is here.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import math
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nerveseg.backbones.clip import Clip
from nerveseg.image import LoadedImage, load_image
from nerveseg.labels.base import Words

LIMIT = 1e-4  # of the largest logit: what passes
_VISION = {  # width, layers, patch, side, width of what images and words share
    "B/16": (768, 12, 16, 224, 512),
    "L/14": (1024, 24, 14, 224, 768),
    "L/14@336": (1024, 24, 14, 336, 768),
}
_TEXT = {"B/16": (512, 12), "L/14": (768, 12), "L/14@336": (768, 12)}
SIZES = tuple(_VISION)


@dataclass
class Rows:
    """Rows of the table, and whether all of them pass.

    Attributes:
        program: whose, with the commit.
        rows: method, sizes, what, largest difference / largest logit.
    """

    program: str
    rows: list[tuple[str, str, str, float]] = field(default_factory=list)

    def add(self, method: str, sizes: str, what: str, ours: Tensor, theirs: Tensor) -> None:
        """Compare, keep the row, print it."""
        self.put(method, sizes, what, difference(ours, theirs))

    def put(self, method: str, sizes: str, what: str, value: float) -> None:
        """Keep and print a row whose number is known."""
        self.rows.append((method, sizes, what, value))
        sys.stdout.write(f"| {method} | {self.program} | {sizes} | {what} | {value:.1e} |\n")
        sys.stdout.flush()

    def finish(self) -> None:
        """Leave with 1 where a row is above `LIMIT`."""
        sys.exit(int(any(not row[-1] <= LIMIT for row in self.rows)))


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference over the largest magnitude of theirs."""
    a, b = ours.detach().double().cpu(), theirs.detach().double().cpu()
    if a.shape != b.shape:
        sys.exit(f"Got ours of shape {tuple(a.shape)} and theirs of shape {tuple(b.shape)}. Accepted is one shape. Compare like with like.")
    return float((a - b).abs().max() / b.abs().max())


def unequal(ours: Tensor, theirs: Tensor) -> float:
    """Share of places at which two label maps differ."""
    return float((ours.cpu() != theirs.cpu()).double().mean())


def arguments(text: str | None, argv: Sequence[str] | None = None, **more: str) -> argparse.Namespace:
    """``--clone DIR`` and ``--seed``, and more by name with what they say; limits torch to two threads and turns gradients off."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clone", type=Path, required=True, help="a clone of the author's repository")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    for name, says in more.items():
        parser.add_argument(name, help=says)
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    torch.set_grad_enabled(False)
    return given


@contextlib.contextmanager
def theirs(clone: Path) -> Iterator[None]:
    """Inside, modules of the clone are found before any others."""
    path = str(clone.resolve())
    sys.path.insert(0, path)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(path)


def stand_in(name: str, **attributes: Any) -> types.ModuleType:
    """Put a module of that name, and its parents, into ``sys.modules``: what an author imports and the numbers do not need."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        full = ".".join(parts[:end])
        if full not in sys.modules:
            sys.modules[full] = types.ModuleType(full)
            sys.modules[full].__path__ = []  # type: ignore[attr-defined]
            if end > 1:
                setattr(sys.modules[".".join(parts[: end - 1])], parts[end - 1], sys.modules[full])
    module = sys.modules[name]
    for key, value in attributes.items():
        setattr(module, key, value)
    return module


class Numbers:
    """Scaled random values from one seed: features that differ between tokens, attention that is neither flat nor a single peak."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, std: float = 1.0) -> Tensor:
        """Around 0."""
        return torch.randn(shape, generator=self.generator).mul_(std)

    def linear(self, out: int, into: int, gain: float = 1.0) -> Tensor:
        """A matrix that keeps the variance of what goes in, times gain²."""
        return self.normal(out, into, std=gain / math.sqrt(into))

    def scale(self, width: int) -> Tensor:
        """Around 1: of a layer norm."""
        return 1 + self.normal(width, std=0.2)


def clip_state(size: str = "B/16", seed: int = 0, *, text: bool = False) -> dict[str, Tensor]:
    """A CLIP's tensors in the layout that OpenAI published.

    Args:
        size: one of `SIZES`.
        seed: of the values.
        text: the whole text tower; else one of a single block that nobody reads, to save memory.
    """
    draw = Numbers(seed)
    width, layers, patch, side, shared = _VISION[size]
    text_width, text_layers = _TEXT[size] if text else (64, 1)
    words = 49408 if text else 64
    state = {
        "visual.class_embedding": draw.normal(width, std=0.5),
        "visual.positional_embedding": draw.normal((side // patch) ** 2 + 1, width, std=0.5),
        "visual.conv1.weight": draw.linear(width, 3 * patch * patch).reshape(width, 3, patch, patch),
        "visual.proj": draw.normal(width, shared, std=width**-0.5),
        "text_projection": draw.normal(text_width, shared, std=text_width**-0.5),
        "token_embedding.weight": draw.normal(words, text_width, std=0.5),
        "positional_embedding": draw.normal(77, text_width, std=0.3),
        "logit_scale": torch.tensor(math.log(100.0)),
    }
    for name, wide in (("visual.ln_pre", width), ("visual.ln_post", width), ("ln_final", text_width)):
        state |= {f"{name}.weight": draw.scale(wide), f"{name}.bias": draw.normal(wide, std=0.1)}
    for i in range(layers):
        state |= _block(draw, f"visual.transformer.resblocks.{i}", width)
    for i in range(text_layers):
        state |= _block(draw, f"transformer.resblocks.{i}", text_width)
    return state


def _block(draw: Numbers, name: str, width: int) -> dict[str, Tensor]:
    # Queries and keys of gain 1.3: attention that is neither flat nor a single peak, as features are partly shared by all tokens.
    inner = torch.cat([draw.linear(width, width, 1.3), draw.linear(width, width, 1.3), draw.linear(width, width)])
    state = {f"{name}.attn.in_proj_weight": inner, f"{name}.attn.in_proj_bias": draw.normal(3 * width, std=0.1)}
    for part, out, into, gain in (
        ("attn.out_proj", width, width, 0.7),
        ("mlp.c_fc", 4 * width, width, 1.0),
        ("mlp.c_proj", width, 4 * width, 0.7),
    ):
        state |= {f"{name}.{part}.weight": draw.linear(out, into, gain), f"{name}.{part}.bias": draw.normal(out, std=0.1)}
    for part in ("ln_1", "ln_2"):
        state |= {f"{name}.{part}.weight": draw.scale(width), f"{name}.{part}.bias": draw.normal(width, std=0.1)}
    return state


_WITHIN = {
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
}
_OUTSIDE = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
}


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenAI's layout → transformers'."""
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        if name in _OUTSIDE:
            out[_OUTSIDE[name]] = value
        elif name in ("visual.proj", "text_projection"):
            out["visual_projection.weight" if name == "visual.proj" else "text_projection.weight"] = value.T.contiguous()
        else:
            found = re.fullmatch(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)", name)
            if found is None:
                continue
            block = f"{'vision' if found[1] else 'text'}_model.encoder.layers.{found[2]}"
            out |= _in_block(block, found[3], value)
    return out


def _in_block(block: str, part: str, value: Tensor) -> dict[str, Tensor]:
    if part.startswith("attn.in_proj_"):
        kind = part.removeprefix("attn.in_proj_")
        return {f"{block}.self_attn.{letter}_proj.{kind}": piece for letter, piece in zip("qkv", value.chunk(3), strict=True)}
    stem, _, kind = part.rpartition(".")
    return {f"{block}.{_WITHIN[stem]}.{kind}": value}


def our_clip(state: Mapping[str, Tensor], *, tokenizer: Any = None, activation: str = "quick_gelu") -> Clip:
    """The same tensors in our backbone; they are shared, not copied, where the layout allows."""
    from transformers.models.clip.configuration_clip import CLIPConfig
    from transformers.models.clip.modeling_clip import CLIPModel

    width, patch = state["visual.conv1.weight"].shape[0], state["visual.conv1.weight"].shape[-1]
    side = patch * math.isqrt(len(state["visual.positional_embedding"]) - 1)
    words, text_width = state["token_embedding.weight"].shape
    layers = {tower: len({name.split(".")[at] for name in state if name.startswith(f"{tower}.")}) for tower, at in _TOWERS.items()}
    vision = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers["visual.transformer.resblocks"]}
    vision |= {"num_attention_heads": width // 64, "image_size": side, "patch_size": patch, "hidden_act": activation}
    text = {"hidden_size": text_width, "intermediate_size": 4 * text_width, "num_hidden_layers": layers["transformer.resblocks"]}
    text |= {"num_attention_heads": max(1, text_width // 64), "vocab_size": words, "max_position_embeddings": 77, "hidden_act": activation}
    text |= {"bos_token_id": words - 2, "eos_token_id": words - 1, "pad_token_id": words - 1}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=state["visual.proj"].shape[1])
    with torch.device("meta"):
        model = CLIPModel(config)
    for module in model.modules():  # buffers are no part of the state
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, torch.arange(buffer.numel()).expand(1, -1), persistent=False)
    model.load_state_dict(renamed(state), assign=True)
    return Clip(model.eval().requires_grad_(requires_grad=False), tokenizer)


_TOWERS = {"visual.transformer.resblocks": 3, "transformer.resblocks": 2}


def words(width: int, groups: Sequence[int], others: int = 0, seed: int = 7) -> Words:
    """`Words` with random unit vectors: text is not what is compared."""
    draw = Numbers(seed)
    vectors = torch.nn.functional.normalize(draw.normal(len(groups) + others, width), dim=-1)
    names = tuple(f"word {i}" for i in range(len(vectors)))
    return Words(names[: len(groups)], tuple(groups), names[len(groups) :], vectors[: len(groups)], vectors[len(groups) :])


def as_words(vectors: Tensor, others: int = 0) -> Words:
    """`Words` of unit vectors, each a class of its own but for the last ``others``, which are the background's."""
    count = len(vectors) - others
    names = tuple(f"word {i}" for i in range(len(vectors)))
    return Words(names[:count], tuple(range(count)), names[count:], vectors[:count], vectors[count:])


def image(height: int, width: int, seed: int = 0) -> LoadedImage:
    """An image with what photographs have: shades, edges, textures and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    field_ = (
        torch.nn.functional.interpolate(
            torch.from_numpy(rng.uniform(30, 220, (1, 3, 4, 5))), size=(height, width), mode="bicubic", align_corners=False
        )[0]
        .permute(1, 2, 0)
        .numpy()
    )
    for _ in range(9):
        at, radius = rng.uniform(0, 1, 2) * (height, width), rng.uniform(0.06, 0.25) * min(height, width)
        inside = ((y - at[0]) / rng.uniform(0.6, 1.6)) ** 2 + (x - at[1]) ** 2 < radius**2
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, 30)
        stripes = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period) * rng.uniform(0, 50)
        field_[inside] = rng.uniform(10, 245, 3) + stripes[inside][:, None]
    return load_image(np.clip(field_ + rng.normal(0, 6, field_.shape), 0, 255).astype(np.uint8))


def tokenizer(folder: Path, merges: Path) -> Any:
    """Our CLIP tokenizer from the file of merges that the authors' clones carry (``bpe_simple_vocab_16e6.txt.gz``)."""
    import gzip
    import json

    from transformers.convert_slow_tokenizer import bytes_to_unicode
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    pairs = gzip.decompress(merges.read_bytes()).decode("utf-8").split("\n")[1 : 49152 - 256 - 2 + 1]
    letters = list(bytes_to_unicode().values())
    entries = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair.split()) for pair in pairs)]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({entry: i for i, entry in enumerate(entries)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(pairs) + "\n", "utf-8")
    marks = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**marks, "model_max_length": 77}), "utf-8")
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
