"""The rules of the house that a machine can check: who may import whom, what is never imported, what no file may say."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_SOURCE = _ROOT / "src" / "nerveseg"

# From the bottom up. A module imports its own package and packages of lower rows, never its own row or a higher one.
_ROWS = (
    ("errors", "contracts"),
    ("registry", "parse", "reprs", "text_files", "_renamed"),
    ("outputs",),
    ("words", "image", "weights", "transition"),
    ("walk",),
    ("backbones",),
    ("labels", "graph"),
    ("masks",),
    ("clicks", "integrations"),
    ("segmentation",),
    ("writers",),
    ("recipe",),
    ("postprocess",),
    ("segmenter",),
    ("refinement",),
    ("synthetic",),
    ("datasets", "runs"),
    ("bench", "batch", "server"),
    ("ui",),
    ("cli",),
    ("__main__", "neighbours", "picture", "world"),  # what packages were called
)
_LEVEL = {package: level for level, row in enumerate(_ROWS) for package in row}
_NEVER = {"torchvision", "timm", "open_clip", "cv2", "mmcv", "mmseg", "albumentations"}
_LONGEST = 500


def _files() -> list[Path]:
    return sorted(_SOURCE.rglob("*.py"))


def _name(path: Path) -> str:
    parts = path.relative_to(_SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def _modules() -> dict[str, Path]:
    return {_name(path): path for path in _files()}


def _imported(node: ast.AST) -> Iterator[str]:
    """Full names that an import statement names; ``from package import module`` names the module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield inner if inner in _modules() else node.module


def _all_imports(path: Path) -> set[str]:
    return {name for node in ast.walk(_tree(path)) for name in _imported(node)}


def _imports_at_load(path: Path) -> set[str]:
    """Imports that run when the module is loaded: not those inside functions or under TYPE_CHECKING."""

    def visit(nodes: list[ast.stmt]) -> Iterator[str]:
        for node in nodes:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or (
                isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            ):
                continue
            yield from _imported(node)
            for inner in ("body", "orelse", "finalbody"):
                yield from visit([child for child in getattr(node, inner, []) if isinstance(child, ast.stmt)])

    return set(visit(_tree(path).body))


def _package(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "nerveseg" and len(parts) > 1 else None


def test_every_package_has_its_place_in_the_order():
    found = {_package(_name(path)) for path in _files()} - {None}
    assert found <= set(_LEVEL), f"give {found - set(_LEVEL)} a row in _ROWS"


@pytest.mark.parametrize("path", _files(), ids=_name)
def test_nothing_imports_upwards(path):
    own = _package(_name(path))
    if own is None:  # the package itself names what it hands out, lazily
        return
    imports = _imports_at_load(path) if own == "contracts" else _all_imports(path)  # contracts name types of all stages, and load none
    others = {_package(name) for name in imports} - {None, own}
    wrong = {other for other in others if _LEVEL[other] >= _LEVEL[own]}
    assert not wrong, f"{own} may not import {sorted(wrong)}"


def test_the_package_itself_imports_nothing_of_its_own_when_loaded():
    assert not {name for name in _imports_at_load(_SOURCE / "__init__.py") if name.startswith("nerveseg")}


def test_there_are_no_circles():
    graph = {
        name: {other for other in _imports_at_load(path) if other in _modules() and other != name} for name, path in _modules().items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", [path for path in _files() if _package(_name(path)) in ("transition", "walk")], ids=_name)
def test_the_walk_and_its_transition_stand_on_torch_alone(path):
    module = _name(path)
    allowed = {"torch", "jaxtyping"} | ({"scipy", "numpy"} if module == "nerveseg.walk.woodbury" else set())
    own = {"errors", "registry", "reprs", _package(module)} | ({"transition"} if _package(module) == "walk" else set())
    for name in _all_imports(path):
        root = name.split(".")[0]
        if root == "nerveseg":
            assert name == "nerveseg" or _package(name) in own, name
        else:
            assert root in allowed or root in sys.stdlib_module_names, name


@pytest.mark.parametrize("path", _files(), ids=_name)
def test_a_module_is_short_and_quiet(path):
    assert len(path.read_text("utf-8").splitlines()) <= _LONGEST
    for node in ast.walk(_tree(path)):
        assert not isinstance(node, (ast.Assert, ast.Global)), f"line {node.lineno}: no assert and no global in the library"
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"line {node.lineno}: a bare except"
        printed = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        assert not printed, f"line {getattr(node, 'lineno', 0)}: no print in the library"


@pytest.mark.parametrize("folder", ["src", "examples", "benchmarks"])
def test_the_libraries_that_need_torchvision_are_never_imported(folder):
    for path in sorted((_ROOT / folder).rglob("*.py")):
        roots = {name.split(".")[0] for node in ast.walk(ast.parse(path.read_text("utf-8"))) for name in _imported(node)}
        assert not roots & _NEVER, path


# Put together from pieces, so that this file does not say what it forbids.
_NOTES = ("method", "methods", "world", "craft", "field", "design")
_FORBIDDEN = re.compile(
    "|".join(
        [
            r"(?<![\w.])/" + r"work\b",
            r"(?<![\w-])shared" + "/",
            r"/tmp/" + "venv",
            r"(?<![\w.])/root" + "/",
            r"(?<![\w/-])(?:" + "|".join(_NOTES) + r")\.md\b",
            "pypi" + r"\.org",
            "python" + "hosted",
            r"download\." + r"pytorch",
        ]
    )
)
_TEXT = {".py", ".md", ".toml", ".txt", ".yml", ".cff", ".css", ".json", ""}
_PLACES = ("src", "tests", "docs", "examples", "benchmarks", ".ci")


def test_no_file_names_a_place_outside_the_project():
    loose = [path for path in _ROOT.iterdir() if path.is_file() and path.suffix in _TEXT and path.name != ".git"]
    inside = [path for place in _PLACES for path in (_ROOT / place).rglob("*") if path.is_file() and path.suffix in _TEXT]
    for path in [*loose, *inside]:
        if "embedded" in path.parts and path.suffix == ".json":  # vocabularies
            continue
        found = _FORBIDDEN.search(path.read_text("utf-8"))
        assert found is None, f"{path.relative_to(_ROOT)} says {found.group()!r}"


def test_texts_of_others_are_read_in_bounds():
    """`json` and `tomllib` leave some texts to foreign errors: only what this package itself has just written is given to them."""
    own = {
        *("parse.py", "server/strict_json.py", "synthetic/train/export.py", "synthetic/bundled/__init__.py", "weights/catalogue.py"),
        *(
            "bench/report/compare.py",
            "cli/recipes.py",
            "batch/job.py",
            "batch/worker.py",
            "runs/plan.py",
            "image/worker.py",
            "image/process.py",
        ),
    }
    found = {
        path.relative_to(_SOURCE).as_posix()
        for path in _files()
        if re.search(r"(?<!strict_)\b(json|tomllib)\.loads?\(", path.read_text("utf-8"))
    }
    assert found == own
