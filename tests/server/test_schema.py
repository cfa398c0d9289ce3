"""Requests made up from the OpenAPI, good ones and bad ones: every answer is one that it describes, none a failure of the service."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode, checks

from nerveseg.server.app import make_app
from nerveseg.server.limits import Limits
from nerveseg.server.service import Service

# Schemathesis draws some of its choices so; hypothesis seeds that module as well, so they are the same every time.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

_CHECKS = [checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance]
_ROUTES = (
    "POST /v1/segment",
    "POST /v1/encode",
    "POST /v1/decode",
    "DELETE /v1/encode/{handle}",
    "GET /v1/models",
    "GET /v1/health",
    "GET /metrics",
)


@pytest.fixture
def service(stub):
    return Service([stub], Limits(seconds=30))


@pytest.fixture
def schema(service):
    return schemathesis.openapi.from_asgi("/openapi.json", make_app(service))


def test_the_openapi_lists_the_routes(schema):
    found = [f"{operation.ok().method.upper()} {operation.ok().path}" for operation in schema.get_all_operations()]
    assert sorted(found) == sorted(_ROUTES)


def asked(operation, mode, change=lambda case: None):
    """Statuses of made-up requests, each answer checked."""
    said = set()

    @settings(max_examples=25, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        change(case)
        answer = case.call()
        said.add(answer.status_code)
        case.validate_response(answer, checks=_CHECKS)

    ask()
    return said


@pytest.mark.parametrize(
    ("route", "mode"),
    [(route, GenerationMode.POSITIVE) for route in _ROUTES[:4]] + [(route, GenerationMode.NEGATIVE) for route in _ROUTES[:3]],
    ids=lambda value: getattr(value, "value", value),
)
def test_made_up_requests_are_answered_as_described(schema, route, mode):
    method, path = route.split()
    assert asked(schema[path][method], mode) <= {200, 201, 404, 405, 406, 410, 413, 415, 422}


@pytest.mark.parametrize("path", ["/v1/segment", "/v1/decode"])
def test_made_up_words_about_an_image_that_is_there(schema, service, base, png, path):
    def change(case):
        if isinstance(case.body, dict):
            case.body.update({"handle": service.handles.add(base, 0)} if path == "/v1/decode" else {"file": png(3, 3)})
            case.body["background"] = "auto"
            for name in ("clicks", "seeds", "settings"):
                case.body.pop(name, None)

    assert 200 in asked(schema[path]["POST"], GenerationMode.POSITIVE, change)


def test_every_answer_of_the_openapi_has_a_shape_or_a_reason(schema):
    for operation in schema.get_all_operations():
        raw = operation.ok().definition.raw
        assert raw["summary"]
        for status, answer in raw["responses"].items():
            assert answer["description"]
            if status >= "400":
                assert list(answer["content"]) == ["application/problem+json"]
