"""What every test stands on: nothing leaves this machine, one thread, and axes that are checked."""

from __future__ import annotations

import socket

import jaxtyping
import pytest
import torch

from nerveseg.transition.lengths import lengths


@pytest.mark.parametrize("address", [("192.0.2.1", 443), ("example.invalid", 443)])
def test_a_test_cannot_reach_the_network(address):
    with socket.socket() as out, pytest.raises(OSError, match="this machine alone"):
        out.connect(address)


def test_a_test_cannot_look_a_name_up():
    with pytest.raises(OSError, match="this machine alone"):
        socket.create_connection(("example.invalid", 443))


def test_a_test_can_reach_its_own_machine():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=60) as out:
        assert out.getpeername()[0] == "127.0.0.1"


def test_tests_run_on_one_thread():
    assert torch.get_num_threads() == 1


def test_axes_are_checked_in_tests():
    try:
        lengths(torch.zeros(2, 3, dtype=torch.int64))
    except jaxtyping.TypeCheckError:
        return
    pytest.fail("the import hook of conftest.py did nothing")
