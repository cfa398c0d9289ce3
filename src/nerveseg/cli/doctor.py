"""``nerveseg doctor``: what is installed, what would be used, which weights are here, and what is broken."""

from __future__ import annotations

import importlib
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from nerveseg import __version__
from nerveseg.cli._console import FAILED, console, guarded, json_line, waiting

__all__ = ["Finding", "doctor", "findings"]

_PACKAGES = ("torch", "transformers", "diffusers", "safetensors", "accelerate", "numpy", "scipy", "pillow", "matplotlib")
_MARKS = {"good": ("ok", "green"), "info": ("–", "dim"), "bad": ("BROKEN", "bold red")}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: which table it belongs to.
        name: what was looked at.
        state: good, info (not here, and nothing is wrong with that) or bad.
        text: what was found and, where it is bad, what to do.
    """

    topic: str
    name: str
    state: str
    text: str


@guarded
def doctor(*, json: Annotated[bool, typer.Option("--json", help="Print one JSON object a finding.")] = False) -> None:
    """Say what is installed, which device and dtype will be used, and which weights are here. Exits 1 if something is broken."""
    with waiting("looking around"):
        found = list(findings())
    if json:
        for finding in found:
            json_line(vars(finding))
    else:
        _show(found)
    if any(finding.state == "bad" for finding in found):
        raise typer.Exit(FAILED)


def findings() -> Iterator[Finding]:
    """Look at everything, in the order in which one thing breaks another."""
    yield Finding("versions", "nerveseg", "good", __version__)
    yield Finding("versions", "python", "good", f"{platform.python_version()} on {platform.platform()}")
    yield from (_package(name) for name in _PACKAGES)
    yield _torchvision()
    yield from _machine()
    yield from _networks()
    yield from _extras()
    yield from _weights()


def _package(name: str) -> Finding:
    found = _version(name)
    if found is None:
        return Finding("versions", name, "bad", "not installed. Run: pip install --force-reinstall nerveseg")
    return Finding("versions", name, "good", found)


def _torchvision() -> Finding:
    """A torchvision that cannot be imported is worse than none: transformers takes it for granted and cannot load CLIP then."""
    if find_spec("torchvision") is None:
        return Finding("versions", "torchvision", "good", "not installed, and not needed")
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # RuntimeError, OSError, ImportError, …: whatever a broken binary raises
        reason = " ".join(str(error).split())[:120]
        text = f"installed but cannot be imported ({type(error).__name__}: {reason}); no network loads beside it. "
        return Finding("versions", "torchvision", "bad", text + "Run: pip uninstall -y torchvision")
    return Finding("versions", "torchvision", "good", f"{_version('torchvision')}, importable; not needed")


def _machine() -> Iterator[Finding]:
    yield Finding("machine", "memory", "good", _memory())
    try:
        import torch
    except (ImportError, OSError, RuntimeError) as error:
        yield Finding("machine", "torch", "bad", f"cannot be imported ({error}). Run: pip install --force-reinstall torch")
        return
    cuda = torch.cuda.is_available()
    mps = torch.backends.mps.is_available()
    device, dtype = ("cuda", "float16") if cuda else ("mps" if mps else "cpu", "float32")
    try:
        torch.ones(2, device=device).sum().item()
    except RuntimeError as error:
        yield Finding("machine", "device", "bad", f"{device} is there but does not compute ({error}). Use --device cpu")
        return
    name = f" ({torch.cuda.get_device_name()})" if cuda else ""
    yield Finding("machine", "device", "good", f"{device}{name}; --device changes it")
    yield Finding("machine", "dtype", "good", f"{dtype} for the networks, float32 for the walk; --dtype changes it")
    yield Finding("machine", "threads", "good", f"{torch.get_num_threads()} of {os.cpu_count()} processors; OMP_NUM_THREADS changes it")


def _networks() -> Iterator[Finding]:
    """Import what loads the networks, as the first image would."""
    try:
        importlib.import_module("nerveseg.segmenter")
        importlib.import_module("transformers.models.clip.modeling_clip")
        importlib.import_module("diffusers.models.unets.unet_2d_condition")
    except Exception as error:  # a package that does not fit another breaks in its own way
        reason = " ".join(str(error).split())[:160]
        yield Finding("machine", "networks", "bad", f"their classes cannot be imported ({type(error).__name__}: {reason})")
        return
    yield Finding("machine", "networks", "good", "the classes of CLIP and the U-Net can be imported")


def _extras() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        required = metadata("nerveseg").get_all("Requires-Dist") or []
        extras = metadata("nerveseg").get_all("Provides-Extra") or []
    except PackageNotFoundError:
        yield Finding("extras", "nerveseg", "info", "run from its source, not installed: extras are unknown")
        return
    for extra in extras:
        asked = [line for line in required if re.search(rf"extra == ['\"]{re.escape(extra)}['\"]", line)]
        names = [re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in asked]
        lacking = [name for name in names if _version(name) is None]
        text = f"not installed: {', '.join(lacking)}. Run: pip install 'nerveseg[{extra}]'" if lacking else "complete"
        yield Finding("extras", extra, "info" if lacking else "good", text)


def _weights() -> Iterator[Finding]:
    from nerveseg.cli.weights import size, where
    from nerveseg.weights import catalogue

    for row in catalogue().values():
        folder, why = where(row.name)
        if folder is not None:
            yield Finding("weights", row.name, "good", f"{folder.source}: {folder.path}")
        else:
            absent = why.startswith("not in")
            advice = f"{why}. {size(row)}. Run: nerveseg weights fetch {row.name}" if absent else f"{why}. Reinstall nerveseg"
            yield Finding("weights", row.name, "info" if absent else "bad", advice)


def _memory() -> str:
    try:
        pages, unit = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        free = os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows, macOS
        return f"unknown on {sys.platform}"
    return f"{pages * unit / 2**30:.1f} GiB, {free * unit / 2**30:.1f} GiB free"


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # 40 ms that the other verbs' --help need not pay

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _show(found: list[Finding]) -> None:
    from rich.text import Text

    from nerveseg.cli._results import plain_table

    out = console()
    topics: dict[str, Any] = {}
    for finding in found:
        table = topics.setdefault(finding.topic, plain_table(finding.topic, "", ""))
        mark, style = _MARKS[finding.state]
        table.add_row(finding.name, Text(mark, style=style), Text(finding.text, style="red" if finding.state == "bad" else ""))
    for table in topics.values():
        out.print(table)
        out.print()
    bad = [finding for finding in found if finding.state == "bad"]
    if bad:
        out.print(Text(f"Broken: {', '.join(finding.name for finding in bad)}.", style="bold red"))
    else:
        out.print(Text("Nothing is broken.", style="green"))
