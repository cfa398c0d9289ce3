"""Fixtures that every folder of tests shares."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def _helper(name: str):
    # Tests are imported by file (importmode importlib), so helpers beside them are loaded by file, too.
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, _HERE / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def checkpoints():
    """The helper module that makes random checkpoints: ``make_clip``, ``make_diffusion``, ``write_tokenizer``, ``colours``."""
    return _helper("_checkpoints")


@pytest.fixture(scope="session")
def clip_folder(checkpoints, tmp_path_factory):
    """A random CLIP: 4 blocks, patch 16, 64 pixels, with a list of trained words."""
    return checkpoints.make_clip(tmp_path_factory.mktemp("clip"), words=True)


@pytest.fixture(scope="session")
def clip(clip_folder):
    """That CLIP, loaded."""
    from nerveseg.backbones.clip import load

    return load(clip_folder)


@pytest.fixture(scope="session")
def diffusion_folder(checkpoints, tmp_path_factory):
    """A random diffusion model in the layout of SD 2.1: four levels, 5 heads at the top."""
    return checkpoints.make_diffusion(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="session")
def diffusion(diffusion_folder):
    """That model, loaded."""
    from nerveseg.backbones.stable_diffusion import load

    return load(diffusion_folder)


@pytest.fixture(scope="session")
def tiny_diffusion(checkpoints, tmp_path_factory):
    """A random diffusion model in the layout of the embedded pair: two levels, the empty prompt kept as a tensor."""
    from nerveseg.backbones.stable_diffusion import load

    return load(checkpoints.make_diffusion(tmp_path_factory.mktemp("tiny"), tiny=True, scheduler="DDIMScheduler", prompt_only=True))


@pytest.fixture(scope="session")
def picture(checkpoints):
    """A picture of 90 × 130 pixels."""
    from nerveseg.picture.load import load

    return load(checkpoints.colours(90, 130))
