"""The service: images and words in over HTTP, label maps out. One request goes one way through these files.

    run → guard (token, size, time) → routes → asks (form or JSON → words) → pool (one worker a device) → answers (PNG, JSON, zip)

The extra ``serve`` brings what it needs; nothing outside this package imports it.
"""

from __future__ import annotations

from importlib.util import find_spec

from nerveseg.errors import MissingExtra

__all__ = ["need_extra"]

_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def need_extra() -> None:
    """Refuse where a package of the extra is not installed; nothing is imported.

    Raises:
        MissingExtra: with the command that installs it.
    """
    lacking = [name for name in _NEEDED if find_spec(name) is None]
    if lacking:
        raise MissingExtra(
            f"Got no {lacking[0]}, which the service needs. Accepted is an environment with the extra 'serve'. "
            "Install it with: pip install 'nerveseg[serve]'."
        )
