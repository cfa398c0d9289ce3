"""The Hugging Face hub: what a repository holds, the local cache, and downloads that resume.

Everything goes through huggingface_hub; ``HF_ENDPOINT`` and ``HF_HUB_CACHE`` are read at each call. One thing is ours: a large file
comes into a part file that outlives the process, so that the next call asks for the rest alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerveseg.errors import WeightsError
from nerveseg.reprs import brief
from nerveseg.weights.check import wrong

__all__ = ["Page", "Remote", "cache_folder", "cached", "converted", "download", "page", "partial", "remembered"]

_BOT, _TITLE = "SFconvertbot", "Adding `safetensors` variant of this model"
_NOTE = "nerveseg-converted"  # in an id's folder of the cache


@dataclass(frozen=True)
class Remote:
    """A file on the hub: bytes, the name of its blob in the cache, and whether that name is its sha256 (large files)."""

    bytes: int
    blob: str
    large: bool


@dataclass(frozen=True)
class Page:
    """What one hub id holds at one revision.

    Attributes:
        hub_id: ``owner/name``.
        revision: as asked for.
        commit: what it stood for when it was asked.
        files: name → file.
        converted: it stands in for a page of pickles (see `converted`).
    """

    hub_id: str
    revision: str
    commit: str
    files: Mapping[str, Remote]
    converted: bool = False

    __repr__ = brief


def page(hub_id: str, revision: str) -> Page:
    """Ask the hub what an id holds; one request. Raises what huggingface_hub raises."""
    info = _api().model_info(hub_id, revision=revision, files_metadata=True)
    files: dict[str, Remote] = {}
    for file in info.siblings or ():
        if file.lfs is not None:
            files[file.rfilename] = Remote(int(file.lfs.size), file.lfs.sha256, large=True)
        else:
            files[file.rfilename] = Remote(int(file.size or 0), file.blob_id or "", large=False)
    return Page(hub_id, revision, info.sha or revision, files)


def converted(hub_id: str) -> str | None:
    """The revision at which the hub's own bot offers an id's pickles as safetensors, if it does: an open pull request of it."""
    for found in _api().get_repo_discussions(hub_id, author=_BOT, discussion_type="pull_request", discussion_status="open"):
        if found.author == _BOT and found.title == _TITLE and found.git_reference:
            return str(found.git_reference)
    return None


def remembered(hub_id: str) -> str | None:
    """The revision that `download` took in place of an id's pickles."""
    note = _blobs(hub_id).parent / _NOTE
    return note.read_text("utf-8").strip() or None if note.is_file() else None


def cached(hub_id: str, revision: str) -> Path | None:
    """The folder of the hub's cache that holds an id at a revision, complete or not; never asks the network."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, revision=revision, cache_dir=cache_folder(), allow_patterns=[], local_files_only=True))
    except (OSError, ValueError):  # not there, cannot be read, or no id at all
        return None


def partial(found: Page, name: str) -> int:
    """Bytes of a file that are on this machine already, from a finished download or one that was cut off."""
    remote = found.files[name]
    blob = _blobs(found.hub_id) / remote.blob
    part = _part(blob)
    return remote.bytes if blob.is_file() else min(part.stat().st_size, remote.bytes) if remote.large and part.is_file() else 0


def download(found: Page, names: Iterable[str], *, said: Callable[[int], None]) -> Path:
    """Bring files of a page into the hub's cache, each held to its size and digest, and give the folder that shows them.

    Args:
        found: the page.
        names: files of it.
        said: told of the bytes that arrive.

    Raises:
        WeightsError: a file that is not what the hub says of it; names the file. What huggingface_hub raises: the network.
    """
    from huggingface_hub import snapshot_download

    names = tuple(names)
    for name in names:
        if found.files[name].large:
            _resumed(found, name, said)
    small = sum(found.files[name].bytes - partial(found, name) for name in names)
    # The large files lie in place; this brings the small ones, and shows all of them under their names.
    path = snapshot_download(
        found.hub_id,
        revision=found.revision,
        allow_patterns=[re.sub(r"([\[*?])", r"[\1]", name) for name in names],
        cache_dir=cache_folder(),
        endpoint=_endpoint(),
        library_name="nerveseg",
        tqdm_class=_silent(lambda _: None),
    )
    said(small)
    if found.converted:
        (_blobs(found.hub_id).parent / _NOTE).write_text(found.revision, "utf-8")
    return Path(path)


def _resumed(found: Page, name: str, said: Callable[[int], None]) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    remote = found.files[name]
    blob = _blobs(found.hub_id) / remote.blob
    if blob.is_file():
        return
    blob.parent.mkdir(parents=True, exist_ok=True)
    part = _part(blob)
    have = part.stat().st_size if part.is_file() else 0
    if have > remote.bytes:
        part.unlink()
        have = 0
    with part.open("ab") as stream:
        http_get(
            hf_hub_url(found.hub_id, name, revision=found.commit, endpoint=_endpoint()),
            stream,
            resume_size=have,
            # Compressed bytes could not be gone on with.
            headers={**build_hf_headers(library_name="nerveseg"), "Accept-Encoding": "identity"},
            expected_size=remote.bytes,
            displayed_filename=name,
            tqdm_class=_silent(said),
        )
    if digest := wrong(part, remote.blob):
        part.unlink()
        raise WeightsError(
            f"Got {name} of {found.hub_id} with the sha256 {digest}. Accepted is {remote.blob}, which the hub states. "
            "What came is deleted; fetch it again."
        )
    part.replace(blob)


def _silent(said: Callable[[int], None]) -> Any:
    """A progress bar that draws nothing and tells of every step."""
    from tqdm.auto import tqdm

    class Silent(tqdm):
        def __init__(self, *args: Any, **named: Any) -> None:
            named.pop("name", None)
            super().__init__(*args, **{**named, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            said(int(n or 0))
            return super().update(n)

    return Silent


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=_endpoint(), library_name="nerveseg")


def _endpoint() -> str | None:
    return (os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None


def cache_folder() -> str:
    """The hub's cache on this machine."""
    from huggingface_hub import constants

    return str(Path(os.environ.get("HF_HUB_CACHE") or constants.HF_HUB_CACHE).expanduser())


def _blobs(hub_id: str) -> Path:
    from huggingface_hub.file_download import repo_folder_name

    return Path(cache_folder()) / repo_folder_name(repo_id=hub_id, repo_type="model") / "blobs"


def _part(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.nerveseg-part")
