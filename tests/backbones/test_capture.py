from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from nerveseg.backbones import capture
from nerveseg.errors import ShapeError


@pytest.fixture
def chain():
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(4, 5))


def hooks(model):
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


def test_inputs_and_outputs_are_recorded_by_name(chain):
    x = torch.randn(1, 2)
    with capture.inputs_of({"in": chain[1]}) as inputs, capture.outputs_of({"out": chain[1]}) as outputs:
        chain(x)
    torch.testing.assert_close(inputs["in"], chain[0](x).detach())
    torch.testing.assert_close(outputs["out"], chain[1](chain[0](x)).detach())
    assert not inputs["in"].requires_grad
    assert sum(hooks(chain)) == 0


def test_inputs_given_by_keyword_are_found():
    class ByKeyword(nn.Module):
        def forward(self, *, x):
            return x

    module = ByKeyword()
    with capture.inputs_of({"x": module}) as seen:
        module(x=torch.ones(2))
    assert torch.equal(seen["x"], torch.ones(2))


def test_a_pass_stops_when_the_last_of_several_has_answered(chain):
    calls = []
    chain[2].register_forward_hook(lambda *_: calls.append(2))
    with capture.outputs_of({"a": chain[0], "b": chain[1]}, stop=True) as seen, capture.stop_once_complete():
        chain(torch.randn(1, 2))
    assert set(seen) == {"a", "b"}
    assert calls == []


def test_hooks_come_off_and_other_errors_go_through(chain):
    with pytest.raises(RuntimeError, match="mat1"), capture.outputs_of({"a": chain[0]}), capture.stop_once_complete():
        chain(torch.randn(1, 7))
    assert sum(hooks(chain)) == 0


def test_hooks_come_off_even_where_a_later_one_cannot_be_set(chain):
    with pytest.raises(AttributeError), capture.outputs_of({"a": chain[0], "b": "no module"}):
        pass
    assert sum(hooks(chain)) == 0


def test_heads_are_parted_as_attention_parts_them():
    x = torch.arange(24.0).view(1, 3, 8)
    heads = capture.split_heads(x, 2)
    assert heads.shape == (2, 3, 4)
    assert torch.equal(heads[1], x[0, :, 4:])
    assert torch.equal(capture.split_heads(heads[None].half(), 2), heads)
    with pytest.raises(ShapeError, match="one image"):
        capture.split_heads(x.expand(2, -1, -1), 2)


def test_importing_the_backbones_loads_no_network_library():
    code = (
        "import sys, nerveseg.labels.base, nerveseg.graph.stable_diffusion; sys.exit(bool({'transformers', 'diffusers'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
