"""What the pages say is true: every snippet runs, the new file of "adding one" is a kernel, and links lead somewhere."""

from __future__ import annotations

import pkgutil
import re
import shutil
import warnings
from pathlib import Path

import pytest

from nerveseg.recipe import list_recipes
from nerveseg.segmenter import Segmenter
from nerveseg.synthetic import bundled
from nerveseg.synthetic.names import NAMES

_ROOT = Path(__file__).parents[1]
_PAGES = sorted([*_ROOT.glob("*.md"), *(_ROOT / "docs").rglob("*.md")])


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def beside_a_scene(tmp_path, monkeypatch):
    """A folder with scene.png; the embedded pair for every recipe name, on the CPU."""
    shutil.copy(bundled.scenes()[0].path, tmp_path / "scene.png")
    monkeypatch.chdir(tmp_path)
    load = Segmenter.from_pretrained
    monkeypatch.setattr(Segmenter, "from_pretrained", lambda *_, settings=None, **__: load("mini", device="cpu", settings=settings))


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_the_snippets_run(page, beside_a_scene):
    space: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # words that the embedded pair does not know
        for block in _blocks(_ROOT / page, "python"):
            exec(compile(block, page, "exec"), space)
    assert (Path.cwd() / "scene.overlay.png").is_file()


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_every_name_of_the_reference_is_there():
    for page in sorted((_ROOT / "docs" / "reference").glob("*.md")):
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text("utf-8"), re.MULTILINE):
            assert pkgutil.resolve_name(name) is not None, name


def test_every_recipe_has_its_line():
    text = (_ROOT / "docs" / "recipes.md").read_text("utf-8")
    assert [name for name in list_recipes() if f"`{name}`" not in text] == []


def test_every_page_is_in_the_navigation():
    text = (_ROOT / "mkdocs.yml").read_text("utf-8")
    pages = [path.relative_to(_ROOT / "docs").as_posix() for path in (_ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if f"- {page}\n" not in text] == []


def test_marks_of_measured_tables_come_in_pairs():
    for page in _PAGES:
        text = page.read_text("utf-8")
        for name in re.findall(r"<!-- ([a-z-]+) -->", text):
            assert text.count(f"<!-- {name} -->") == text.count(f"<!-- /{name} -->") == 1, (page, name)


def test_the_two_commands_stand_in_the_readme_on_one_line_each():
    text = (_ROOT / "README.md").read_text("utf-8")
    for name in ("try", "test"):
        (command,) = re.findall(rf"<!-- command: {name} -->\n```bash\n(.+)\n```", text)
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -c constraints.txt ")


def test_the_words_of_the_embedded_pair_are_listed():
    text = (_ROOT / "docs" / "embedded-world.md").read_text("utf-8")
    listed = re.search(r"<!-- words -->\n(.*)<!-- /words -->", text, re.DOTALL)
    assert listed is not None
    words = re.sub(r"^(Things|Stuff):$", "", listed[1], flags=re.MULTILINE).replace(".", ",").split(",")
    assert [" ".join(word.split()) for word in words if word.strip()] == list(NAMES)
