"""Small images with saved scores: a batch of them needs no network and takes milliseconds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nerveseg.batch import Job, find, run

SAVED = {"labels.name": "saved", "graph.name": "none", "walk.name": "none", "calibration.name": "none"}


@pytest.fixture
def photos(tmp_path):
    """``photos(n)``: a folder of n images, every third in a folder of its own, and their scores beside it; gives the images' folder."""

    def make(count: int = 6) -> Path:
        chance = np.random.default_rng(0)
        for place in ("in/deep", "scores"):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            name = f"p{number:03d}"
            place = tmp_path / "in" / ("deep" if number % 3 == 2 else "")
            Image.fromarray(chance.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(place / f"{name}.png")
            np.savez(tmp_path / "scores" / f"{name}.npz", scores=chance.dirichlet(np.ones(3), (5, 6)).transpose(2, 0, 1).astype("f4"))
        return tmp_path / "in"

    return make


@pytest.fixture
def job(tmp_path):
    """``job(format="coco")``: what is asked for, of the saved scores."""

    def make(**given) -> Job:
        settings = {**SAVED, "labels.path": str(tmp_path / "scores")}
        return Job(("cat", "dog", "grass"), recipe="mini", settings=settings, offline=True, threads=1, **given)

    return make


@pytest.fixture
def undisturbed(job, tmp_path):
    """``undisturbed(source, format="coco")``: the digest of a folder that nothing happened to."""

    def make(source, **given) -> dict[str, str]:
        out = tmp_path / "undisturbed"
        run(job(**given), find(source), out)
        return digests(out)

    return make


@pytest.fixture
def digest():
    """``digest(folder)``: path → digest of every file, hidden ones included."""
    return digests


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
