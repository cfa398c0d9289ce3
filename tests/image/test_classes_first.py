from __future__ import annotations

import pytest
import torch

from nerveseg.errors import ShapeError
from nerveseg.image.arrays import classes_first


def _shares(*shape, axis):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)).softmax(axis)


@pytest.mark.parametrize(
    ("values", "size", "count", "wanted"),
    [
        (torch.rand(40, 60, 3), (40, 60), None, (3, 40, 60)),
        (torch.rand(3, 40, 60), (40, 60), None, (3, 40, 60)),
        (torch.rand(24, 32, 5), (480, 640), 5, (5, 24, 32)),
        (torch.rand(5, 24, 32), (480, 640), 5, (5, 24, 32)),
        (_shares(24, 32, 21, axis=2), (480, 640), None, (21, 24, 32)),
        (_shares(21, 24, 32, axis=0), (480, 640), None, (21, 24, 32)),
        (_shares(21, 24, 32, axis=0).half(), (480, 640), None, (21, 24, 32)),
        (torch.rand(21, 24, 24), (480, 640), None, (21, 24, 24)),
        (torch.rand(24, 24, 24), (480, 640), None, (24, 24, 24)),
        (torch.rand(40, 60, 3), None, None, (40, 60, 3)),
        (torch.rand(40, 40, 3), (40, 40), None, (3, 40, 40)),
        (torch.rand(40, 60, 40), (40, 60), 40, (40, 40, 60)),
    ],
)
def test_the_axis_that_fits_decides(values, size, count, wanted):
    assert tuple(classes_first(values, size, count, "Got x").shape) == wanted


def test_a_cube_is_read_by_its_sums_or_refused():
    first = _shares(8, 8, 8, axis=0)
    assert torch.equal(classes_first(first, (8, 8), None, "Got x"), first)
    assert torch.equal(classes_first(first.movedim(0, -1), (8, 8), 8, "Got x"), first)
    with pytest.raises(ShapeError, match="Got x, whose classes could be first or last for an image 8×8"):
        classes_first(torch.rand(8, 8, 8) * 9, (8, 8), 8, "Got x")
