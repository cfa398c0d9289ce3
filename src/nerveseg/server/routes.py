"""The routes and their handlers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from nerveseg import __version__
from nerveseg.server import answers, forms, metrics, requests, schemas
from nerveseg.server.deadline import Deadline
from nerveseg.server.guard import UNTIL
from nerveseg.server.pool import Done, Job
from nerveseg.server.problems import Problem
from nerveseg.server.service import Service

__all__ = ["router"]

_ASKED = (404, 406, 408, 410, 413, 415, 422, 429, 501, 504)


def router(service: Service) -> APIRouter:
    """The routes of one service."""
    made = APIRouter()
    _segment(made, service)
    _encode(made, service)
    _decode(made, service)
    _about(made, service)
    return made


def _segment(made: APIRouter, service: Service) -> None:
    bodies = schemas.bodies(service.limits)
    known = schemas.responses(406, 408, 413, 415, 422, 429, 501, 504)

    @made.post(
        "/v1/segment",
        summary="Label every pixel of an image",
        response_class=Response,
        responses={200: schemas.described("result", "The label map, by Accept."), **known},
        openapi_extra={"requestBody": bodies["segment"]},
    )
    async def segment(request: Request) -> Response:
        """Send an image and words; get ids as a PNG (pixel = id), masks as JSON, or both and an overlay as a zip."""
        kind = answers.chosen(request.headers.get("accept"))
        form = await forms.multipart(request, service.limits)
        ask = await service.beside(lambda: requests.of_form(form.fields, service.limits, service.settings))
        image = await service.read(form, request.scope[UNTIL], request)
        done = await service.do(Job(request.scope[UNTIL], image=image, ask=ask), request)
        return await _answer(service, done, kind, request)


def _encode(made: APIRouter, service: Service) -> None:
    bodies = schemas.bodies(service.limits)

    @made.post(
        "/v1/encode",
        status_code=201,
        summary="Pass an image through the networks, for many questions",
        response_class=JSONResponse,
        responses={201: schemas.described("handle", "A handle for /v1/decode."), **schemas.responses(408, 413, 415, 422, 429, 504)},
        openapi_extra={"requestBody": bodies["encode"]},
    )
    async def encode(request: Request) -> JSONResponse:
        """Send an image once; ask often. The handle is short-lived."""
        form = await forms.multipart(request, service.limits)
        if form.fields:
            raise Problem(
                422, "form", f"Got the field {next(iter(form.fields))[:100]!r}. Accepted is 'file' alone. Send words to /v1/decode."
            )
        image = await service.read(form, request.scope[UNTIL], request)
        done = await service.do(Job(request.scope[UNTIL], image=image), request)
        handle = service.handles.add(done.encoding, done.worker)
        content = {
            "handle": handle,
            "size": list(done.encoding.image.size),
            "bytes": done.encoding.bytes,
            "seconds": service.limits.handle_seconds,
            "notes": list(done.encoding.image.notes),
        }
        return JSONResponse(content, 201, headers={"Location": f"/v1/encode/{handle}", "Server-Timing": _timing(done.encoding.seconds)})

    @made.delete(
        "/v1/encode/{handle}",
        status_code=204,
        summary="Forget an encoding",
        response_class=Response,
        responses={204: {"description": "It is gone."}, **schemas.responses(404, 410, 422)},
    )
    async def forget(handle: str) -> Response:
        """Free what a handle holds; it would go by itself, later."""
        service.handles.remove(handle)
        return Response(status_code=204)


def _decode(made: APIRouter, service: Service) -> None:
    bodies = schemas.bodies(service.limits)

    @made.post(
        "/v1/decode",
        summary="Ask an encoded image for words",
        response_class=Response,
        responses={200: schemas.described("result", "The label map, by Accept."), **schemas.responses(*_ASKED)},
        openapi_extra={"requestBody": bodies["decode"]},
    )
    async def decode(request: Request) -> Response:
        """Words, knobs and clicks may change with every call: no network pass but for words not met before."""
        kind = answers.chosen(request.headers.get("accept"))
        content = await forms.json_object(request)
        handle = content.pop("handle", None)
        if not isinstance(handle, str):
            raise Problem(422, "request", "Got no handle. Accepted is one that /v1/encode gave. Send the image there.")
        ask = await service.beside(lambda: requests.of_json(content, service.limits, service.settings))
        kept = service.handles.get(handle)
        job = Job(request.scope[UNTIL], encoding=kept.encoding, ask=ask, worker=kept.worker)
        return await _answer(service, await service.do(job, request), kind, request)


def _about(made: APIRouter, service: Service) -> None:
    @made.get(
        "/v1/models",
        summary="What answers, which knobs it has, and the limits",
        response_class=JSONResponse,
        responses={200: schemas.described("models", "One entry a device."), **schemas.responses()},
    )
    async def models() -> JSONResponse:
        """See also /openapi.json."""
        knobs = {name: dataclasses.asdict(knob) for name, knob in service.settings.knobs.items()}
        entries = [
            {
                "name": segmenter.recipe.name,
                "title": segmenter.recipe.title,
                "networks": list(segmenter.recipe.needs),
                "device": str(segmenter.device),
                "dtype": str(segmenter.dtype).removeprefix("torch."),
                "settings": knobs,
            }
            for segmenter in service.segmenters
        ]
        return JSONResponse({"models": entries, "limits": dataclasses.asdict(service.limits), "version": __version__})

    @made.get(
        "/v1/health",
        summary="Whether it takes requests",
        response_class=JSONResponse,
        responses={200: schemas.described("health", "It does."), **schemas.responses()},
    )
    async def health() -> JSONResponse:
        """200, or 503 while it ends or cannot decode images; "busy" where one would have to wait before it is decoded."""
        readers = service.readers.readings
        status = "draining" if service.draining else "busy" if readers.waiting else "good"
        content = {"status": status, "waiting": service.pool.waiting, "open": service.open, "readers": dataclasses.asdict(readers)}
        if service.draining:
            raise Problem(
                503, "draining", "The service is ending. Accepted are no new requests. Try another one.", extra={"open": service.open}
            )
        if readers.failed:
            raise Problem(
                503,
                "readers",
                "The service cannot start a process to decode images. Accepted are requests once it can. Tell who runs it.",
                extra={"open": service.open},
            )
        return JSONResponse(content)

    @made.get(
        "/metrics",
        summary="Counts for Prometheus",
        response_class=Response,
        responses={200: {"description": "Prometheus' text format.", "content": {"text/plain": {}}}, **schemas.responses()},
    )
    async def counts() -> Response:
        """Requests, times, queue, batches, encodings, memory."""
        return Response(service.metrics.text(), headers={"content-type": metrics.MEDIA})


async def _answer(service: Service, done: Done, kind: str, request: Request) -> Response:
    result = done.segmentation
    if result is None:
        raise Problem(500, "internal", "The service made no answer. Try again, or tell who runs it.")
    deadline = Deadline(request.scope[UNTIL])

    def write() -> bytes:
        with deadline:
            return answers.render(result, kind, done.notes, deadline.check)

    body = await service.beside(write)
    return Response(body, media_type=kind, headers={"Server-Timing": _timing(result.seconds), "Vary": "Accept"})


def _timing(seconds: Mapping[str, Any]) -> str:
    """W3C's Server-Timing: not in the body, so that the same request has the same one."""
    return ", ".join(f"{re.sub('[^a-z]+', '-', name.lower())};dur={value * 1000:.1f}" for name, value in seconds.items())
