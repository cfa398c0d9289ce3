"""Is a checkpoint whole? Pickles refused, files that end too early named, digests compared."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from nerveseg.errors import WeightsError
from nerveseg.weights.catalogue import missing

__all__ = ["broken", "contents", "kind_of", "lacking", "pickles", "refused", "tensors", "wrong"]

_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
_SHA256, _SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_CHUNK = 1 << 20
_KINDS = MappingProxyType({"clip": "clip", "vit": "dino", "dinov2": "dinov2", "groupvit": "groupvit", "AutoencoderTiny": "taesd"})
_LONGEST_HEAD = 100_000_000  # bytes; the format's own limit


def contents(folder: Path) -> frozenset[str]:
    """Names of all files in a folder, relative to it."""
    return frozenset(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def kind_of(folder: Path) -> str | None:
    """The kind of checkpoint that a folder holds, as its own configuration says; None where it says nothing that is known."""
    if (folder / "unet" / "config.json").is_file():
        return "diffusion"
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    said = [str(config.get(name)) for name in ("model_type", "_class_name")] if isinstance(config, dict) else []
    return next((_KINDS[name] for name in said if name in _KINDS), None)


def pickles(names: Iterable[str]) -> tuple[str, ...]:
    """The names that are pickled weights."""
    return tuple(sorted(name for name in names if Path(name).suffix in _PICKLES))


def refused(place: object, names: Collection[str]) -> str:
    """Why pickles are not read, and the way out."""
    return (
        f"Got {place} with weights as pickles only ({', '.join(tuple(names)[:3])}); reading a pickle can run any code that is in it. "
        "Accepted are .safetensors files. Convert them once, where that can do no harm, with torch.load(…, weights_only=True) and "
        "safetensors.torch.save_file, or name a revision or a folder that has them."
    )


def lacking(folder: Path, needed: Iterable[str]) -> tuple[str, ...]:
    """What a folder lacks of the files needed, the shards that its indices list included."""
    present = contents(folder)
    absent = list(missing(needed, present))
    for name in sorted(name for name in present if ".safetensors.index." in name and name.endswith(".json")):
        whole = name.replace(".index.fp16.json", "").replace(".index.json", "")
        if whole not in present:  # otherwise the index is not what is read
            home = Path(name).parent
            absent += [shard for shard in _listed(folder / name) if (home / shard).as_posix() not in present]
    return tuple(absent)


def _listed(index: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted({str(name) for name in json.loads(index.read_text("utf-8"))["weight_map"].values()}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"Got {index}, which is no index of shards ({error}). Accepted is a whole file. Fetch it again.") from error


def tensors(path: Path) -> Mapping[str, tuple[int, ...]]:
    """Name → shape of the tensors that a .safetensors file holds, from its head; refuses a file that ends too early.

    Raises:
        WeightsError: names the file, and its size beside the one that its head states.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        head = stream.read(length) if size >= 8 and length <= min(size, _LONGEST_HEAD) else b""
    try:
        rows = {name: row for name, row in json.loads(head).items() if name != "__metadata__"}
        end = 8 + length + max((row["data_offsets"][1] for row in rows.values()), default=0)
        shapes = {name: tuple(row["shape"]) for name, row in rows.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise WeightsError(
            f"Got {path} of {size} bytes, whose head cannot be read: half a download, or no safetensors file. "
            "Accepted is a whole file. Fetch it again."
        ) from error
    if size != end:
        raise WeightsError(
            f"Got {path} of {size} bytes where its head states {end}: half a download. Accepted is a whole file. Fetch it again."
        )
    return shapes


def wrong(path: Path, digest: str) -> str | None:
    """The digest that a file has where it is not the one expected, else None; reads it whole.

    Args:
        path: the file.
        digest: sha256 (64 hexadecimal digits), or git's sha1 of a blob (40), as the hub names small files.
    """
    small = _SHA1.fullmatch(digest) is not None
    total = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False) if small else hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            total.update(chunk)
    return None if total.hexdigest() == digest else total.hexdigest()


def broken(folder: Path, digests: Mapping[str, str]) -> tuple[str, ...]:
    """Read a folder whole: one sentence for every file that is not what it should be, with the path to delete.

    Args:
        folder: a checkpoint.
        digests: file → sha256, where they are known. Files of the hub's cache are held to the digest that the cache names them by, too.
    """
    said: list[str] = []
    for name in sorted(contents(folder)):
        path = folder / name
        expected = [digests[name]] if name in digests else []
        blob = path.resolve().name
        if path.is_symlink() and (_SHA256.fullmatch(blob) or _SHA1.fullmatch(blob)):
            expected.append(blob)
        found = {digest: wrong(path, digest) for digest in expected}
        said += [f"{path.resolve()} ({name}) has the digest {has}, expected is {digest}" for digest, has in found.items() if has]
        if name.endswith(".safetensors"):
            try:
                tensors(path)
            except WeightsError as error:
                said.append(str(error))
    return tuple(said)
