"""Read a network from a folder; a checkpoint with missing or unexpected tensors is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nerveseg.backbones.memory import ran_out
from nerveseg.backbones.quiet import without_bars
from nerveseg.errors import NerveSegError, WeightsError
from nerveseg.weights import check, config
from nerveseg.weights.catalogue import missing

__all__ = ["complete", "holds", "reading"]

_LINE = 500  # letters of what a library says
_NAMES = ("model_type", "_class_name")  # of the architecture in config.json, as transformers and diffusers write it


def complete(cls: Any, folder: Path, **given: Any) -> Any:
    """``cls.from_pretrained(folder)`` without the network, from .safetensors alone: whole, in shards, or their float16 form.

    Args:
        cls: a model class of transformers or diffusers.
        folder: with ``config.json`` and weights.
        given: handed on.

    Raises:
        WeightsError: pickles only, half a file, another architecture, or weights missing (they would be random, and silent) or of
            another shape; names the file, the weight, and the shape expected and found.
    """
    folder = Path(folder)
    files, form = _files(cls, folder)
    _same_architecture(cls, folder, {key: shape for shapes in files.values() for key, shape in shapes.items()})
    try:
        with without_bars():
            model, info = cls.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, use_safetensors=True, **{"variant": form, **given}
            )
    except (OSError, ValueError, RuntimeError) as error:
        if misfit := _misfit(cls, folder, files):
            raise WeightsError(misfit) from error
        raise
    lacking = sorted(str(key) for kind in ("missing_keys", "mismatched_keys") for key in info[kind])
    if lacking:
        few = ", ".join(lacking[:3])
        raise WeightsError(
            _misfit(cls, folder, files)
            or f"Got {folder} without {len(lacking)} weights of {cls.__name__}, such as {few}. "
            "Accepted is a whole checkpoint. Fetch it again."
        )
    return model


def holds(folder: Path, *needed: str) -> None:
    """Refuse a folder that lacks files.

    Args:
        folder: a checkpoint.
        needed: names; ``"a | b"`` is either.

    Raises:
        WeightsError: names what is lacking.
    """
    lacking = missing(needed, check.contents(Path(folder)))
    if lacking:
        raise WeightsError(f"Got {folder} without {', '.join(lacking)}. Accepted is a whole checkpoint. Fetch it again, or complete it.")


@contextlib.contextmanager
def reading(folder: Path, what: str) -> Iterator[None]:
    """Turn whatever a library says of a broken folder into `WeightsError`."""
    try:
        yield
    except NerveSegError:
        raise
    except Exception as error:  # what the libraries make of a broken folder has no one root
        if ran_out(error):
            raise
        raise WeightsError(
            f"Got {folder}, which cannot be read as {what}: {_short(error)} Accepted is a folder as from_pretrained reads "
            "it. Fetch it again."
        ) from error


def _short(error: Exception) -> str:
    """A library's words, in bounds: some of them list every weight."""
    text = " ".join(f"{error}".split()) or type(error).__name__
    return text if len(text) <= _LINE else f"{text[:_LINE]}…"


def _files(cls: Any, folder: Path) -> tuple[Mapping[str, Mapping[str, tuple[int, ...]]], str | None]:
    """File → weight → shape, of the files that will be read and no other, and their variant; refuses pickles, lost shards, half files.

    The variant is ``"fp16"`` where a folder holds the float16 form alone, else None: the full one.
    """
    stem = "diffusion_pytorch_model" if hasattr(cls, "load_config") else "model"  # as diffusers and as transformers name it
    read, lost = check.used(folder, [f"{stem}.safetensors"])
    if read and lost:
        raise WeightsError(f"Got {folder} without {', '.join(lost)}, which its index lists. Accepted are all shards. Fetch it again.")
    found = check.pickles(name for name in check.contents(folder) if "/" not in name)
    if found and not read:
        raise WeightsError(check.refused(folder, found))
    half = any(".fp16." in name for name in read[:1])
    return {name: check.tensors(folder / name) for name in read if name.endswith(".safetensors")}, "fp16" if half else None


def _same_architecture(cls: Any, folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    path = folder / "config.json"
    if not path.is_file():  # the library says it better
        return
    told = config.buildable(path, shapes)
    own = getattr(getattr(cls, "config_class", None), "model_type", None)
    expected = {own, *([own.removesuffix("_text_model").removesuffix("_vision_model")] if own else []), cls.__name__} - {None, ""}
    said = next((str(told[name]) for name in _NAMES if told.get(name)), None)
    if said is not None and said not in expected:
        raise WeightsError(
            f"Got {path}, which names the architecture {said!r}. Accepted is {own or cls.__name__!r}, for {cls.__name__}. "
            "Name the folder of such a checkpoint."
        )


def _misfit(cls: Any, folder: Path, files: Mapping[str, Mapping[str, tuple[int, ...]]]) -> str | None:
    """The first weight that the files lack, or hold in another shape than config.json asks for, in a sentence."""
    if not files:
        return None
    try:
        expected = _shapes(cls, folder)
    except Exception:  # a configuration too broken to build from: the library's own words must do
        return None
    found = {_plain(key): (name, shape) for name, keys in files.items() for key, shape in keys.items()}
    for key, shape in expected.items():
        name, has = found.get(_plain(key), (None, None))
        if has is not None and has != shape:
            return (
                f"Got {folder / str(name)} whose weight {key} has the shape {has} where {folder / 'config.json'} asks for {shape}. "
                "Accepted are a configuration and weights of one architecture. Take both from one checkpoint."
            )
    absent = [key for key in expected if _plain(key) not in found]
    if not absent:
        return None
    return (
        f"Got {folder / next(iter(files))} without {len(absent)} of {len(expected)} weights of {cls.__name__}, such as "
        f"{absent[0]} of shape {expected[absent[0]]}. Accepted is a whole checkpoint of that architecture. Fetch it again."
    )


def _shapes(cls: Any, folder: Path) -> Mapping[str, tuple[int, ...]]:
    import torch

    with torch.device("meta"):
        if hasattr(cls, "load_config"):
            model = cls.from_config(cls.load_config(folder, local_files_only=True))
        else:
            model = cls(cls.config_class.from_pretrained(folder, local_files_only=True))
    return {name: tuple(value.shape) for name, value in model.named_parameters()}


def _plain(key: str) -> str:
    """A key without the prefixes that versions of the libraries write or leave out."""
    for prefix in ("text_model.", "vit.", "dinov2.", "clip.", "groupvit."):
        key = key.removeprefix(prefix)
    return key
