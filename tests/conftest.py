"""Fixtures that every folder of tests shares."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import ipaddress
import socket
import sys
from pathlib import Path

import jaxtyping
import pytest
import torch

collect_ignore = ["example_package"]  # another distribution: tests/test_example_package.py runs it in a process of its own
_HERE = Path(__file__).parent
_CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"


def _with_axes() -> list[str]:
    """Modules and packages, right below `nerveseg`, whose signatures tell axes.

    The others are left alone: pyright reads them, and a check at each call of the small functions on words doubled the time of all tests.
    """
    root = next(iter(importlib.util.find_spec("nerveseg").submodule_search_locations))
    found = (path.relative_to(root) for path in Path(root).rglob("*.py") if "from jaxtyping import" in path.read_text("utf-8"))
    return sorted({f"nerveseg.{path.with_suffix('').parts[0]}" for path in found})


def _only_axes(jaxtyped):
    """Check those functions and classes alone whose own signature tells axes: a third of all tests' time went into the others."""
    axes = tuple(f"{kind}[" for kind in ("Bool", "Float", "Float64", "Int", "Int64", "Integer", "Num", "Shaped", "UInt16", "UInt8"))

    def told(annotations) -> bool:
        return any(kind in str(annotation) for annotation in annotations.values() for kind in axes)

    def decorator(*, typechecker):
        check = jaxtyped(typechecker=typechecker)
        return lambda it: check(it) if told(vars(it).get("__annotations__", {}) if isinstance(it, type) else it.__annotations__) else it

    return decorator


jaxtyping.jaxtyped = _only_axes(jaxtyping.jaxtyped)
jaxtyping.install_import_hook(_with_axes(), _CHECKER)


def pytest_configure(config):
    """One thread a worker, and no way out of this machine: a test that reaches for a hub fails at once and says so."""
    torch.set_num_threads(1)
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    patch.delenv("HF_HUB_OFFLINE", raising=False)  # the hub's client reads it once, and would not ask the stand-in
    for name in ("connect", "connect_ex"):
        patch.setattr(socket.socket, name, _only_here(getattr(socket.socket, name)))
    patch.setattr(socket, "getaddrinfo", _looked_up_here(socket.getaddrinfo))


def _only_here(connect):
    def guarded(self, address, *rest):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address[0]):
            raise _refusal(address)
        return connect(self, address, *rest)

    return guarded


def _looked_up_here(look_up):
    def guarded(host, *rest, **named):
        if host is not None and not _is_here(host):
            raise _refusal(host)
        return look_up(host, *rest, **named)

    return guarded


def _refusal(address):
    return OSError(f"Got a connection to {address!r} in a test. Accepted is this machine alone. Take it out of the test.")


def _is_here(host):
    try:
        return host in ("", "localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name that would have to be looked up
        return False


def _helper(name: str):
    # Tests are imported by file (importmode importlib), so helpers beside them are loaded by file, too.
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, _HERE / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@functools.cache
def _asks_for_an_error(function) -> bool:
    return function is not None and "raises(" in inspect.getsource(function)


@pytest.fixture(autouse=True)
def _axes_are_free_in_refusals(request):
    """Switch the check of axes off where a test asks for an error: there the wrong shape is the point, and ours to refuse."""
    if not _asks_for_an_error(getattr(request, "function", None)):
        yield
        return
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(scope="session")
def checkpoints():
    """The helper module that makes random checkpoints: ``make_clip``, ``make_diffusion``, ``write_tokenizer``, ``colours``."""
    return _helper("_checkpoints")


@pytest.fixture(scope="session")
def miniature():
    """The helper module that writes data sets in miniature: ``LAYOUTS``, ``write``, ``write_pair``."""
    return _helper("_layouts")


@pytest.fixture(scope="session")
def errands():
    """The helper module with workers for long jobs, which other processes import as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(_HERE / "runs"))
        yield importlib.import_module("_errands")


@pytest.fixture(scope="session")
def words(checkpoints):
    """Make `Words` from vectors: ``words(vectors, groups, others)``."""
    return checkpoints.words


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
def groupvit_folder(checkpoints, tmp_path_factory):
    """A random GroupViT: 64 pixels in patches of 16, in 6, then 3 groups."""
    return checkpoints.make_groupvit(tmp_path_factory.mktemp("groupvit"))


@pytest.fixture(scope="session")
def groupvit(groupvit_folder):
    """That GroupViT, loaded."""
    from nerveseg.backbones.groupvit import load

    return load(groupvit_folder)


@pytest.fixture(scope="session")
def saved_folder(checkpoints, tmp_path_factory):
    """A folder with what another program computed for the image of `image`: scores with names, and heads."""
    folder = tmp_path_factory.mktemp("saved")
    checkpoints.write_saved(folder / "picture.npz")
    return folder


@pytest.fixture(scope="session")
def dino_folder(checkpoints, tmp_path_factory):
    """A random DINO: 3 blocks, patch 8, 32 pixels."""
    return checkpoints.make_dino(tmp_path_factory.mktemp("dino"))


@pytest.fixture(scope="session")
def dino(dino_folder):
    """That DINO, loaded."""
    from nerveseg.backbones.dino import load

    return load(dino_folder)


@pytest.fixture(scope="session")
def dinov2(checkpoints, tmp_path_factory):
    """A random DINOv2: 3 blocks, patch 14, 56 pixels."""
    from nerveseg.backbones.dino import load

    return load(checkpoints.make_dinov2(tmp_path_factory.mktemp("dinov2")))


@pytest.fixture(scope="session")
def taesd(checkpoints, tmp_path_factory):
    """A random TAESD."""
    from nerveseg.backbones.taesd import load

    return load(checkpoints.make_taesd(tmp_path_factory.mktemp("taesd")))


@pytest.fixture(scope="session")
def image(checkpoints):
    """An image of 90 × 130 pixels."""
    from nerveseg.image.load import load_image

    return load_image(checkpoints.colours(90, 130))


@pytest.fixture(scope="session", autouse=True)
def _coarse_graph():
    """In this process the recipe ``mini`` has a graph of a third of the tokens: whole programs then take a third of the time."""
    from nerveseg import recipe as recipes

    read = recipes.raw

    def raw(recipe):
        name, table = read(recipe)
        return name, {**table, "graph": {**table["graph"], "size": 96}} if str(recipe) == "mini" else table

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "raw", raw)
        yield


@pytest.fixture(scope="session")
def mini(_coarse_graph):
    """The embedded pair with the recipe ``mini``, on its coarse graph."""
    from nerveseg.segmenter import Segmenter

    return Segmenter.from_pretrained("mini")


@pytest.fixture(scope="session")
def shipped():
    """The embedded pair with the recipe ``mini`` as it ships."""
    from nerveseg import recipe as recipes
    from nerveseg.segmenter import Segmenter

    return Segmenter.from_pretrained(recipes.load(Path(recipes.__file__).parent / "recipes" / "mini.toml"))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A stand-in for the hub on this machine, an empty cache, and downloads in pieces small enough to be cut."""
    from huggingface_hub import close_session, constants

    helper = _helper("_hub")
    stand_in = helper.Hub()
    server = helper.serve(stand_in)
    for name, value in (("HF_ENDPOINT", stand_in.endpoint), ("HF_HUB_CACHE", str(tmp_path / "cache")), ("NO_PROXY", "127.0.0.1,localhost")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)
    close_session()
    yield stand_in
    close_session()
    server.shutdown()
    server.server_close()
