"""SCLIP and the programs that build on it: the stand-ins for what they import, their way with an image, ours beside it.

They run inside MMSegmentation, of which the numbers need the reading of an image alone: OpenCV's bilinear resizing of 8-bit colours,
the shorter side to a length, then CLIP's mean and deviation. OpenCV does it here where it is installed; else our own copy of its rounding.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import _shared
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nerveseg import recipe as recipes
from nerveseg.backbones.clip import Clip
from nerveseg.image import LoadedImage
from nerveseg.image.geometry import CLIP_MEAN, CLIP_STD
from nerveseg.labels import _windows
from nerveseg.masks.upsample import resample
from nerveseg.segmenter import Segmenter

MEAN, STD = (122.771, 116.746, 104.094), (68.501, 66.632, 70.323)  # as the programs give them to MMSegmentation
SIZES = ((375, 500), (480, 640), (500, 333), (336, 336))  # none but the last has sides that end on patches after resizing


class Worded(Clip):
    """A CLIP whose words are given as vectors, so that text is not what is compared."""

    vectors: dict[str, Tensor]

    def text(self, strings: Any, templates: Any = ("{}",), *, batch: int = 256) -> Tensor:
        """The vectors of the strings."""
        return torch.stack([self.vectors[string] for string in strings])

    def unknown(self, strings: Any) -> tuple[str, ...]:
        """None."""
        return ()

    def truncated(self, strings: Any, templates: Any = ("{}",)) -> tuple[str, ...]:
        """None."""
        return ()


def worded(clip: Clip, vectors: dict[str, Tensor]) -> Worded:
    """A CLIP with vectors for words."""
    made = Worded(clip.model, clip.tokenizer)
    object.__setattr__(made, "vectors", vectors)
    return made


@dataclass
class Vocabulary:
    """Strings of classes and of the background with their vectors, in both orders: theirs has the background first, ours last.

    Attributes:
        classes: strings of each class.
        background: strings of the background; none: there is no background.
        vectors: string → unit vector.
    """

    classes: list[list[str]]
    background: list[str]
    vectors: dict[str, Tensor]

    @property
    def theirs(self) -> tuple[Tensor, Tensor]:
        """Rows and the class of each."""
        groups = ([self.background] if self.background else []) + self.classes
        rows = torch.stack([self.vectors[string] for group in groups for string in group])
        return rows, torch.tensor([at for at, group in enumerate(groups) for _ in group])

    @property
    def order(self) -> list[int]:
        """Places of our strings (classes, then background) among theirs."""
        first = len(self.background)
        count = sum(len(group) for group in self.classes)
        return [*range(first, first + count), *range(first)]

    def renumbered(self, ids: Tensor) -> Tensor:
        """Our label ids in their numbers."""
        return (ids + 1) % (len(self.classes) + 1) if self.background else ids


def vocabulary(features: Tensor, counts: Sequence[int], background: int, seed: int = 3) -> Vocabulary:
    """Strings whose vectors point to where some tokens differ from the others, so that an image gets many labels.

    Args:
        features: unit rows of some tokens.
        counts: strings of each class.
        background: strings of the background.
        seed: of the choice.
    """
    draw = _shared.Numbers(seed)
    number = sum(counts) + background
    chosen = torch.randperm(len(features), generator=draw.generator)[:number]
    rows = features[chosen] - features.mean(0) + draw.normal(number, features.shape[1], std=0.01)
    rows = F.normalize(rows, dim=-1)
    names = [f"word {i}" for i in range(number)]
    vectors = dict(zip(names, rows, strict=True))
    classes, at = [], 0
    for count in counts:
        classes.append(names[at : at + count])
        at += count
    return Vocabulary(classes, names[at:], vectors)


class _Data:
    def __init__(self, data: Tensor) -> None:
        self.data = data


class _Segmentor(nn.Module):
    def __init__(self, **_: Any) -> None:
        super().__init__()


class _Registry:
    @staticmethod
    def register_module() -> Callable[[Any], Any]:
        return lambda found: found


def _nothing(*_: Any, **__: Any) -> None:
    return None


def stand_ins() -> None:
    """MMSegmentation, MMEngine, and what OpenAI's ``clip.py`` imports for its own way with images."""
    for name in ("modeling_clip", "tokenization_clip"):  # they look for torchvision, before there is a stand-in
        importlib.import_module(f"transformers.models.clip.{name}")
    _shared.stand_in("mmengine.structures", PixelData=_Data)
    _shared.stand_in("mmseg.registry", MODELS=_Registry)
    _shared.stand_in("mmseg.models.segmentors", BaseSegmentor=_Segmentor)
    _shared.stand_in("mmseg.models.data_preprocessor", SegDataPreProcessor=_nothing)
    torchvision()
    version = _shared.stand_in("pkg_resources", packaging=_shared.stand_in("nerveseg_packaging"))
    version.packaging.version = _shared.stand_in("nerveseg_packaging.version", parse=lambda text: tuple(text.split(".")[:1]))
    for name, parts in (("cv2", {}), ("einops", {"rearrange": lambda x, _, w, h: x.mT.reshape(len(x), -1, w, h)})):
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            _shared.stand_in(name, **parts)
    if importlib.util.find_spec("ftfy") is None:  # it mends broken Unicode, of which there is none here
        _shared.stand_in("ftfy", fix_text=lambda text: text)


def torchvision() -> None:
    """Names that are imported and not called, where torchvision is not installed."""
    if importlib.util.find_spec("torchvision") is not None:
        return
    mode = type("InterpolationMode", (), {"BICUBIC": 3})
    names = ("Compose", "Resize", "CenterCrop", "ToTensor", "Normalize", "RandomResizedCrop", "ColorJitter", "Grayscale")
    _shared.stand_in("torchvision.transforms", InterpolationMode=mode, **dict.fromkeys(names, _nothing))
    _shared.stand_in("torchvision.transforms.functional")
    _shared.stand_in("torchvision.ops.misc", FrozenBatchNorm2d=nn.BatchNorm2d)


def openai_model(state: dict[str, Tensor]) -> nn.Module:
    """The clone's own CLIP, in float32 from the first step: its half precision is left out."""
    model = importlib.import_module("clip.model")
    model.convert_weights = _nothing
    return model.build_model(dict(state)).float()


def with_words(program: Any, words: Vocabulary) -> Any:
    """Give a program the vectors in place of its text tower's."""
    program.query_features, program.query_idx = words.theirs
    program.num_queries = len(program.query_idx)
    program.num_classes = int(program.query_idx.max()) + 1
    program.dtype = torch.float32
    return program


def open_clip_model(state: dict[str, Tensor]) -> nn.Module:
    """OpenCLIP's CLIP, from the clone or from where it is installed, with the published activation and in float32."""
    model = importlib.import_module("open_clip.model")
    width, patch = state["visual.conv1.weight"].shape[0], state["visual.conv1.weight"].shape[-1]
    side = patch * round((len(state["visual.positional_embedding"]) - 1) ** 0.5)
    layers = sum(name.startswith("visual.") and name.endswith("in_proj_weight") for name in state)
    words, text_width = state["token_embedding.weight"].shape
    text_layers = sum(name.startswith("transformer.") and name.endswith("in_proj_weight") for name in state)
    vision = {"layers": layers, "width": width, "head_width": 64, "patch_size": patch, "image_size": side}
    text = {"vocab_size": words, "width": text_width, "heads": text_width // 64, "layers": text_layers, "context_length": 77}
    net = model.CLIP(state["visual.proj"].shape[1], vision, text, quick_gelu=True).eval()
    net.load_state_dict(dict(state))
    return net


@contextlib.contextmanager
def in_float32() -> Iterator[None]:
    """Inside, nothing becomes half precision."""
    half = Tensor.half
    Tensor.half = lambda self: self  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Tensor.half = half  # type: ignore[method-assign]


@contextlib.contextmanager
def in_float64(*networks: nn.Module) -> Iterator[None]:
    """Inside, everything is twice as wide, the networks for good, and colours are normalised by the mean that is not rounded."""
    for network in networks:
        network.double()
    mean, std = (tuple(255 * value for value in values) for values in (CLIP_MEAN, CLIP_STD))
    torch.set_default_dtype(torch.float64)
    try:
        with (
            mock.patch.object(torch.Tensor, "float", lambda self: self.double()),
            mock.patch.dict(globals(), {"MEAN": mean, "STD": std}),
        ):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


@dataclass
class Sample:
    """An image's size on the way in, the program's result on the way out."""

    metainfo: dict[str, Any]
    found: dict[str, Any] = field(default_factory=dict)

    def set_data(self, found: dict[str, Any]) -> None:
        """Keep the result."""
        self.found = found


def network_image(image: LoadedImage, short: int) -> Tensor:
    """What MMSegmentation gives their network."""
    size = _windows.kept_ratio(image.size, short)
    opencv = _opencv()
    if opencv is None:
        pixels = _windows.bilinear(torch.from_numpy(image.pixels.copy()).permute(2, 0, 1), size)
    else:
        found = opencv.resize(image.pixels, (size[1], size[0]), interpolation=opencv.INTER_LINEAR)
        pixels = torch.from_numpy(found).permute(2, 0, 1)
    return (pixels[None].float() - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def _opencv() -> Any:
    try:
        found = importlib.import_module("cv2")
    except ImportError:
        return None
    return found if hasattr(found, "resize") else None  # a stand-in has nothing


def run_theirs(program: Any, image: LoadedImage, short: int) -> tuple[Tensor, Tensor, Tensor]:
    """Their logits at the image's size, their probabilities, their labels."""
    logits: list[Tensor] = []
    post = type(program).postprocess_result

    def kept(seg_logits: Tensor, samples: Any) -> Any:
        logits.append(seg_logits[0].clone())
        return post(program, seg_logits, samples)

    program.postprocess_result = kept
    sample = Sample({"ori_shape": image.size, "img_path": "picture"})
    program.predict(network_image(image, short), [sample])
    return logits[0], sample.found["seg_logits"].data, sample.found["pred_sem_seg"].data[0]


def run_ours(clip: Clip, recipe: recipes.Recipe, image: LoadedImage, words: Vocabulary, **others: Any) -> tuple[Tensor, Tensor]:
    """Our logits at the image's size in their order of strings, our labels in their numbers; through the whole of `Segmenter`."""
    segmenter = Segmenter(recipe, {"clip": worded(clip, words.vectors), **others}, {}, torch.device("cpu"), torch.float32)
    labels = ["; ".join(group) for group in words.classes]
    result = segmenter(image, labels, background=words.background or None)
    if result.strings is None:
        sys.exit(f"Got the recipe {recipe.name} without logits. Accepted is masks.upsample = 'logits'. Choose another recipe.")
    maps = resample(result.strings.logits.maps, image.size)
    ours = torch.empty_like(maps)
    ours[words.order] = maps
    return ours, words.renumbered(result.segmentation)


def settings(path: Path) -> dict[str, Any]:
    """The ``model`` of an author's configuration file, and ``short``, to which it resizes an image."""
    found: dict[str, Any] = {}
    exec(compile(path.read_text("utf-8"), str(path), "exec"), found)  # an author's settings are a Python file
    resize = next(step for step in found["test_pipeline"] if step["type"] == "Resize")
    return {**found["model"], "short": min(resize["scale"])}
