"""Turn every error into a problem document (RFC 9457) that reveals nothing of the inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from nerveseg import errors
from nerveseg.server.deadline import Overdue

__all__ = ["MEDIA", "SCHEMA", "Problem", "of"]

MEDIA = "application/problem+json"

SCHEMA: Mapping[str, Any] = MappingProxyType(
    {
        "type": "object",
        "required": ["type", "title", "status", "detail", "instance"],
        "properties": {
            "type": {"type": "string", "description": "Which kind of problem; stable, to be compared by programs."},
            "title": {"type": "string", "description": "The status in words."},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "What came, what is accepted, what to do. Plain text: show it as text."},
            "instance": {"type": "string", "description": "Of this one request; the service's log names it too."},
            "errors": {
                "type": "array",
                "items": {"type": "object", "properties": {"where": {"type": "string"}, "message": {"type": "string"}}},
            },
        },
    }
)
"""JSON schema of a problem."""

_LONGEST = 2000  # letters of a detail: it may quote what came
_OURS: tuple[tuple[type[Exception], int, str], ...] = (
    (errors.ImageTooLarge, 413, "pixels"),
    (errors.ImageError, 422, "picture"),
    (errors.LabelError, 422, "labels"),
    (errors.OptionError, 422, "settings"),
    (errors.RegistryError, 422, "settings"),
    (errors.RecipeError, 422, "settings"),
    (errors.OutOfMemory, 413, "memory"),
    (errors.MissingExtra, 501, "missing-extra"),
)
"""Errors of the library that are the caller's to mend; the first that fits."""


class Problem(Exception):
    """An answer that is an error.

    Args:
        status: HTTP status.
        kind: short name, the end of ``type``.
        detail: what came, what is accepted, what to do.
        headers: of the answer.
        extra: more members.
    """

    def __init__(
        self, status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, extra: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail = status, kind, detail
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def body(self, instance: str) -> bytes:
        """JSON, in UTF-8; ``instance`` names the request."""
        content = {
            "type": f"urn:nerveseg:problem:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail if len(self.detail) <= _LONGEST else self.detail[:_LONGEST] + " …",
            "instance": instance,
            **self.extra,
        }
        return json.dumps(content, ensure_ascii=True).encode()  # ASCII: a lone surrogate that was sent cannot be encoded otherwise


def of(error: Exception) -> Problem:
    """The problem that an error is; one that nobody foresaw says nothing but that."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Overdue):
        return Problem(
            504, "overdue", "The work took longer than a request may. Accepted is what ends in time. Shrink the image or the words."
        )
    for kind, status, name in _OURS:
        if isinstance(error, kind):
            return Problem(status, name, str(error))
    return Problem(500, "internal", "The service failed. Its log says why under this instance. Try again, or tell who runs it.")
