"""Limits hold, and each says so as a problem."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from nerveseg.errors import OptionError, OutOfMemory
from nerveseg.server.handles import Handles
from nerveseg.server.limits import Limits
from nerveseg.server.problems import Problem
from nerveseg.server.service import Service

WORDS = {"labels": "cat, dog, grass"}


def post(client, data, name="a.png", **fields):
    return client.post("/v1/segment", files={"file": (name, data)}, data={**WORDS, **fields})


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_body_is_refused_by_its_head(serving, png, problem):
    client = serving(body_mib=0.01)
    problem(post(client, png(4, 4) + bytes(20_000)), 413, "body")


def test_a_body_without_a_length_is_cut_at_the_limit(serving, problem):
    client = serving(body_mib=0.01)
    sent = []

    def pieces():
        for _ in range(10_000):
            sent.append(1)
            yield bytes(1000)

    answer = client.post("/v1/segment", content=pieces(), headers={"content-type": "multipart/form-data; boundary=x"})
    problem(answer, 413, "body")


def test_pixels_are_refused_before_they_are_decoded(serving, png, problem):
    client = serving(max_pixels=1000)
    assert post(client, png(20, 50)).status_code == 200
    content = problem(post(client, png(20, 51)), 413, "pixels")
    assert "20×51" in content["detail"]


@pytest.mark.parametrize(
    "labels",
    [
        ", ".join(f"w{index}" for index in range(11)),
        "cat; " + "; ".join(f"w{index}" for index in range(20)),
        "cat, " + "x" * 31,
    ],
)
def test_words_are_counted(serving, png, problem, labels):
    client = serving(max_labels=10, max_words=20, max_letters=30)
    problem(post(client, png(4, 4), labels=labels), 413, "labels")
    assert post(client, png(4, 4), labels=", ".join(f"w{index}" for index in range(10))).status_code == 200


def test_background_words_are_counted_too(serving, png, problem):
    client = serving(max_labels=10, max_words=20)
    problem(post(client, png(4, 4), background=", ".join(f"w{index}" for index in range(18))), 413, "labels")


def test_work_ends_when_its_time_is_up(serving, stub, png, problem):
    client = serving(seconds=0.3)
    client.service.readers.warm()  # to start one may take longer than a request has here
    object.__setattr__(stub, "dawdles", True)
    started = time.monotonic()
    problem(post(client, png(4, 4)), 504, "overdue")
    assert time.monotonic() - started < 15
    object.__setattr__(stub, "dawdles", False)
    assert post(client, png(4, 4)).status_code == 200  # the worker was not lost


def test_a_request_that_waited_too_long_is_not_done(serving, stub, png, problem):
    client = serving(seconds=0.3)
    stub.free.clear()
    problem(post(client, png(4, 4)), 504, "overdue")
    stub.free.set()
    until(lambda: client.service.pool.waiting == 0)


def test_a_full_queue_says_when_to_come_again(serving, stub, png, problem):
    client = serving(queue=2)
    stub.free.clear()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(post, client, png(4, 4))
        stub.at_work.wait(10)
        rest = [pool.submit(post, client, png(4, 4)) for _ in range(2)]
        until(lambda: client.service.pool.waiting == 2)
        refused = post(client, png(4, 4))
        problem(refused, 429, "full")
        assert int(refused.headers["retry-after"]) >= 1
        stub.free.set()
        assert [one.result().status_code for one in (first, *rest)] == [200] * 3
    assert post(client, png(4, 4)).status_code == 200


def test_images_that_wait_go_together_and_answers_do_not_mix(serving, stub, png):
    client = serving(queue=16, batch=4)
    stub.free.clear()
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(post, client, png(4, 4, 0))
        stub.at_work.wait(10)
        rest = [pool.submit(post, client, png(4, 5 + index, index)) for index in range(8)]
        until(lambda: client.service.pool.waiting == 8)
        stub.free.set()
        answers = [one.result() for one in rest]
        assert first.result().status_code == 200
    assert stub.batches == [1, 4, 4]
    for index, answer in enumerate(answers):
        ids = np.asarray(_image(answer))
        assert ids.shape == (4, 5 + index)
        assert (ids == index % 3).all()


def test_one_that_fails_does_not_fail_those_beside_it(serving, stub, png, problem):
    client = serving(batch=4)
    object.__setattr__(stub, "fails", ["bad.png", OutOfMemory("Got no memory for this image. Accepted is what fits. Shrink it.")])
    stub.free.clear()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(post, client, png(4, 4))
        stub.at_work.wait(10)
        rest = [pool.submit(post, client, png(4, 4), name) for name in ("a.png", "bad.png", "b.png")]
        until(lambda: client.service.pool.waiting == 3)
        stub.free.set()
        answers = [one.result() for one in rest]
        assert first.result().status_code == 200
    assert [answer.status_code for answer in answers] == [200, 413, 200]
    problem(answers[1], 413, "memory")


def test_an_error_of_ours_says_nothing_of_the_inside(serving, stub, png, problem, caplog):
    client = serving()
    object.__setattr__(stub, "fails", ["bad.png", RuntimeError("secret of /home/me")])
    answer = post(client, png(4, 4), "bad.png")
    content = problem(answer, 500, "internal")
    assert "secret" not in answer.text
    assert any(content["instance"] in record.message and record.exc_info for record in caplog.records)
    assert post(client, png(4, 4)).status_code == 200


def test_limits_have_ranges(stub):
    with pytest.raises(OptionError, match=r"limits\.queue"):
        Service([stub], Limits(queue=0))
    with pytest.raises(OptionError, match="segmenter"):
        Service([])


class Encoded:
    def __init__(self, size):
        self.bytes = size


def test_handles_go_by_time_and_by_room():
    now = [0.0]
    handles = Handles(10.0, 100, lambda: now[0])
    a, b = handles.add(Encoded(40), 0), handles.add(Encoded(40), 1)
    assert len({a, b}) == 2
    assert len(a) >= 32
    now[0] = 9.0
    assert handles.get(a).worker == 0  # used: its time begins anew
    handles.add(Encoded(50), 0)  # b was used longest ago
    with pytest.raises(Problem) as gone:
        handles.get(b)
    assert gone.value.status == 410
    now[0] = 18.9
    handles.get(a)
    now[0] = 28.95
    with pytest.raises(Problem) as late:
        handles.get(a)
    assert late.value.status == 410
    assert (handles.bytes, len(handles)) == (0, 0)
    with pytest.raises(Problem) as never:
        handles.get("never")
    assert never.value.status == 404
    with pytest.raises(Problem) as large:
        handles.add(Encoded(101), 0)
    assert large.value.status == 413
    assert handles.bytes == 0


def test_names_of_gone_handles_are_forgotten_in_the_end():
    handles = Handles(10.0, 1, lambda: 0.0)
    first = handles.add(Encoded(1), 0)
    for _ in range(5000):
        handles.add(Encoded(1), 0)
    with pytest.raises(Problem) as found:
        handles.get(first)
    assert found.value.status == 404


def test_a_handle_dies_when_nobody_asks(serving, png, problem):
    now = [0.0]
    client = serving(clock=lambda: now[0], handle_seconds=5.0)
    handle = client.post("/v1/encode", files={"file": ("a.png", png(4, 4))}).json()["handle"]
    asked = {"handle": handle, "labels": ["cat", "dog"]}
    assert client.post("/v1/decode", json=asked).status_code == 200
    now[0] = 6.0
    problem(client.post("/v1/decode", json=asked), 410, "handle-gone")
    problem(client.post("/v1/decode", json={**asked, "handle": "x" * 40}), 404, "handle")
    problem(client.delete("/v1/encode/../../etc/passwd"), 404)


def test_who_went_away_makes_room(serving, stub, png):
    client = serving(queue=1)
    stub.free.clear()
    jobs = []
    submit = client.service.pool.submit
    client.service.pool.submit = lambda job: jobs.append(job) or submit(job)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(post, client, png(4, 4))
        stub.at_work.wait(10)
        second = pool.submit(post, client, png(4, 4))
        until(lambda: client.service.pool.waiting == 1)
        jobs[1].gone.set()
        jobs[1].future.cancel()
        stub.free.set()
        assert first.result().status_code == 200
        second.result()
    assert stub.batches == [1]
    assert not threading.main_thread().daemon


def _image(answer):
    from io import BytesIO

    assert answer.status_code == 200, answer.text
    return Image.open(BytesIO(answer.content))
