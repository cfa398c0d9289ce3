"""Cache encodings on disk, so that an ablation or a sweep runs the networks once per image and re-solves from there.

A file is named by what its tensors depend on: the image's digest, the weights' digests, the knobs of `encode`, the precision. One that
cannot be read counts as absent. The folder is the caller's, and grows with the images until its disk has `SPARE` bytes left; what does
not fit is made anew each time. Nothing is pickled: tensors in safetensors, and what lies around them as JSON in its header.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from nerveseg.image import LoadedImage
from nerveseg.labels._windows import Box, Part
from nerveseg.labels.base import Features
from nerveseg.parse import from_json
from nerveseg.reprs import brief
from nerveseg.segmenter import Encoding, Segmenter
from nerveseg.transition import Heads

__all__ = ["SPARE", "Kept", "key"]

SPARE = 1 << 30
"""Bytes of the disk that are left free."""

_LOG = logging.getLogger(__name__)
_CLASSES: Mapping[str, type] = {cls.__name__: cls for cls in (Features, Heads, Part, Box)}
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Kept:
    """A segmenter whose encodings are read from a folder where they are there, and written to it where they are not.

    Attributes:
        segmenter: makes what is lacking.
        folder: one file an encoding; None keeps nothing.
        half: keep float32 tensors in float16: half the disk, about three digits.
    """

    segmenter: Segmenter
    folder: Path | None = None
    half: bool = False

    __repr__ = brief

    def encode(self, image: LoadedImage, *, seed: int | None = None) -> Encoding:
        """Encode, or read what an earlier call with the same image, weights and knobs left."""
        if self.folder is None:
            return self.segmenter.encode(image, seed=seed)
        path = self.folder / f"{key(self.segmenter, image, seed=seed, half=self.half)}.safetensors"
        found = _read(path, image, self.segmenter)
        if found is not None:
            return found
        made = self.segmenter.encode(image, seed=seed)
        _write(path, made, half=self.half)
        # What was just made is read back: a first run and a later one then work on the same numbers, to the bit.
        return _read(path, image, self.segmenter) or made


def key(segmenter: Segmenter, image: LoadedImage, *, seed: int | None = None, half: bool = False) -> str:
    """Sha256 of everything that an encoding depends on: the words, and the knobs that `decode` may change, are not among it."""
    recipe = segmenter.recipe
    free = recipe.labels.module.decode_options
    labels = {name: value for name, value in dataclasses.asdict(recipe.labels.options).items() if name not in free}
    graph = None if recipe.graph is None else [recipe.graph.name, dataclasses.asdict(recipe.graph.options)]
    weights = {name: folder.digest for name, folder in sorted(segmenter.folders.items())}
    what = [_FORMAT, image.sha256, recipe.labels.name, labels, graph, weights, str(segmenter.dtype), segmenter.device.type, seed, half]
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def _write(path: Path, encoding: Encoding, *, half: bool) -> None:
    tensors: dict[str, torch.Tensor] = {}
    try:
        skeleton = _taken_apart([encoding.features, encoding.heads], tensors, half=half)
        path.parent.mkdir(parents=True, exist_ok=True)
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        free = shutil.disk_usage(path.parent).free
        if free < size + SPARE:
            _LOG.warning("the encoding of %s is not kept: %s has %d bytes left", encoding.image.name, path.parent, free)
            return
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as stream:
            part = Path(stream.name)
        try:
            save_file(tensors, part, {"skeleton": json.dumps(skeleton)})
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, TypeError, SafetensorError) as error:
        _LOG.warning("the encoding of %s is not kept: %s", encoding.image.name, error)


def _read(path: Path, image: LoadedImage, segmenter: Segmenter) -> Encoding | None:
    try:
        # Read, not mapped: a mapped file that another process cuts short would end this one.
        data = path.read_bytes()
        header = from_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
        tensors = {name: tensor.to(segmenter.device) for name, tensor in load(data).items()}
        features, heads = _put_together(from_json(header["__metadata__"]["skeleton"]), tensors)
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        _LOG.warning("%s cannot be read and is made anew: %s", path, error)
        return None
    return Encoding(image, features, heads, segmenter.recipe, {})


def _taken_apart(value: Any, tensors: dict[str, torch.Tensor], *, half: bool) -> Any:
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        shorter = half and value.dtype == torch.float32
        # A copy: two names of one memory are refused by the format.
        tensors[name] = (value.half() if shorter else value).detach().cpu().contiguous().clone()
        return {"tensor": name, "dtype": str(value.dtype).removeprefix("torch.")}
    if type(value).__name__ in _CLASSES and dataclasses.is_dataclass(value):
        fields = {field.name: _taken_apart(getattr(value, field.name), tensors, half=half) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__, "fields": fields}
    if isinstance(value, Mapping):
        return {"mapping": {str(name): _taken_apart(inner, tensors, half=half) for name, inner in value.items()}}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_taken_apart(inner, tensors, half=half) for inner in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    raise TypeError(f"{type(value).__name__} has no place in such a file")


def _put_together(node: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Any:
    if "tensor" in node:
        return tensors[node["tensor"]].to(getattr(torch, node["dtype"]))
    if "class" in node:
        return _CLASSES[node["class"]](**{name: _put_together(inner, tensors) for name, inner in node["fields"].items()})
    if "mapping" in node:
        return {name: _put_together(inner, tensors) for name, inner in node["mapping"].items()}
    for kind in (list, tuple):
        if kind.__name__ in node:
            return kind(_put_together(inner, tensors) for inner in node[kind.__name__])
    return node["value"]
