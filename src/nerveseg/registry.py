"""Find a stage's module by name, verify its contract, and declare and check its options.

One new file adds a label source, calibration, graph, kernel, solver, decision rule, refiner or writer: a *kind* is a package, and its
names are the module files in it, listed without importing them. Other distributions join with an entry point in the group
``nerveseg.<kind>`` whose value is a module. A stage module owns a frozen ``Options`` dataclass whose fields are made with `knob`, so
that default, range, direction and source of every number stand in one place and reach the command line and the docs from there.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import math
import pkgutil
import types
import typing
import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from nerveseg import contracts
from nerveseg.errors import OptionError, RegistryError

__all__ = ["KINDS", "check", "from_entry_points", "knob", "knobs", "load", "meant", "names", "near", "options", "shown"]

KINDS: Mapping[str, str] = {
    "labels": "nerveseg.labels",
    "calibrations": "nerveseg.labels.calibrations",
    "graphs": "nerveseg.graph",
    "kernels": "nerveseg.transition.kernels",
    "walks": "nerveseg.walk",
    "rules": "nerveseg.masks.rules",
    "refiners": "nerveseg.masks.refiners",
    "writers": "nerveseg.writers",
    "datasets": "nerveseg.datasets",
    "engines": "nerveseg.runs.engines",
    "ablations": "nerveseg.bench.ablate",
}
"""Kind → the package whose module files are its names (files that start with ``_``, packages, and ``base`` are not names)."""

_LINE = 80  # letters of a value that a message shows
_HUGE = 1 << 63  # no tensor counts so far


def names(kind: str) -> tuple[str, ...]:
    """List the names of a kind, sorted, without importing any of them."""
    package = find_spec(_package(kind))
    folders = package.submodule_search_locations if package else None
    found = {
        module.name
        for module in pkgutil.iter_modules(list(folders or ()))
        if not module.ispkg and not module.name.startswith("_") and module.name != "base"
    }
    found.update(from_entry_points(kind))
    return tuple(sorted(found))


def load(kind: str, name: str) -> ModuleType:
    """Import the one module that answers to ``name``, and verify that it keeps the contract of its kind (`nerveseg.contracts`).

    Raises:
        RegistryError: no such name, with those that are accepted; or a module that lacks a member, which is named.
    """
    accepted = names(kind)
    if not isinstance(name, str) or name not in accepted:
        raise RegistryError(f"Got {shown(name)} for {kind}. Accepted are {', '.join(accepted) or 'none yet'}. {meant(name, accepted)}")
    point = from_entry_points(kind).get(name)
    module = importlib.import_module(f"{_package(kind)}.{name}") if point is None else point.load()
    if lacking := contracts.missing(kind, module):
        raise RegistryError(
            f"Got the module {getattr(module, '__name__', module)} for {kind} {name!r}, which lacks {', '.join(lacking)}. Accepted is a "
            f"module that keeps nerveseg.contracts.{contracts.CONTRACTS[kind].__name__}. Add what is lacking."
        )
    for member, default in contracts.OPTIONAL.get(kind, {}).items():
        vars(module).setdefault(member, default)
    return module


def meant(given: Any, accepted: Iterable[str], otherwise: str = "Choose one of them.") -> str:
    """The last sentence of a message about a name: the accepted one that it is nearest to, whatever its case, dashes and spaces.

    >>> meant("COCO", ["coco", "voc"])
    "Did you mean 'coco'?"
    """
    if not isinstance(given, str) or not _folded(given):
        return otherwise
    plain = {_folded(name): name for name in reversed(list(accepted))}
    word = _folded(given)
    near = [word] if word in plain else difflib.get_close_matches(word, plain, n=1)
    if not near:  # COCO JSON, png8: a name inside what was given, or the other way round
        near = [name for name in plain if len(name) > 2 and name in word] or [name for name in plain if len(word) > 2 and word in name]
    return f"Did you mean {plain[near[0]]!r}?" if near else otherwise


def _folded(name: str) -> str:
    return name.strip().casefold().replace("-", "_").replace(" ", "_").lstrip(".")


@cache  # reading the metadata of all installed distributions takes 5 ms, and a decode asks some ten times
def from_entry_points(kind: str) -> Mapping[str, EntryPoint]:
    """What other distributions bring under a kind (also ``backbones`` and ``recipes``), by name: entry points in ``nerveseg.<kind>``."""
    return {point.name: point for point in entry_points(group=f"nerveseg.{kind}")}


def _package(kind: str) -> str:
    if kind not in KINDS:
        raise RegistryError(f"Got the kind {kind!r}. Accepted are {', '.join(KINDS)}. Use one of them.")
    return KINDS[kind]


def knob(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
    above: float | None = None,
    choices: tuple[Any, ...] = (),
    source: str = "",
    was: str = "",
) -> Any:
    """Declare one field of an ``Options`` dataclass.

    Args:
        default: the value when nothing is said.
        doc: what it does and in which direction ("larger: ...").
        low: smallest accepted value.
        high: largest accepted value; ``math.inf`` accepts infinity too, which is refused otherwise.
        below: accepted values lie below it.
        above: accepted values lie above it.
        choices: the accepted values, for a named choice.
        source: equation, paper or measurement that the default comes from.
        was: the name that it had; taken with a DeprecationWarning for one release.
    """
    metadata = {"doc": doc, "low": low, "high": high, "below": below, "above": above, "choices": choices, "source": source, "was": was}
    return dataclasses.field(default=default, metadata=metadata)


def knobs(cls: type) -> tuple[dataclasses.Field[Any], ...]:
    """The fields of an ``Options`` dataclass, in order."""
    return dataclasses.fields(cls)


def check(value: Any, where: str = "") -> None:
    """Check every knob of an ``Options`` instance against its declared type and range; raises `OptionError`."""
    hints = typing.get_type_hints(type(value))
    for field in dataclasses.fields(value):
        name = f"{where}.{field.name}" if where else field.name
        _check_one(getattr(value, field.name), hints[field.name], field.metadata, name)


def options(cls: type, given: Mapping[str, Any], where: str = "") -> Any:
    """Build ``cls`` from a mapping: unknown names, wrong types and values out of range raise `OptionError`."""
    fields = {field.name for field in dataclasses.fields(cls)}
    given = _by_new_names(cls, given, where)
    for name in given:
        if name not in fields:
            place = f" for {where}" if where else ""
            hint = near(name, fields) or "Leave it out."
            raise OptionError(f"Got the option {shown(name)}{place}. Accepted are {', '.join(sorted(fields)) or 'none'}. {hint}")
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name in given:  # before the class is made, so that a wrong type is told in our words whoever else checks types
            _check_one(given[field.name], hints[field.name], field.metadata, f"{where}.{field.name}" if where else field.name)
    return cls(**given)


def _by_new_names(cls: type, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Knobs by their present names; an old one is told."""
    now = {field.metadata["was"]: field.name for field in dataclasses.fields(cls) if field.metadata.get("was")}
    taken = dict(given)
    for old in [name for name in given if name in now and now[name] not in given]:
        warnings.warn(f"{where or 'the option'} {old!r} is called {now[old]!r} now. Write that.", DeprecationWarning, stacklevel=4)
        taken[now[old]] = taken.pop(old)
    return taken


def near(given: Any, accepted: Iterable[str]) -> str:
    """Ask whether the accepted name that is nearest was meant; empty where none is near. As `meant`.

    >>> near("templatez", ["templates", "alpha"])
    "Did you mean 'templates'?"
    """
    return meant(given, sorted(accepted), "")


def shown(value: Any) -> str:
    """A value for a message, of any kind and never longer than a line.

    >>> shown("cat"), len(shown("x" * 9_999))
    ("'cat'", 80)
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits, or brackets without end
        text = f"a {type(value).__name__} that is too large to be written"
    return text if len(text) <= _LINE else f"{text[: _LINE - 1]}…"


def _check_one(value: Any, hint: Any, rule: Mapping[str, Any], name: str) -> None:
    accepted = _accepted(_plain(hint), rule)
    if value is None and type(None) in _kinds(hint):
        return
    if not _fits(value, hint):
        raise OptionError(f"Got {name} = {shown(value)}. Accepted is {accepted}. Give a value of that type.")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not _in_range(value, rule):
        raise OptionError(f"Got {name} = {shown(value)}. Accepted is {accepted}. Choose a value in that range.")
    if rule.get("choices") and value not in rule["choices"]:
        raise OptionError(f"Got {name} = {shown(value)}. Accepted is {accepted}. {meant(value, map(str, rule['choices']))}")


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a hint."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _plain(hint: Any) -> tuple[type, ...]:
    return tuple(typing.get_origin(kind) or kind for kind in _kinds(hint) if kind is not type(None))


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value has a type that is meant, that of a tuple's entries included; a whole number is a float, and True is no number."""
    return any(_is_one(value, kind) for kind in _kinds(hint))


def _is_one(value: Any, kind: Any) -> bool:
    plain = typing.get_origin(kind) or kind
    if plain is typing.Any:
        return True
    if plain in (int, float):
        number = isinstance(value, int) or (plain is float and isinstance(value, float))
        return number and not isinstance(value, bool) and (isinstance(value, float) or abs(value) < _HUGE)
    if plain is tuple:  # of plain values, as TOML's lists are read
        return isinstance(value, tuple) and all(_is_entry(entry) for entry in value)
    return isinstance(value, plain)


def _is_entry(value: Any, lists: int = 2) -> bool:
    """Whether a value may stand in a list: a text, a finite number, or, so many levels deep, a list of them."""
    if isinstance(value, (list, tuple)):
        return lists > 0 and all(_is_entry(entry, lists - 1) for entry in value)
    return isinstance(value, (str, bool)) or (_is_one(value, float) and math.isfinite(value))


def _in_range(value: Any, rule: Mapping[str, Any]) -> bool:
    low, high, above, below = (rule.get(edge) for edge in ("low", "high", "above", "below"))
    if math.isnan(value) or (math.isinf(value) and high != math.inf):
        return False
    return (
        (low is None or value >= low)
        and (high is None or value <= high)
        and (above is None or value > above)
        and (below is None or value < below)
    )


def _accepted(plain: tuple[type, ...], rule: Mapping[str, Any]) -> str:
    if rule.get("choices"):
        return "one of " + ", ".join(repr(choice) for choice in rule["choices"])
    words = " or ".join(kind.__name__ for kind in plain)
    if rule.get("high") == math.inf:
        words, rule = f"{words} or inf", {**rule, "high": None}
    edges = [("at least", "low"), ("above", "above"), ("at most", "high"), ("below", "below")]
    limits = [f"{text} {rule[edge]:g}" for text, edge in edges if rule.get(edge) is not None]
    return f"a {words} {' and '.join(limits)}".rstrip()
