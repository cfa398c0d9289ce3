"""What every data set file declares, and that its own declarations hold together."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

from nerveseg import datasets, registry
from nerveseg.datasets import IGNORE, PROTOCOLS, UNKNOWN, DataSet, classes
from nerveseg.datasets._prepare import Archive
from nerveseg.datasets.base import table
from nerveseg.errors import DataError

_NAMES = registry.names("datasets")
_ON_DISK = [name for name in _NAMES if registry.load("datasets", name).archives]
_WITH_TABLE = [name for name in _NAMES if hasattr(registry.load("datasets", name), "values")]


@pytest.mark.parametrize("name", _NAMES)
def test_it_says_what_it_is(name):
    module = registry.load("datasets", name)
    assert module.title
    assert isinstance(module.url, str)
    assert module.licence
    assert isinstance(module.background, bool)
    assert set(module.protocols) <= set(PROTOCOLS)
    assert module.protocols[0] == PROTOCOLS[0]
    assert len(set(module.splits)) == len(module.splits)
    assert module.__doc__
    assert callable(getattr(module, "opened", None) or module.find)
    assert callable(module.convert) if module.archives else module.convert is None
    for optional, arguments in (("published", ["protocol"]), ("unpacked", ["root", "split"]), ("values", ["protocol"])):
        if getattr(module, optional, None) is not None:
            assert list(inspect.signature(getattr(module, optional)).parameters) == arguments


@pytest.mark.parametrize("name", [name for name in _NAMES if registry.load("datasets", name).count])
def test_every_list_that_ships_has_as_many_classes(name):
    module = registry.load("datasets", name)
    for origin in classes.lists(name):
        found = classes.read(name, origin, count=module.count, background=module.background)
        assert len(found) == module.count
        assert all(string == string.strip() and string for label in found.labels for string in label.strings)
        assert (found.names[0] == "background") is module.background
    assert classes.lists(name)[:1] in (("official",), ())


@pytest.mark.parametrize("name", _WITH_TABLE)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_table_reaches_every_id_so_that_the_truth_can_be_predicted(name, protocol):
    module = registry.load("datasets", name)
    values = module.values(protocol)
    ids = sorted({index for index in values.values() if index != IGNORE})
    assert ids == list(range(module.count))
    made = table(values, entries=max(256, max(values) + 1))
    np.testing.assert_array_equal(np.unique(made[made != UNKNOWN]), np.unique(list(values.values())))
    assert UNKNOWN not in values.values()


@pytest.mark.parametrize("name", _ON_DISK)
def test_archives_say_what_can_be_checked_of_them(name):
    module = registry.load("datasets", name)
    assert len({archive.name for archive in module.archives}) == len(module.archives)
    for archive in module.archives:
        assert isinstance(archive, Archive)
        assert archive.url is None or archive.url.startswith(("http://", "https://"))
        assert archive.url or archive.note  # what no address is known of says how it is got
        assert archive.bytes is None or archive.bytes > 0
        for digest, digits in ((archive.sha256, 64), (archive.md5, 32)):
            assert digest is None or re.fullmatch(f"[0-9a-f]{{{digits}}}", digest)
        assert set(archive.splits) <= set(module.splits)
    for split in module.splits:
        assert any(archive.serves(split) for archive in module.archives)
    if module.published is not None:
        for protocol in PROTOCOLS:
            assert set(module.published(protocol)) <= set(module.splits)
            assert all(number > 0 for number in module.published(protocol).values())


@pytest.mark.parametrize("name", _ON_DISK)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_empty_root_is_refused_with_what_mends_it(name, protocol, tmp_path):
    for split in registry.load("datasets", name).splits:
        with pytest.raises(DataError) as caught:
            datasets.open(name, tmp_path, split=split, protocol=protocol)
        assert str(tmp_path) in str(caught.value)
        assert re.search(r"nerveseg datasets prepare|Get ", str(caught.value)), str(caught.value)
    with pytest.raises(DataError, match="Got no folder"):
        datasets.open(name)


@pytest.mark.parametrize("name", _ON_DISK)
def test_nothing_is_downloaded_by_opening_or_asking(name, tmp_path):
    # Sockets are refused in tests: this would raise.
    from nerveseg.datasets._prepare import needed

    module = registry.load("datasets", name)
    assert needed(name) == tuple(archive for archive in module.archives if archive.serves(module.splits[0]))
    if module.unpacked is not None:
        assert not any(module.unpacked(tmp_path, split) for split in module.splits)


def test_what_is_drawn_opens_under_both_protocols():
    for protocol in PROTOCOLS:
        data = datasets.open("embedded", protocol=protocol)
        assert isinstance(data, DataSet)
        item = data.items[0]
        _, mask = data.read(item)
        assert set(np.unique(mask)) <= {*range(data.classes), IGNORE}
