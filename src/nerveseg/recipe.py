"""A recipe: one named choice for every stage, with that stage's knobs, in one TOML file.

A recipe has these tables. In those of stages, ``name`` chooses the file, and the other keys are knobs of that file's ``Options``::

    [weights]      clip, diffusion: what `nerveseg.weights.locate` takes       [transition]  knobs of S that belong to no kernel
    [words]        templates = "..."                                           [kernel]      name = "..."
    [labels]       name = "..."                                                [walk]        name = "...", or "none"
    [calibration]  name = "..."                                                [masks]       name = "...", and what belongs to no rule
    [graph]        name = "...", or "none"                                     [refiner]     name = "..."

(min_area, upsample, background and temperature, see `Recipe`), and, where a method has other settings for a benchmark, a table of changed
knobs for it: ``[benchmarks.voc21]``, ``"labels.scale" = 65.0``. ``format`` is the version of this layout, 1; a
file of a later one is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from nerveseg import _renamed, backbones, parse, registry
from nerveseg.errors import NerveSegError, OptionError, RecipeError, RegistryError
from nerveseg.reprs import brief
from nerveseg.words.prompts import template_set

__all__ = ["BENCHMARKS", "Recipe", "Stage", "beside", "list_recipes", "load", "raw", "with_absolute_paths"]

_STAGES = {
    "labels": ("labels", "maskclip"),
    "calibration": ("calibrations", "none"),
    "graph": ("graphs", "none"),
    "kernel": ("kernels", "exp"),
    "walk": ("walks", "infinite"),
    "masks": ("rules", "argmax"),
    "refiner": ("refiners", "none"),
}
"""Table → the registry kind, the choice when nothing is said."""

BENCHMARKS = ("voc21", "voc20", "context60", "context59", "coco-object", "coco-stuff", "ade20k", "cityscapes")
"""The benchmarks that a recipe may have settings for."""

_MAY_BE_NONE = frozenset({"graph", "walk"})
_TABLES = frozenset({*_STAGES, "weights", "words", "transition"})
_HEAD = ("title", "description", "source", "format")
_FORMAT = 1
_LONGEST = 1 << 20  # bytes of a recipe's file
_MASKS = {"upsample": ("probabilities", "logits"), "background": ("rest", "best")}
"""Choices of [masks] that belong to no rule; the first is the default."""
_OWN = ("min_area", "temperature", *_MASKS)
"""Knobs of [masks] that belong to no rule."""


@dataclass(frozen=True)
class Stage:
    """One chosen stage file: its registry name, its module, and a checked instance of its ``Options``."""

    name: str
    module: ModuleType
    options: Any

    __repr__ = brief


@dataclass(frozen=True)
class Recipe:
    """Everything that `Segmenter` needs to know; make one with `load`.

    Attributes:
        name: the file's name without its ending.
        table: the recipe as it was composed, plain values only, two levels deep.
        weights: backbone ("clip", "diffusion") → reference.
        templates: name of the prompt set.
        labels: label source.
        calibration: what is done to the rows of G before the walk.
        graph: graph source, or None: nothing walks.
        transition: knobs of S.
        kernel: kernel and its knobs.
        walk: solver, or None: P = G.
        rule: decision rule.
        refiner: refiner at image size.
        min_area: smallest part that stays, in pixels; 0 keeps all.
        upsample: what reaches image size: "probabilities", or, where nothing walks, "logits", before their softmax.
        background: with "logits": the background's map is what the classes leave ("rest"), or its best string ("best").
        temperature: T of the scores that are shown, p^(1/T) divided by their sum. Larger: less sure; no label changes. 1: as they are.
    """

    name: str
    table: Mapping[str, Any]
    weights: Mapping[str, str]
    templates: str
    labels: Stage
    calibration: Stage
    graph: Stage | None
    transition: Any
    kernel: Stage
    walk: Stage | None
    rule: Stage
    refiner: Stage
    min_area: int
    upsample: str
    background: str
    temperature: float

    __repr__ = brief

    @property
    def title(self) -> str:
        """One line on what it is."""
        return str(self.table.get("title", self.name))

    @property
    def digest(self) -> str:
        """Sha256 of every choice and knob, defaults included; title and comments do not count."""
        tables = {name: self._filled(name) for name in _TABLES}
        for old, new in _renamed.CHOICES.items():  # by the names that choices had, so that a recipe's digest stays what it was
            (part, knob), (now, name) = old.split("."), new.split(".")
            tables[part][knob] = tables[now].pop(name)
        return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()

    @property
    def needs(self) -> tuple[str, ...]:
        """The backbones that its stages read."""
        return tuple(dict.fromkeys(backbone for stage in self.stages for backbone in stage))

    @property
    def fetched_as(self) -> str | None:
        """What ``nerveseg weights fetch`` is given for its weights: its name, where the recipe of that name that ships has the same."""
        ships = self.name in list_recipes() and raw(self.name)[1].get("weights", {}) == dict(self.weights)
        return self.name if ships else None

    @property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """The backbones that each stage reads: those of the label source, then those of the graph."""
        return tuple(tuple(stage.module.needs) for stage in (self.labels, self.graph) if stage)

    @property
    def needs_twice(self) -> frozenset[str]:
        """The backbones that both the label source and the graph read."""
        every = [backbone for stage in self.stages for backbone in set(stage)]
        return frozenset(backbone for backbone in every if every.count(backbone) > 1)

    def changed(self, settings: Mapping[str, Any]) -> Recipe:
        """Change knobs by dotted name, as ``{"walk.alpha": 0.95}``; choosing another stage file drops the old one's knobs."""
        return _compose(self.name, _merged(self.table, settings)) if settings else self

    @property
    def benchmarks(self) -> tuple[str, ...]:
        """The benchmarks for which the method has settings of its own."""
        return tuple(self.table.get("benchmarks", {}))

    def for_benchmark(self, name: str) -> Recipe:
        """The recipe with the settings that the method has for a benchmark; itself where it has none."""
        return self.changed(self.table.get("benchmarks", {}).get(name, {}))

    def to_toml(self) -> str:
        """Write the recipe out, every knob included, so that a run can be repeated from the text alone."""
        kept = {key: value for key, value in self.table.items() if key != "benchmarks"}
        filled = {**kept, **{name: self._filled(name) for name in sorted(_TABLES)}}  # a set's own order changes from process to process
        heads = [f"{key} = {_value(value)}" for key, value in filled.items() if not isinstance(value, Mapping)]
        tables = [
            "\n".join([f"[{key}]", *(f"{inner} = {_value(value)}" for inner, value in table.items() if value is not None)])
            for key, table in filled.items()
            if isinstance(table, Mapping) and table
        ]
        return "\n\n".join(["\n".join(heads), *tables]).strip() + "\n"

    def tables(self) -> dict[str, dict[str, Any]]:
        """Every knob by table, for records in JSON: what two runs differ in can be named. JSON has no infinity: it is the text ``inf``."""
        told = parse.from_toml(self.to_toml())
        return {
            name: {knob: str(value) if isinstance(value, float) and math.isinf(value) else value for knob, value in table.items()}
            for name, table in told.items()
            if isinstance(table, Mapping)
        }

    def _filled(self, name: str) -> dict[str, Any]:
        shared = {knob: value for knob, value in dataclasses.asdict(self.transition).items() if knob != "kernel"}
        plain = {"weights": dict(self.weights), "words": {"templates": self.templates}, "transition": shared}
        if name in plain:
            return plain[name]
        stage: Stage | None = {"masks": self.rule}.get(name) or getattr(self, name, None)
        knobs = dataclasses.asdict(stage.options) if stage else {}
        extra = {knob: getattr(self, knob) for knob in ("min_area", "upsample", "background", "temperature")} if name == "masks" else {}
        return {"name": stage.name if stage else "none", **knobs, **extra}


def list_recipes() -> tuple[str, ...]:
    """Names of the recipes that come with the package, and of those that other distributions bring (entry points ``nerveseg.recipes``)."""
    return tuple(sorted({*_shipped(), *registry.from_entry_points("recipes")}))


def _shipped() -> list[str]:
    folder = files("nerveseg") / "recipes"
    return [entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")]


def _theirs(recipe: str | Path) -> Path | None:
    """The file of a recipe that another distribution brings; names that ship come first."""
    point = None if str(recipe) in _shipped() else registry.from_entry_points("recipes").get(str(recipe))
    return None if point is None else Path(point.load())


def raw(recipe: str | Path) -> tuple[str, dict[str, Any]]:
    """Read a recipe's name and tables without composing it: a packaged name, a .toml file, or a folder that holds ``recipe.toml``.

    Raises:
        RecipeError: no such recipe, or a file that is not TOML.
    """
    if not isinstance(recipe, (str, Path)) or "\0" in str(recipe):
        raise RecipeError(f"Got the recipe {registry.shown(recipe)}. Accepted is a name, a .toml file or a folder. Give one as a string.")
    path = Path(recipe)
    if _is_folder(path):
        path /= "recipe.toml"
    if path.suffix == ".toml":
        name, text = path.stem if path.stem != "recipe" else path.parent.resolve().name, _read(path)
    elif (theirs := _theirs(recipe)) is not None:
        name, text = str(recipe), _read(theirs)
    elif str(recipe) in list_recipes():
        name, text = str(recipe), (files("nerveseg") / "recipes" / f"{recipe}.toml").read_text("utf-8")
    else:
        hint = registry.meant(str(recipe).replace("_", "-"), list_recipes(), "List them with: nerveseg recipes list.")
        known = ", ".join(list_recipes())
        raise RecipeError(f"Got the recipe {registry.shown(str(recipe))}. Accepted are {known}, a .toml file, or a folder with one. {hint}")
    try:
        return name, _renamed.in_table(parse.from_toml(text), name)
    except ValueError as error:
        raise RecipeError(f"Got the recipe {recipe}, which cannot be read: {error}. Accepted is TOML. Mend it there.") from error


def load(recipe: str | Path | Recipe, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe, change it, and check every knob.

    Args:
        recipe: a packaged name, a .toml file, a folder with ``recipe.toml``, or a Recipe.
        settings: changes by dotted name, as ``{"walk.alpha": 0.95}``.

    Raises:
        RecipeError: no such recipe, or a table that does not exist. OptionError: a knob. RegistryError: a stage file.
    """
    if isinstance(recipe, Recipe):
        return recipe.changed(settings or {})
    name, table = raw(recipe)
    _check_keys(name, table)
    _check_benchmarks(name, table)
    return _compose(name, _merged(table, settings or {}))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name longer than any
        return False


def _read(path: Path) -> str:
    try:
        return parse.text_of(path, most=_LONGEST)
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"Got the recipe file {path}, which cannot be read ({error}). Accepted is a TOML file. Check the path."
        ) from error


def _merged(table: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    settings = _renamed.in_settings(settings)
    merged = {key: dict(value) if isinstance(value, Mapping) else value for key, value in table.items()}
    for dotted in settings:
        part, _, knob = dotted.partition(".") if isinstance(dotted, str) else ("", "", "")
        if part not in _TABLES or not knob or "." in knob:
            hint = registry.near(part, _TABLES) or "Name one of them."
            raise OptionError(
                f"Got the setting {registry.shown(dotted)}. Accepted are TABLE.KNOB with {', '.join(sorted(_TABLES))}. {hint}"
            )
    for dotted, value in settings.items():
        part, _, knob = dotted.partition(".")
        inner = merged.setdefault(part, {})
        if part in _STAGES and knob == "name" and inner.get(knob) != value:
            _drop(merged, part, value, keep={key.partition(".")[2] for key in settings if key.startswith(f"{part}.")})
        merged[part][knob] = value
    return merged


def _drop(merged: dict[str, Any], part: str, value: Any, keep: set[str]) -> None:
    """Forget the old stage's knobs, but for those that the new one has too."""
    kind, _ = _STAGES[part]
    if value == "none" and part in _MAY_BE_NONE:
        merged[part] = {"name": value}
        return
    try:
        fields = {field.name for field in registry.knobs(registry.load(kind, value).Options)}
    except RegistryError:
        return  # composing says so with the accepted names
    same = set() if part == "kernel" else fields  # a knob of one kernel means another thing in the next
    merged[part] = {key: old for key, old in merged[part].items() if key in same | keep | {"name", *_OWN}}


def _compose(name: str, table: Mapping[str, Any]) -> Recipe:
    _check_keys(name, table)
    # Imported here: composing needs torch, listing recipes does not.
    from nerveseg.masks.temperature import check as check_temperature
    from nerveseg.transition.options import Options as TransitionOptions

    masks = dict(table.get("masks", {}))
    min_area = _whole(masks.pop("min_area", 0), "masks.min_area")
    temperature = check_temperature(masks.pop("temperature", 1.0), "masks.temperature")
    shown = {key: _one_of(masks.pop(key, choices[0]), choices, f"masks.{key}") for key, choices in _MASKS.items()}
    kernel = _some(_stage(table, "kernel"))
    transition = registry.options(TransitionOptions, {**_listed(table.get("transition", {})), "kernel": kernel.name}, "transition")
    labels, graph, walk = _some(_stage(table, "labels")), _stage(table, "graph"), _stage(table, "walk")
    if shown["upsample"] == "logits" and graph is not None and walk is not None:
        raise OptionError(
            f"Got masks.upsample = 'logits' in the recipe {name!r}, in which something walks. Accepted is 'probabilities' there. "
            "Set it, or walk.name = 'none'."
        )
    return Recipe(
        name=name,
        table=MappingProxyType({key: dict(value) if isinstance(value, Mapping) else value for key, value in table.items()}),
        weights=MappingProxyType(_weights(table.get("weights", {}), [*labels.module.needs, *(graph.module.needs if graph else ())])),
        templates=_templates(table.get("words", {})),
        labels=labels,
        calibration=_some(_stage(table, "calibration")),
        graph=graph,
        transition=transition,
        kernel=kernel,
        walk=walk,
        rule=_some(_stage({"masks": masks}, "masks")),
        refiner=_some(_stage(table, "refiner")),
        min_area=min_area,
        upsample=shown["upsample"],
        background=shown["background"],
        temperature=temperature,
    )


def _check_keys(name: str, table: Mapping[str, Any]) -> None:
    if (stated := table.get("format", _FORMAT)) != _FORMAT or type(stated) is not int:
        raise RecipeError(
            f"Got the recipe {name!r} of format {registry.shown(stated)}. Accepted is {_FORMAT}. Upgrade nerveseg, or use an older recipe."
        )
    known = {*_TABLES, *_HEAD, "benchmarks"}
    for key, value in table.items():
        if key in known and (key in _HEAD) != isinstance(value, Mapping):
            continue
        hint = "" if key in known else registry.near(key, known)
        ending = hint or (f"Write it as [{key}]." if key in known and key not in _HEAD else "Take it out, or mend it.")
        raise RecipeError(f"Got {registry.shown(key)} in the recipe {name!r}. Accepted are {', '.join(sorted(known))}. {ending}")
    for key in _HEAD:
        if key != "format" and not isinstance(table.get(key, ""), str):
            raise RecipeError(f"Got {key} = {registry.shown(table[key])} in the recipe {name!r}. Accepted is a text. Put it in quotes.")


def _check_benchmarks(name: str, table: Mapping[str, Any]) -> None:
    """Compose the recipe for every benchmark that it has settings for: a slip in them is told now, not on the day of that run."""
    known = dict.fromkeys((*BENCHMARKS, *(data.replace("_", "-") for data in registry.names("datasets"))))
    rest = {key: value for key, value in table.items() if key != "benchmarks"}
    for benchmark, settings in table.get("benchmarks", {}).items():
        if benchmark not in known:
            hint = registry.near(benchmark, known) or "Take it out."
            raise RecipeError(f"Got [benchmarks.{benchmark}] in the recipe {name!r}. Accepted are {', '.join(known)}. {hint}")
        if not isinstance(settings, Mapping):
            raise RecipeError(
                f"Got benchmarks.{benchmark} = {registry.shown(settings)} in the recipe {name!r}. Accepted is a table of settings. "
                f'Write [benchmarks.{benchmark}], and below it "labels.scale" = 65.0.'
            )
        try:
            _compose(name, _merged(rest, settings))
        except NerveSegError as error:
            raise RecipeError(f"Got [benchmarks.{benchmark}] in the recipe {name!r} with a setting that does not fit: {error}") from error


def _weights(table: Mapping[str, Any], needs: list[str]) -> dict[str, str]:
    known = dict.fromkeys((*backbones.kinds(), *needs))
    for kind, reference in table.items():
        if kind not in known:
            raise OptionError(
                f"Got weights.{kind}. Accepted are {', '.join(f'weights.{one}' for one in known)}. "
                f"{registry.near(kind, known) or 'Take it out.'}"
            )
        if not isinstance(reference, (str, Path)) or not str(reference).strip():
            raise OptionError(
                f"Got weights.{kind} = {registry.shown(reference)}. Accepted is a folder, a hub id owner/name or a name of the catalogue. "
                "Give it as a text."
            )
    return {kind: str(reference) for kind, reference in table.items()}


def _templates(table: Mapping[str, Any]) -> str:
    for knob in table:
        if knob != "templates":
            raise OptionError(f"Got words.{knob}. Accepted is words.templates. {registry.near(knob, ['templates']) or 'Take it out.'}")
    given = table.get("templates", "plain")
    if not isinstance(given, str):
        raise OptionError(
            f"Got words.templates = {registry.shown(given)}. Accepted is the name of a set, or a sentence with {{}}. Give one."
        )
    template_set(given)
    return given


def _stage(table: Mapping[str, Any], part: str) -> Stage | None:
    kind, default = _STAGES[part]
    inner = _listed(table.get(part, {}))
    name = inner.pop("name", default)
    if name == "none" and part in _MAY_BE_NONE:
        return None
    module = registry.load(kind, name)
    if part == "masks":
        _check_masks(name, inner, {field.name for field in registry.knobs(module.Options)})
    return Stage(name, module, registry.options(module.Options, inner, part))


def _check_masks(rule: str, inner: Mapping[str, Any], fields: set[str]) -> None:
    """Refuse what is neither a knob of the rule nor one of the table's own, which the rule's Options would not list."""
    own = ("name", *_OWN)
    for key in inner:
        if key not in fields:
            hint = registry.near(key, {*fields, *own}) or "Leave it out."
            raise OptionError(f"Got masks.{key} with the rule {rule!r}. Accepted are {', '.join(sorted({*fields, *own}))}. {hint}")


def with_absolute_paths(recipe: str | Path, chosen: Recipe) -> Recipe:
    """The recipe that was read from ``recipe`` with the weights that lie beside that file named by full paths: it can go anywhere."""
    found = {kind: beside(recipe, reference) for kind, reference in chosen.weights.items()}
    return chosen.changed({f"weights.{kind}": str(Path(path).resolve()) for kind, path in found.items() if path != chosen.weights[kind]})


def placed_at(chosen: Recipe, weights: Mapping[str, str]) -> str:
    """A recipe's text with weights that lie elsewhere, its settings for benchmarks included.

    Args:
        chosen: the recipe.
        weights: kind → reference, such as ``"./clip-b16"`` for a folder beside the file.
    """
    tables = [
        "\n".join([f"[benchmarks.{name}]", *(f"{json.dumps(knob)} = {_value(value)}" for knob, value in settings.items())]) + "\n"
        for name, settings in chosen.table.get("benchmarks", {}).items()
    ]
    return "\n".join([chosen.changed({f"weights.{kind}": place for kind, place in weights.items()}).to_toml(), *tables])


def beside(recipe: str | Path | Recipe, reference: str) -> str:
    """Weights named relative to a recipe's own folder, so that a folder with recipe and checkpoints can be moved as one."""
    if isinstance(recipe, Recipe):
        return reference
    path = Path(recipe)
    if not _is_folder(path) and path.suffix != ".toml":
        path = _theirs(recipe) or path
    inside = (path if path.is_dir() else path.parent) / reference
    return str(inside) if path.suffix in (".toml", "") and reference.startswith("./") and inside.is_dir() else reference


def _some(stage: Stage | None) -> Stage:
    if stage is None:
        raise RecipeError("Got no stage where one is needed. Accepted is a name of the registry. Name one.")
    return stage


def _listed(inner: Mapping[str, Any]) -> dict[str, Any]:
    """TOML knows lists only; the knobs are tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in inner.items()}


def _one_of(value: Any, choices: tuple[str, ...], name: str) -> str:
    if value not in choices:
        raise OptionError(f"Got {name} = {registry.shown(value)}. Accepted are {', '.join(map(repr, choices))}. Choose one of them.")
    return str(value)


def _whole(value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise OptionError(f"Got {name} = {registry.shown(value)}. Accepted is a whole number of at least 0. Give pixels.")
    return value


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_value(entry) for entry in value) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
