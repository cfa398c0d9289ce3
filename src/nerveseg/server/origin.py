"""Refuse cross-origin requests, by the headers that browsers send. Other programs send none, and pass."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

__all__ = ["foreign", "host_of", "is_address"]

_PORTS = {"http": 80, "https": 443}


def host_of(headers: Mapping[bytes, bytes]) -> str:
    """The name in the ``Host`` header, without its port; empty where there is none or it cannot be read."""
    return _place(b"//" + headers.get(b"host", b""))[0]


def foreign(headers: Mapping[bytes, bytes], public: frozenset[str] = frozenset()) -> bool:
    """Whether another site's page asks: by ``Origin``, which must be that of ``Host``, port included, and by ``Sec-Fetch-Site``.

    A page on another port of the same machine is another site.

    Args:
        headers: of the request, names in lower case.
        public: names under which a proxy shows this server: an origin of such a name is its own.
    """
    origin = headers.get(b"origin")
    if origin is not None:
        name, port = _place(origin)
        if name and name in public:
            return False
        host, own = _place(b"//" + headers.get(b"host", b""))
        default = _PORTS.get(origin.partition(b":")[0].decode("latin-1").lower())
        if not name or default is None:
            return True
        return (name, port or default) != (host, own or default)
    elsewhere = headers.get(b"sec-fetch-site", b"none").lower() in (b"cross-site", b"same-site")
    return elsewhere and headers.get(b"sec-fetch-mode", b"").lower() != b"navigate"


def is_address(host: str) -> bool:
    """Whether a host is an address: no name of another site can lead there by its name server."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _place(address: bytes) -> tuple[str, int | None]:
    """Name and port; empty where it cannot be read."""
    try:
        parts = urlsplit(address.decode("latin-1"))
        return parts.hostname or "", parts.port
    except ValueError:
        return "", None
