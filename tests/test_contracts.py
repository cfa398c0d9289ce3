"""Every module of every kind keeps the contract of its kind, and one that does not is refused by what it lacks."""

from __future__ import annotations

import inspect
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from nerveseg import contracts, registry
from nerveseg.errors import RegistryError


def test_every_kind_has_a_contract():
    assert set(contracts.CONTRACTS) == {*registry.KINDS, "backbones"}


@pytest.mark.parametrize("kind", registry.KINDS)
def test_what_ships_keeps_its_contract(kind):
    for name in registry.names(kind):
        assert contracts.missing(kind, registry.load(kind, name)) == ()


@pytest.mark.parametrize("kind", registry.KINDS)
def test_a_function_of_a_module_takes_what_its_contract_says(kind):
    contract = contracts.CONTRACTS[kind]
    for member, said in vars(contract).items():
        if member.startswith("_") or not inspect.isfunction(said):
            continue
        asked = list(inspect.signature(said).parameters.values())[1:]
        for name in registry.names(kind):
            given = inspect.signature(getattr(registry.load(kind, name), member)).parameters
            plain = [one for one in asked if one.kind is not one.KEYWORD_ONLY]
            assert len([one for one in given.values() if one.kind is not one.KEYWORD_ONLY]) >= len(plain), (name, member)
            assert {one.name for one in asked if one.kind is one.KEYWORD_ONLY} <= set(given), (name, member)


def test_a_module_that_lacks_something_is_refused_by_its_name(monkeypatch):
    half = SimpleNamespace(__name__="theirs.blur", Options=object, on_logits=False, own_size=False)
    point = EntryPoint("blur", "theirs.blur", "nerveseg.refiners")
    monkeypatch.setattr(EntryPoint, "load", lambda _: half)
    monkeypatch.setattr(registry, "from_entry_points", lambda kind: {"blur": point} if kind == "refiners" else {})
    with pytest.raises(RegistryError, match=r"theirs\.blur for refiners 'blur', which lacks refine\. Accepted .*contracts\.Refiner"):
        registry.load("refiners", "blur")
    half.refine = lambda P, image, options: P
    assert registry.load("refiners", "blur") is half
