"""Open the listening socket, for the service and for the page."""

from __future__ import annotations

import ipaddress
import socket

from nerveseg.errors import RunError

__all__ = ["BACKLOG", "is_loopback", "listen"]

BACKLOG = 128
"""Connections that the system keeps until they are accepted."""


def is_loopback(host: str) -> bool:
    """Whether an address is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """Open the port; 0 takes a free one.

    Raises:
        RunError: a port that is taken, or an address that is not here.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"Got {host}:{port}, where nothing can listen ({reason}). Accepted is a free port here. Choose another.") from error
