"""The ASGI application: routes behind the guard, and every error as a problem document."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from nerveseg import __version__
from nerveseg.errors import NerveSegError
from nerveseg.server import problems
from nerveseg.server.deadline import Overdue
from nerveseg.server.guard import INSTANCE, Guard
from nerveseg.server.problems import Problem
from nerveseg.server.routes import router
from nerveseg.server.service import Service

__all__ = ["make_app"]

_DESCRIPTION = "Label every pixel of an image by words. Images come as files in the request; an address is never fetched."


def make_app(service: Service) -> FastAPI:
    """Make the ASGI application of a service. Its workers run while it does.

    No page is served that loads scripts from elsewhere; ``/openapi.json`` describes the rest.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        sweeping = asyncio.ensure_future(service.sweep())
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.to_thread(service.stop)

    app = FastAPI(
        title="nerveseg",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.include_router(router(service))
    app.add_middleware(Guard, service=service)  # type: ignore[arg-type]  # its scope is any mapping
    for kind in (Problem, NerveSegError, Overdue):
        app.add_exception_handler(kind, _said)
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(RequestValidationError, _unread)
    return app


def _response(problem: Problem, request: Request) -> Response:
    return Response(problem.body(request.scope[INSTANCE]), problem.status, headers=problem.headers, media_type=problems.MEDIA)


async def _said(request: Request, error: Exception) -> Response:
    problem = problems.of(error)
    if problem.status == 500:
        raise error  # the guard logs it and answers
    return _response(problem, request)


async def _plain(request: Request, error: Any) -> Response:
    """What Starlette refuses: an address or a method that is not there."""
    phrase = HTTPStatus(error.status_code).phrase.lower()
    detail = f"Got {request.method} for an address that does not take it: {phrase}. Accepted is what /openapi.json lists. Mend the address."
    return _response(Problem(error.status_code, phrase.replace(" ", "-"), detail, headers=dict(error.headers or {})), request)


async def _unread(request: Request, error: Any) -> Response:
    found = [{"where": ".".join(map(str, one["loc"]))[:200], "message": str(one["msg"])[:200]} for one in error.errors()]
    detail = "Got a request that cannot be read. Accepted is what /openapi.json says. Mend what `errors` names."
    return _response(Problem(422, "request", detail, extra={"errors": found}), request)
