"""What OpenAPI says of bodies and answers that FastAPI does not read itself, with examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nerveseg.server import answers, problems
from nerveseg.server.limits import Limits

__all__ = ["bodies", "described", "responses"]

_POINT = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2, "description": "[x, y], origin top left."}
_CLICK = {
    "type": "object",
    "required": ["label"],
    "additionalProperties": False,
    "properties": {
        "label": {"type": "string", "minLength": 1, "description": "One of the labels, or a new one by click alone."},
        "points": {"type": "array", "items": _POINT},
        "strokes": {"type": "array", "items": {"type": "array", "items": _POINT}},
        "box": {"type": ["array", "null"], "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
    },
}
_SETTINGS = {
    "type": "object",
    "additionalProperties": {"type": "number"},
    "description": "Knobs for this request, by name; /v1/models lists them.",
    "examples": [{"walk.alpha": 0.9}],
}
_RLE = {
    "type": "object",
    "required": ["size", "counts"],
    "properties": {"size": {"type": "array", "items": {"type": "integer"}}, "counts": {"type": "string"}},
    "description": "COCO's compressed run lengths; pycocotools' mask.decode reads it.",
}
_SEGMENT = {
    "type": "object",
    "required": ["id", "label", "area", "score", "box", "rle"],
    "properties": {
        "id": {"type": "integer"},
        "label": {"type": "string"},
        "area": {"type": "integer", "description": "Pixels."},
        "score": {"type": "number", "minimum": 0, "maximum": 1, "description": "Mean probability inside."},
        "box": {"type": "array", "items": {"type": "integer"}, "description": "Left, top, width, height."},
        "rle": _RLE,
    },
}
_RESULT = {
    "type": "object",
    "required": ["size", "labels", "background", "ignore", "segments", "recipe", "picture", "notes"],
    "properties": {
        "size": {"type": "array", "items": {"type": "integer"}, "description": "Height, width."},
        "labels": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "name", "words"],
                "properties": {
                    "id": {"type": "integer"},
                    "name": {"type": "string"},
                    "words": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
        "background": {"type": ["integer", "null"], "description": "Its id."},
        "ignore": {"type": "integer", "description": "The id of pixels that are not decided."},
        "segments": {"type": "array", "items": _SEGMENT},
        "recipe": {"type": "string"},
        "picture": {"type": "string", "description": "Sha256 of its pixels."},
        "notes": {"type": "array", "items": {"type": "string"}},
    },
    "examples": [
        {
            "size": [2, 2],
            "labels": [{"id": 0, "name": "cat", "words": ["cat", "kitten"]}, {"id": 1, "name": "grass", "words": ["grass"]}],
            "background": None,
            "ignore": 255,
            "segments": [
                {"id": 0, "label": "cat", "area": 1, "score": 0.9, "box": [0, 0, 1, 1], "rle": {"size": [2, 2], "counts": "013"}},
                {"id": 1, "label": "grass", "area": 3, "score": 0.8, "box": [0, 0, 2, 2], "rle": {"size": [2, 2], "counts": "13"}},
            ],
            "recipe": "mini",
            "picture": "0" * 64,
            "notes": [],
        }
    ],
}
_HANDLE = {
    "type": "object",
    "required": ["handle", "size", "bytes", "seconds", "notes"],
    "properties": {
        "handle": {"type": "string"},
        "size": {"type": "array", "items": {"type": "integer"}, "description": "Height, width."},
        "bytes": {"type": "integer", "description": "What it takes of the service's memory."},
        "seconds": {"type": "number", "description": "How long it is kept after its last use."},
        "notes": {"type": "array", "items": {"type": "string"}},
    },
    "examples": [{"handle": "q3Jm0u2yU0kqv4mJ7bq9tWcQ3m1n5v8x", "size": [96, 128], "bytes": 3342336, "seconds": 600.0, "notes": []}],
}
_MODELS = {
    "type": "object",
    "required": ["models", "limits"],
    "properties": {"models": {"type": "array", "items": {"type": "object"}}, "limits": {"type": "object"}},
}
_HEALTH = {
    "type": "object",
    "required": ["status", "waiting", "open"],
    "properties": {
        "status": {"enum": ["good", "busy"]},
        "waiting": {"type": "integer", "description": "Requests that wait for a worker."},
        "open": {"type": "integer"},
        "readers": {
            "type": "object",
            "description": "Images that are decoded, that take long, and that wait; processes that had to be ended so far.",
            "properties": {
                **{name: {"type": "integer"} for name in ("busy", "slow", "waiting", "ended")},
                "failed": {"type": "boolean"},
            },
        },
    },
    "examples": [{"status": "good", "waiting": 0, "open": 1, "readers": {"busy": 1, "slow": 0, "waiting": 0, "ended": 0, "failed": False}}],
}
_OWN = {"handle": _HANDLE, "models": _MODELS, "health": _HEALTH}
_MEANING = {
    401: "No token, or a wrong one.",
    403: "From another site.",
    404: "Never heard of it.",
    406: "None of the media types that there are.",
    408: "The body came too slowly.",
    410: "The handle is gone.",
    413: "Too large: body, pixels, labels, letters, points.",
    415: "Another content type.",
    421: "Another host's name.",
    422: "No image, no labels, a wrong knob: the detail says what to do.",
    429: "No room: try again after Retry-After.",
    500: "The service failed.",
    501: "A part of the service is not installed.",
    503: "The service is ending.",
    504: "It took too long.",
}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer, in OpenAPI's shape."""
    content = {problems.MEDIA: {"schema": dict(problems.SCHEMA)}}
    return {status: {"description": _MEANING[status], "content": content} for status in sorted({401, 403, 421, 500, 503, *statuses})}


def described(name: str, text: str) -> dict[str, Any]:
    """The good answer of a route: ``result`` in three media types, or one of the objects above."""
    if name == "result":
        content = {
            answers.PNG: {"schema": {"type": "string", "format": "binary"}},
            answers.JSON: {"schema": _RESULT},
            answers.ZIP: {"schema": {"type": "string", "format": "binary"}},
        }
        return {"description": text, "content": content}
    return {"description": text, "content": {"application/json": {"schema": _OWN[name]}}}


def bodies(limits: Limits) -> Mapping[str, Any]:
    """Route → its request body."""
    word = {"type": "string", "minLength": 1, "maxLength": limits.max_letters}
    listed = {
        "type": "array",
        "minItems": 1,
        "maxItems": limits.max_labels,
        "items": {"anyOf": [word, {"type": "array", "items": word, "minItems": 1}]},
    }
    line = {"type": "string", "minLength": 1, "description": "',' parts labels, ';' parts synonyms."}
    image = {"type": "string", "format": "binary", "description": "The whole of a PNG, JPEG, WebP, TIFF, GIF, … file."}
    segment = {
        "type": "object",
        "required": ["file", "labels"],
        "additionalProperties": False,
        "properties": {
            "file": image,
            "labels": {
                **line,
                "description": line["description"] + " Or a JSON list, as in /v1/decode.",
                "examples": ["cat; kitten, grass"],
            },
            "background": {"type": "string", "description": "none, auto, or words parted by ','.", "examples": ["auto"]},
            "settings": {"type": "string", "description": "A JSON object, as in /v1/decode.", "examples": ['{"walk.alpha": 0.9}']},
            "clicks": {"type": "string", "description": "A JSON list, as in /v1/decode."},
            "seeds": {"type": "string", "deprecated": True, "description": "What clicks was called."},
        },
    }
    encode = {"type": "object", "required": ["file"], "additionalProperties": False, "properties": {"file": image}}
    decode = {
        "type": "object",
        "required": ["handle", "labels"],
        "additionalProperties": False,
        "properties": {
            "handle": {"type": "string", "minLength": 1, "maxLength": 100},
            "labels": {"anyOf": [line, listed]},
            "background": {"anyOf": [{"type": "null"}, line, listed], "description": "null or 'none', 'auto', or words."},
            "settings": {"anyOf": [{"type": "null"}, _SETTINGS]},
            "clicks": {"type": "array", "items": _CLICK, "description": "Later ones win."},
            "seeds": {"type": "array", "items": _CLICK, "deprecated": True, "description": "What clicks was called."},
        },
        "examples": [{"handle": "q3Jm0u2yU0kqv4mJ7bq9tWcQ3m1n5v8x", "labels": ["cat", "grass"], "settings": {"walk.alpha": 0.9}}],
    }
    return {
        "segment": {"required": True, "content": {"multipart/form-data": {"schema": segment}}},
        "encode": {"required": True, "content": {"multipart/form-data": {"schema": encode}}},
        "decode": {"required": True, "content": {"application/json": {"schema": decode}}},
    }
