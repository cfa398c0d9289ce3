"""One application over the embedded pair, and others over a segmenter that answers at once, by the image's own colours."""

from __future__ import annotations

import dataclasses
import threading
from io import BytesIO

import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from nerveseg.image import load_image
from nerveseg.segmentation import Segmentation
from nerveseg.segmenter import Segmenter
from nerveseg.server.app import make_app
from nerveseg.server.limits import Limits
from nerveseg.server.service import Service
from nerveseg.synthetic import bundled

HERE = "http://127.0.0.1"


class Stub(Segmenter):
    """Label by place: the id of a pixel is its red value, modulo the number of labels. It can be held, and told to fail or to dawdle."""

    def ready(self, base):
        for name, value in {
            "base": base,
            "batches": [],
            "free": threading.Event(),
            "fails": [],
            "dawdles": False,
            "at_work": threading.Event(),
        }.items():
            object.__setattr__(self, name, value)
        self.free.set()
        return self

    def encode(self, image, **_):
        self.batches.append(1)
        return self._one(image)

    def encode_many(self, images, **_):
        self.batches.append(len(images))
        return [self._one(image) for image in images]

    def _one(self, image):
        self.at_work.set()
        self.free.wait(20)
        while self.dawdles:
            torch.zeros(1).add(1)
        if self.fails and image.name == self.fails[0]:
            raise self.fails[1]
        return dataclasses.replace(self.base, image=load_image(image))

    def decode(self, encoding, labels, *, background=None, settings=None, **_):
        image = encoding.image
        ids = torch.from_numpy(image.pixels[..., 0].astype("int64")) % len(labels)
        P = torch.nn.functional.one_hot(ids, len(labels) + 1).permute(2, 0, 1).float()
        return Segmentation.build(P, P, labels, image, background=background, recipe="stub")


@pytest.fixture(scope="session")
def base(mini):
    """A real encoding of a small image."""
    return mini.encode(load_image(png_of(16, 16)))


@pytest.fixture
def stub(mini, base):
    """A segmenter that answers at once."""
    return Stub(mini.recipe, mini.networks, mini.folders, mini.device, mini.dtype).ready(base)


@pytest.fixture
def serving(stub):
    """Make a client of a service over the stub: ``serving(token=…, limit=value…)``."""
    open_now = []

    def make(*, token=None, hosts=frozenset({"127.0.0.1"}), public=frozenset(), clock=None, **limits):
        service = Service([stub], Limits(**limits), token=token, hosts=hosts, public=public)
        if clock is not None:
            service.handles.clock = clock
        client = TestClient(make_app(service), base_url=HERE, raise_server_exceptions=False)
        client.__enter__()
        client.service = service
        open_now.append((client, stub))
        return client

    yield make
    for client, used in open_now:
        object.__setattr__(used, "dawdles", False)
        used.free.set()
        client.__exit__(None, None, None)


@pytest.fixture(scope="session")
def real(mini):
    """A client of a service over the embedded pair."""
    with TestClient(make_app(Service([mini], hosts=frozenset({"127.0.0.1"}))), base_url=HERE) as client:
        yield client


@pytest.fixture(scope="session")
def scene():
    """A scene's file and its words."""
    found = bundled.scenes()[0]
    return found.path.read_bytes(), list(found.labels)


def png_of(height, width, red=0):
    """A PNG of one colour."""
    out = BytesIO()
    Image.new("RGB", (width, height), (red, 10, 20)).save(out, format="PNG")
    return out.getvalue()


@pytest.fixture(scope="session")
def png():
    """Make a PNG of one colour: ``png(height, width, red)``."""
    return png_of


@pytest.fixture(scope="session")
def problem():
    """Check that an answer is a problem of a status, with no traceback in it; gives it."""

    def check(answer, status, kind=None):
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        content = answer.json()
        assert set(content) >= {"type", "title", "status", "detail", "instance"}
        assert content["status"] == status
        assert content["type"].startswith("urn:nerveseg:problem:")
        if kind is not None:
            assert content["type"].endswith(f":{kind}")
        assert "Traceback" not in answer.text
        assert ".py" not in answer.text
        assert len(answer.content) < 4000
        return content

    return check
