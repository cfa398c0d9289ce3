from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nerveseg.errors import SavedError, ShapeError
from nerveseg.graph import saved as source


def arrays(n=6, d=4, grid=(2, 3)):
    g = torch.Generator().manual_seed(0)
    return {"queries": torch.randn(3, n, d, generator=g), "keys": torch.randn(3, n, d, generator=g), "grid": torch.tensor(grid)}


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_heads_come_back_as_they_were_saved(tmp_path, image, ending):
    held = arrays()
    path = tmp_path / f"picture.{ending}"
    if ending == "npz":
        np.savez(path, **{name: value.numpy() for name, value in held.items()})
    else:
        save_file(held, path)
    for where in (tmp_path, path):
        found = source.heads(image, {}, source.Options(path=str(where)))
        assert torch.equal(found.queries, held["queries"])
        assert torch.equal(found.keys, held["keys"])
        assert found.grid == (2, 3)


def test_keys_may_be_the_queries_and_half_precision_is_read_as_float32(tmp_path, image):
    held = arrays()
    save_file({"x": held["queries"].half(), "shape": held["grid"]}, tmp_path / "picture.safetensors")
    found = source.heads(image, {}, source.Options(path=str(tmp_path), queries="x", keys="x", grid="shape"))
    assert found.queries.dtype == torch.float32
    assert torch.equal(found.queries, found.keys)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"grid": torch.tensor([2, 4])}, r"picture.*\(2, 4\)"),
        ({"grid": torch.tensor([2.5, 4])}, "whole numbers"),
        ({"grid": torch.tensor([6])}, "whole numbers"),
        ({"queries": torch.ones(3, 5, 4)}, r"\(3, 5, 4\)"),
        ({"queries": torch.ones(18, 4)}, r"\(18, 4\).*\(H, n, d\)"),
        ({"keys": torch.full((3, 6, 4), torch.inf)}, "not finite"),
        ({"keys": None}, "'keys'"),
    ],
)
def test_what_is_no_graph_is_refused_with_path_and_shape(tmp_path, image, change, match):
    held = {name: value for name, value in {**arrays(), **change}.items() if value is not None}
    save_file(held, tmp_path / "picture.safetensors")
    with pytest.raises(ShapeError, match=match) as caught:
        source.heads(image, {}, source.Options(path=str(tmp_path)))
    assert "picture.safetensors" in str(caught.value)


def test_no_file_for_the_image(tmp_path, image):
    with pytest.raises(SavedError, match="neither"):
        source.heads(image, {}, source.Options(path=str(tmp_path)))
