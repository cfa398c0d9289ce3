"""Every file of docs/adding-one.md, taken from the page: it keeps its contract, joins by a name, and does what it says."""

from __future__ import annotations

import csv
import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest
import torch

from nerveseg import contracts, datasets, registry
from nerveseg import recipe as recipes
from nerveseg.segmenter import Segmenter

_PAGE = (Path(__file__).parents[1] / "docs" / "adding-one.md").read_text("utf-8")
_SECTIONS = {
    "labels": ("Label source", "hexcolor"),
    "calibrations": ("Calibration", "power"),
    "graphs": ("Graph", "colors"),
    "kernels": ("Kernel", "cauchy"),
    "walks": ("Solver", "plain"),
    "rules": ("Decision rule", "head_start"),
    "refiners": ("Refiner", "mean"),
    "writers": ("Writer", "shares"),
    "datasets": ("Data set", "halves"),
    "engines": ("Engine", "one_by_one"),
    "ablations": ("Ablation", "beta"),
    "backbones": ("Backbone", "palette"),
}
"""Kind → its section, and the name that its file has there."""


def _block(section: str, language: str) -> str:
    (text,) = re.findall(rf"^## {section}$.*?^```{language}\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL)[:1]
    return text


@pytest.fixture(scope="module")
def pages():
    """The page's modules by kind; each joins the registry, as another distribution's would."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        for kind, (section, name) in _SECTIONS.items():
            module = ModuleType(f"page_{name}")
            patch.setitem(sys.modules, module.__name__, module)  # dataclasses look their module up
            exec(compile(_block(section, "python"), f"{name}.py", "exec"), vars(module))
            made[kind] = module
        joined = registry.from_entry_points

        def ours(kind):
            name = _SECTIONS.get(kind, ("", ""))[1]
            return {**joined(kind), **({name: EntryPoint(name, f"page_{name}", f"nerveseg.{kind}")} if name else {})}

        patch.setattr(registry, "from_entry_points", ours)
        yield made


@pytest.fixture(scope="module")
def recipe(pages, tmp_path_factory):
    """The page's recipe, with every other stage of the page's in it."""
    path = tmp_path_factory.mktemp("page") / "colors-by-name.toml"
    path.write_text(_block("Method", "toml"), "utf-8")
    return recipes.load(
        path,
        {
            "kernel.name": "cauchy",
            "calibration.name": "power",
            "walk.name": "plain",
            "masks.name": "head_start",
            "refiner.name": "mean",
        },
    )


def test_the_page_has_a_row_and_a_file_for_every_kind():
    assert set(_SECTIONS) == set(contracts.CONTRACTS)
    for section, _ in (*_SECTIONS.values(), ("Method", "")):
        assert f"[{section.lower()}](#{section.lower().replace(' ', '-')})" in _PAGE
    told = re.search(r"^The kinds are (.*)\.$", _PAGE, re.MULTILINE)[1]
    assert set(re.findall(r"`(\w+)`", told)) == {*registry.KINDS, "backbones", "recipes"}


@pytest.mark.parametrize("kind", _SECTIONS)
def test_each_keeps_its_contract_and_joins_by_its_name(pages, kind):
    assert contracts.missing(kind, pages[kind]) == ()
    name = _SECTIONS[kind][1]
    if kind != "backbones":
        assert name in registry.names(kind)
    if kind not in ("kernels", "backbones"):  # the kernel ships, under this name
        assert registry.load(kind, name) is pages[kind]


def test_a_recipe_of_nothing_but_the_page_labels_an_image(recipe, image, tmp_path):
    segmenter = Segmenter.from_pretrained(recipe, device="cpu")
    seen = torch.as_tensor(image.pixels.reshape(-1, 3).copy()).float()
    low, high = ("#" + bytes(int(value) for value in seen.quantile(q, dim=0)).hex() for q in (0.1, 0.9))
    result = segmenter(image, [low, high], background=["#7f7f7f"])
    assert set(result.segmentation.unique().tolist()) <= {0, 1, 2}
    assert result.walk.bound <= 1e-3
    torch.testing.assert_close(result.refined.sum(0), torch.ones(image.size), atol=1e-4, rtol=0)
    (path,) = registry.load("writers", "shares").write(result, tmp_path / "a.shares.csv", None)
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    assert {row["label"]: float(row["share"]) for row in rows} == pytest.approx(dict(result.shares()))


def test_the_data_set_opens(pages):
    data = datasets.open("halves")
    image, mask = data.read(data.items[3])
    assert (image.size, mask.shape, len(data)) == ((32, 48), (32, 48), 8)
    assert (mask[:, :24] == 0).all()
    assert (mask[:, 24:] == 1).all()


def test_the_engine_does_each_item_once(pages, errands, tmp_path):
    from nerveseg.runs.worker import Record

    class Worker:
        def start(self):
            pass

        def read(self, item):
            return item.upper()

        def work(self, item, read):
            return Record({"read": read})

        def stop(self):
            pass

    module = registry.load("engines", "one_by_one")
    found = list(module.execute(Worker, ("a", "b"), workers=1, prefetch=0, options=module.Options(), stop=lambda: False))
    assert [(outcome.item, outcome.record.result) for outcome in found] == [("a", {"read": "A"}), ("b", {"read": "B"})]


def test_the_ablation_has_variants(pages):
    variants = registry.load("ablations", "beta").variants(None)
    assert registry.load("ablations", "beta").reference in [variant.name for variant in variants]


def test_the_backbone_reads_a_folder(pages, tmp_path):
    from nerveseg import backbones

    (tmp_path / "palette.json").write_text('{"red": [2, 0, 0]}', "utf-8")
    palette = backbones.load("palette", tmp_path)
    assert palette.text(["red"], ["{}"]).tolist() == [[1, 0, 0]]
    assert palette.unknown(["red", "mauve"]) == ("mauve",)
