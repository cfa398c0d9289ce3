"""Bodies → a picture's bytes and fields, or a JSON object. Everything stays in memory: no temporary file is made."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from nerveseg.server.limits import Limits
from nerveseg.server.problems import Problem

__all__ = ["Form", "json_object", "multipart", "plain_name"]

_FIELDS = 16
_TEXT = 1024 * 1024  # bytes of a field, or of JSON: read at once, so few
_LONGEST_NAME = 100


@dataclass(frozen=True, eq=False)
class Form:
    """A form with one picture.

    Attributes:
        data: the file's bytes.
        name: the file's name, made plain.
        fields: the other fields.
    """

    data: bytes
    name: str
    fields: dict[str, str]


async def multipart(request: Request, limits: Limits) -> Form:
    """Read ``multipart/form-data`` with the field ``file`` and others, each once.

    Raises:
        Problem: 415, 422.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Problem(
            415,
            "media-type",
            "Got another content type. Accepted is multipart/form-data with a boundary. Send the picture as the field 'file'.",
        )
    parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=_FIELDS, max_part_size=_TEXT)
    parser.spool_max_size = limits.body + 1  # beyond it a file would go to the disk; the guard ends the body before
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Problem(422, "form", f"Got a form that cannot be read ({error.message}) Accepted is multipart/form-data. Mend it.") from error
    try:
        data, name, fields = await _sorted(form)
    finally:
        await form.close()
    if not data:
        raise Problem(422, "form", "Got no picture. Accepted is the whole content of a picture file as the field 'file'. Add it.")
    return Form(data, plain_name(name), fields)


async def _sorted(form: FormData) -> tuple[bytes, str, dict[str, str]]:
    """The file, its name, and the other fields."""
    data, name, fields = b"", "", dict[str, str]()
    for key, value in form.multi_items():
        if key in fields or (key == "file" and data):
            raise Problem(422, "form", f"Got the field {key[:100]!r} twice. Accepted is each field once. Take one out.")
        if isinstance(value, UploadFile) != (key == "file"):
            raise Problem(422, "form", f"Got the field {key[:100]!r} of the wrong sort. Accepted is one file, as 'file', and text besides.")
        if isinstance(value, UploadFile):
            data, name = await value.read(), value.filename or ""
        else:
            fields[key] = value
    return data, name, fields


async def json_object(request: Request) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        Problem: 415, 422.
    """
    kind, _ = parse_options_header(request.headers.get("content-type"))
    if kind != b"application/json":
        raise Problem(415, "media-type", "Got another content type. Accepted is application/json. Say so in Content-Type.")
    body = await request.body()
    if len(body) > _TEXT:
        raise Problem(413, "body", f"Got {len(body):,} bytes of JSON. Accepted are {_TEXT:,}. Send fewer words or points.")
    try:
        content = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Problem(
            422, "json", f"Got a body that is no JSON ({type(error).__name__}). Accepted is a JSON object. Check brackets and quotes."
        ) from error
    if not isinstance(content, dict):
        raise Problem(422, "json", f"Got JSON of type {type(content).__name__}. Accepted is an object. Write {{...}}.")
    return content


def plain_name(given: str) -> str:
    r"""The last part of a path, without what no file name should have; it is shown, never opened.

    >>> plain_name("../../etc/passwd"), plain_name("C:\\photos\\a\tb.png"), plain_name("..")
    ('passwd', 'ab.png', 'picture')
    """
    last = re.split(r"[/\\]", given)[-1]
    kept = "".join(letter for letter in last if unicodedata.category(letter)[0] != "C").strip()[:_LONGEST_NAME]
    return kept if kept.strip(".") else "picture"


def _refuse(name: str) -> Any:
    raise ValueError(name)
