"""Is a checkpoint whole? Pickles refused, files that end too early named, digests compared."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from nerveseg import parse
from nerveseg.errors import WeightsError
from nerveseg.weights import config
from nerveseg.weights.catalogue import alternatives, forms

__all__ = ["broken", "contents", "kind_of", "lacking", "pickles", "refused", "tensors", "used", "wrong"]

_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
_SHA256, _SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_SHARD = re.compile(r"[\w.() -]+\.safetensors")  # a name beside the index, and no path that leads elsewhere
_CHUNK = 1 << 20
_KINDS = MappingProxyType({"clip": "clip", "vit": "dino", "dinov2": "dinov2", "groupvit": "groupvit", "AutoencoderTiny": "taesd"})
_LONGEST_HEAD, _MOST_TENSORS = 16 << 20, 100_000  # of a .safetensors; the largest published networks have some thousands of tensors
_BYTES = MappingProxyType(
    {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}
)


def contents(folder: Path) -> frozenset[str]:
    """Names of all files in a folder, relative to it."""
    return frozenset(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def kind_of(folder: Path) -> str | None:
    """The kind of checkpoint that a folder holds, as its own configuration says; None where it says nothing that is known."""
    if (folder / "unet" / "config.json").is_file():
        return "diffusion"
    try:
        told = parse.from_json(parse.text_of(folder / "config.json"))
    except (OSError, ValueError):
        return None
    said = [str(told.get(name)) for name in ("model_type", "_class_name")] if isinstance(told, dict) else []
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


def used(folder: Path, needed: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Find the files of a folder that are read, and no other: what else lies there may be half, or anything.

    Args:
        folder: a checkpoint.
        needed: entries as in `nerveseg.weights.catalogue.Row.files`.

    Returns:
        The files by which the folder answers the entries, with the shards that their indices list, and what of both is not there.

    Raises:
        WeightsError: an index that is read and is none.
    """
    present = contents(folder)
    found: dict[str, None] = {}
    absent: list[str] = []
    for entry in needed:
        name = next((form for name in alternatives(entry) for form in forms(name) if form in present), None)
        if name is None:
            absent.append(entry)
            continue
        shards = _listed(folder / name) if ".safetensors.index." in name else ()
        home = Path(name).parent
        found.update(dict.fromkeys([name, *((home / shard).as_posix() for shard in shards if (home / shard).as_posix() in present)]))
        absent += [shard for shard in shards if (home / shard).as_posix() not in present]
    return tuple(found), tuple(absent)


def lacking(folder: Path, needed: Iterable[str]) -> tuple[str, ...]:
    """What a folder lacks of the files needed, the shards that their indices list included."""
    return used(folder, needed)[1]


def _listed(index: Path) -> tuple[str, ...]:
    held = config.read(index)
    rows = held.get("weight_map") if isinstance(held, dict) else None
    if not isinstance(rows, dict) or not all(isinstance(name, str) and _SHARD.fullmatch(name) for name in rows.values()):
        raise WeightsError(f"Got {index}, which is no index of shards. Accepted is one with a weight_map. Fetch it again.")
    return tuple(sorted(set(rows.values())))


def tensors(path: Path) -> Mapping[str, tuple[int, ...]]:
    """Name → shape of the tensors that a .safetensors file holds, from its head; refuses a file that ends too early.

    Raises:
        WeightsError: names the file, what lies in its place, or its size beside the one that its head states.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(config.LEAD)
        length = int.from_bytes(start[:8], "little")
        stream.seek(8)
        head = stream.read(length) if size >= 8 and length <= min(size, _LONGEST_HEAD) else b""
    if said := config.stand_in(start):
        raise WeightsError(f"Got {path}, which is {said}")
    try:
        rows = {name: row for name, row in parse.from_json(head).items() if name != "__metadata__"}
        if len(rows) > _MOST_TENSORS:
            raise _too_many(path, len(rows))
        spans = sorted((first, last, name) for name, row in rows.items() for first, last in [row["data_offsets"]])
        end = 8 + length + max((span[1] for span in spans), default=0)
        shapes = {name: tuple(row["shape"]) for name, row in rows.items()}
        kinds = {name: str(row["dtype"]) for name, row in rows.items()}
        if not all(
            isinstance(number, int) and number >= 0 for shape in (*shapes.values(), *(span[:2] for span in spans)) for number in shape
        ):
            raise ValueError("a size below 0")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise WeightsError(
            f"Got {path} of {size} bytes, whose head cannot be read: half a download, or no safetensors file. "
            "Accepted is a whole file. Fetch it again."
        ) from error
    if size != end:
        raise WeightsError(
            f"Got {path} of {size} bytes where its head states {end}: half a download. Accepted is a whole file. Fetch it again."
        )
    _check_spans(path, spans, shapes, kinds)
    return shapes


def _too_many(path: Path, count: int) -> WeightsError:
    return WeightsError(
        f"Got {path} with {count:,} tensors. Accepted are {_MOST_TENSORS:,} at most, many more than any network here has. "
        "Take the published file."
    )


def _check_spans(
    path: Path, spans: Iterable[tuple[int, int, str]], shapes: Mapping[str, tuple[int, ...]], kinds: Mapping[str, str]
) -> None:
    """Tensors lie one after the other without a gap, as the format says, and are as long as their shapes."""
    at = 0
    for first, last, name in spans:
        each = _BYTES.get(kinds[name])
        long = last - first if each is None else each * math.prod(shapes[name])
        if first != at or last - first != long:
            raise WeightsError(
                f"Got {path}, whose tensor {name!r} is said to lie at bytes {first} to {last}, where {at} to {at + long} is its place. "
                "Accepted are tensors one after the other. The file is damaged or made to mislead: take the published one."
            )
        at = last


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


def broken(folder: Path, digests: Mapping[str, str], needed: Iterable[str] = ()) -> tuple[str, ...]:
    """Read a folder whole: one sentence for every file that is read of it and is not what it should be, with the path to delete.

    Args:
        folder: a checkpoint.
        digests: file → sha256, where they are known. Files of the hub's cache are held to the digest that the cache names them by, too.
        needed: what is read of it, see `used`; none: everything that lies there.
    """
    said: list[str] = []
    for name in sorted(used(folder, needed)[0] if needed else contents(folder)):
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
