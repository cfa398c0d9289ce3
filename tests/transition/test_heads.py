"""What may become a graph."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from nerveseg.errors import ShapeError
from nerveseg.transition import Heads


def test_heads_know_their_size():
    heads = Heads(torch.zeros(3, 12, 8), torch.zeros(3, 12, 8), (3, 4))
    assert (heads.n, heads.count, heads.width, heads.bytes) == (12, 3, 8, 2 * 3 * 12 * 8 * 4)
    assert heads.half().bytes == heads.bytes // 2
    assert heads.to("cpu").queries.device.type == "cpu"


@pytest.mark.parametrize(
    ("queries", "keys", "grid", "message"),
    [
        ((3, 12, 8), (3, 12, 4), (3, 4), "3, ?12, ?4"),
        ((3, 12, 8), (3, 12, 8), (3, 5), "class tokens"),
        ((0, 12, 8), (0, 12, 8), (3, 4), "none of them 0"),
        ((3, 12, 8), (3, 12, 8), (-3, -4), "height"),
    ],
)
def test_axes_that_do_not_fit_are_refused(queries, keys, grid, message):
    # With axes checked as in the gate, jaxtyping may speak first.
    with pytest.raises((ShapeError, TypeCheckError), match=message):
        Heads(torch.zeros(queries), torch.zeros(keys), grid)


def test_dtypes_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="float16"):
        Heads(torch.zeros(1, 4, 2).half(), torch.zeros(1, 4, 2), (2, 2))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("side", ["queries", "keys"])
def test_values_that_are_not_finite_are_refused(bad, side):
    tensors = {"queries": torch.zeros(2, 4, 2), "keys": torch.zeros(2, 4, 2)}
    tensors[side][1, 2, 0] = bad
    with pytest.raises(ShapeError, match=f"{side} with {bad} at head 1, token 2, column 0"):
        Heads(**tensors, grid=(2, 2))


def test_large_finite_values_are_accepted_as_far_as_float32_holds_their_products():
    big = torch.full((2, 4, 2), 1e15)
    assert Heads(big, -big, (2, 2)).n == 4
    big[0, 3, 1] = 1e18
    with pytest.raises(ShapeError, match=r"keys with 1e\+18 at head 0, token 3, column 1.*1e\+15"):
        Heads(-torch.ones_like(big), big, (2, 2))


def test_float16_that_overflowed_is_refused_by_token():
    queries = torch.ones(1, 4, 2).half()
    queries[0, 2] *= 60000
    with pytest.raises(ShapeError, match="queries with inf at head 0, token 2"):
        Heads(queries * 2, queries, (2, 2))
