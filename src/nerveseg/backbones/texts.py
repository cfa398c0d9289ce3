"""Text vectors kept on disk: 171 words in 80 sentences are 13,680 passes of a text tower, and the same ones in every run.

A file is named by what its rows depend on: digest of the weights, sentences, words. One that cannot be read counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import platformdirs
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

__all__ = ["folder", "name", "read", "write"]

_LOG = logging.getLogger(__name__)


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
    path = folder() / f"{key}.safetensors"
    try:
        return load(path.read_bytes())["rows"]
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError) as error:
        _LOG.warning("%s cannot be read and is made anew: %s", path, error)
        return None


def write(key: str, rows: Float[Tensor, "s E"]) -> None:
    """Keep rows under a name: whole or not at all, and without a word where the folder cannot be written."""
    place = folder()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place, delete=False) as stream:
            stream.write(save({"rows": rows.float().cpu().contiguous()}))
        Path(stream.name).replace(place / f"{key}.safetensors")
    except OSError as error:
        _LOG.info("text vectors are not kept: %s", error)
