"""Old names of arguments, attributes and choices in recipes: they work for one release, and say what to write."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

__all__ = ["CHOICES", "RenamedWarning", "attribute", "in_settings", "in_table", "keywords"]

F = TypeVar("F", bound=Callable[..., Any])

CHOICES: Mapping[str, str] = {
    "labels.source": "labels.name",
    "graph.source": "graph.name",
    "transition.kernel": "kernel.name",
    "walk.solver": "walk.name",
    "masks.rule": "masks.name",
}
"""What the choice of a recipe's table was called → what it is called."""


class RenamedWarning(FutureWarning):
    """A key of a recipe, or a setting, by the name that it had."""


def keywords(**names: str) -> Callable[[F], F]:
    """Take arguments by the names that they had: ``@keywords(picture="image")``.

    >>> @keywords(picture="image")
    ... def size(image):
    ...     return len(image)
    >>> size("abc"), size(image="abc")
    (3, 3)
    """

    def decorate(function: F) -> F:
        called = function.__qualname__.removesuffix(".__call__")

        @functools.wraps(function)
        def renamed(*arguments: Any, **given: Any) -> Any:
            for old, new in names.items():
                if old in given and new not in given:
                    _say(f"{called}({old}=…)", f"{called}({new}=…)")
                    given[new] = given.pop(old)
            return function(*arguments, **given)

        return cast("F", renamed)

    return decorate


def attribute(old: str, new: str) -> Any:
    """Make a property that reads ``new`` where it is asked for by the name it had, ``old``."""

    def get(self: Any) -> Any:
        _say(f"{type(self).__name__}.{old}", f"{type(self).__name__}.{new}")
        return getattr(self, new)

    return property(get, doc=f"What ``{new}`` was called; the old name goes with the next release.")


def in_table(table: dict[str, Any], recipe: str) -> dict[str, Any]:
    """A recipe's tables with the keys of today; each old one is told."""
    for old, new in CHOICES.items():
        (part, knob), (now, name) = old.split("."), new.split(".")
        if isinstance(table.get(part), dict) and knob in table[part] and isinstance(table.setdefault(now, {}), dict):
            _note(f"[{part}] {knob}", f"[{now}] {name}", f"the recipe {recipe!r}")
            table[now] = {name: table[part].pop(knob), **table[now]}
    benchmarks = table.get("benchmarks")
    if isinstance(benchmarks, dict):
        for data, settings in benchmarks.items():
            if isinstance(settings, dict):
                benchmarks[data] = in_settings(settings, f"the recipe {recipe!r}")
    return table


def in_settings(settings: Mapping[str, Any], where: str = "the settings") -> dict[str, Any]:
    """Settings by dotted name, with the names of today; each old one is told."""
    taken = {}
    for name, value in settings.items():
        now = CHOICES.get(name, name) if isinstance(name, str) else name
        if now != name:
            _note(name, now, where)
        taken[now] = value
    return taken


def _note(old: str, new: str, where: str) -> None:
    warnings.warn(
        f"{old} in {where} is called {new} now. Write that; the old name goes with the next release.", RenamedWarning, stacklevel=5
    )


def _say(old: str, new: str) -> None:
    warnings.warn(f"{old} is called {new} now. Write that.", DeprecationWarning, stacklevel=3)
