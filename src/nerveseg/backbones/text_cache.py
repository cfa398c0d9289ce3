"""Cache text embeddings on disk: 171 words in 80 templates are 13,680 passes of a text tower, the same in every run.

A file is named by what its rows depend on: digest of the weights, sentences, words. One that cannot be read counts as absent. The folder is
bounded by `MOST` and `FILES`: what was not used for longest goes first, whatever its dates say.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import platformdirs
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

__all__ = ["FILES", "MOST", "folder", "name", "prune", "read", "write"]

MOST = 256 << 20
"""Bytes that are kept: some hundred vocabularies of a hundred words."""

FILES = 4096
"""Files that are kept."""

_LOG = logging.getLogger(__name__)
_ENDING = ".safetensors"
_DRAFT = "tmp"
_STALE = 3600.0  # seconds after which a draft is nobody's any more
_ROOM = 0.9  # share of the bounds that pruning goes down to, so that it is not done at every write


def folder() -> Path:
    """Where text vectors are kept: ``$NERVESEG_CACHE/texts``, or the user's cache folder."""
    base = os.environ.get("NERVESEG_CACHE") or platformdirs.user_cache_dir("nerveseg")
    return Path(base) / "texts"


def name(digest: str, templates: Sequence[str], strings: Sequence[str]) -> str:
    """Sha256 of everything that the rows depend on.

    Args:
        digest: of the weights.
        templates: sentences, in order.
        strings: words, in order.
    """
    return hashlib.sha256(json.dumps([digest, list(templates), list(strings)]).encode()).hexdigest()


def read(key: str) -> Float[Tensor, "s E"] | None:
    """Rows kept under a name, on the CPU; None where there are none that can be read."""
    path = folder() / f"{key}{_ENDING}"
    try:
        found = load(path.read_bytes())["rows"]
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError) as error:
        _LOG.warning("%s cannot be read and is made anew: %s", path, error)
        return None
    with suppress(OSError):
        os.utime(path)  # used just now
    return found


def write(key: str, rows: Float[Tensor, "s E"]) -> None:
    """Keep rows under a name: whole or not at all, and without a word where the folder cannot be written. What is oldest makes room."""
    place = folder()
    content = save({"rows": rows.float().cpu().contiguous()})
    if len(content) > _ROOM * MOST:
        _LOG.info("text vectors of %d bytes are not kept: more than there is room for", len(content))
        return
    try:
        place.mkdir(parents=True, exist_ok=True)
        prune(place, len(content))
        with tempfile.NamedTemporaryFile(dir=place, prefix=_DRAFT, delete=False) as stream:
            draft = Path(stream.name)
            try:
                stream.write(content)
                stream.close()
                draft.replace(place / f"{key}{_ENDING}")
            finally:
                draft.unlink(missing_ok=True)
    except OSError as error:
        _LOG.info("text vectors are not kept: %s", error)


def prune(place: Path, coming: int = 0) -> None:
    """Hold the folder to its bounds, so that ``coming`` more bytes fit; drafts that killed processes left go, too.

    A file dated in the future says nothing of when it was used, and goes first.

    Raises:
        OSError: the folder cannot be read.
    """
    now = time.time()
    kept: list[tuple[float, int, str]] = []
    with os.scandir(place) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # another process pruned it
                said = entry.stat(follow_symlinks=False)
                if entry.name.endswith(_ENDING):
                    kept.append((said.st_mtime if said.st_mtime <= now + 1 else 0.0, said.st_size, entry.path))
                elif entry.name.startswith(_DRAFT) and not now - _STALE < said.st_mtime <= now + 1:
                    Path(entry.path).unlink(missing_ok=True)
    size, count = sum(size for _, size, _ in kept) + coming, len(kept) + 1
    if size <= MOST and count <= FILES:
        return
    for _, each, path in sorted(kept):
        if size <= _ROOM * MOST and count <= _ROOM * FILES:
            return
        Path(path).unlink(missing_ok=True)
        size, count = size - each, count - 1
