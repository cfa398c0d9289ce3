"""Bodies → an image's bytes and fields, or a JSON object. Everything stays in memory: no temporary file is made."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from nerveseg.server import parts, strict_json
from nerveseg.server.limits import Limits
from nerveseg.server.problems import Problem

__all__ = ["Form", "json_object", "multipart", "plain_name"]

_PARTS = 16
_TEXT = 1024 * 1024  # bytes of JSON: read at once, so few
_LONGEST_NAME = 100


@dataclass(frozen=True, eq=False)
class Form:
    """A form with one image.

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
            "Got another content type. Accepted is multipart/form-data with a boundary. Send the image as the field 'file'.",
        )
    data, name, fields = _sorted(await parts.read(request.stream(), options[b"boundary"], _PARTS))
    if not data:
        raise parts.wrong("Got no image. Accepted is the whole content of an image file as the field 'file'. Add it.")
    _check_uncut(fields.get("labels"), request.headers.get("user-agent", ""))
    return Form(data, plain_name(name), fields)


def _sorted(found: list[parts.Part]) -> tuple[bytes, str, dict[str, str]]:
    """The file, its name, and the other fields."""
    data, name, fields = b"", "", dict[str, str]()
    for part in found:
        if part.name in fields or (part.name == "file" and data):
            raise parts.wrong(f"Got the field {part.name[:100]!r} twice. Accepted is each field once. Take one out.")
        if part.name == "file" and part.filename is None:
            raise parts.wrong("Got the field 'file' without a filename. Accepted is a file, with filename=\"a.png\". curl: -F file=@a.png.")
        if part.name == "file":
            data, name = bytes(part.data), part.filename or ""
        elif part.filename is not None:
            raise parts.wrong(
                f"Got the field {part.name[:100]!r} as a file. Accepted is one file, as 'file', and text besides. "
                "curl: --form-string for text, or -F 'labels=<FILE' for a file's text; ';filename=' makes a file of it."
            )
        else:
            fields[part.name] = part.text
    return data, name, fields


def _check_uncut(labels: str | None, agent: str) -> None:
    """Refuse the one word that curl's -F leaves of ``cat; kitten, dog``: nobody could tell it from a word that was meant alone."""
    if labels is None or not agent.startswith("curl/") or any(mark in labels for mark in ",;[\n"):
        return
    raise parts.wrong(
        f"Got the label {labels[:100]!r} alone from curl, whose -F cuts a value at ';'. Accepted are several labels, or a "
        "JSON list. Send words with --form-string 'labels=cat; kitten, dog'; if one label is meant, labels='[\"cat\"]'."
    )


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
        content = strict_json.read(body.decode("utf-8"))  # given bytes, json.loads takes other encodings, and halves of surrogate pairs
    except UnicodeDecodeError as error:
        raise Problem(
            422, "json", f"Got the byte 0x{body[error.start]:02x}, which is not UTF-8 there. Accepted is JSON in UTF-8."
        ) from error
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
