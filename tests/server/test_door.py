"""Who may come in, and what is told of the service."""

from __future__ import annotations

import socket

import pytest

from nerveseg.errors import MissingExtra, OptionError, RunError
from nerveseg.server import need_extra
from nerveseg.server.listening import is_loopback, listen
from nerveseg.server.run import check_door, hosts_of

TOKEN = "a-token-that-is-long-enough"


@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ÿ"]
)
def test_without_the_token_nobody_comes_in(serving, problem, header):
    client = serving(token=TOKEN)
    headers = {} if header is None else {"authorization": header.encode("latin-1")}
    for method, path in (
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
        ("POST", "/v1/segment"),
        ("GET", "/openapi.json"),
        ("GET", "/nothing"),
    ):
        answer = client.request(method, path, headers=headers)
        problem(answer, 401, "token")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/v1/health").status_code == 200


def test_with_the_token_everything_is_open(serving):
    client = serving(token=TOKEN)
    for scheme in ("Bearer", "bearer"):
        answer = client.get("/v1/models", headers={"authorization": f"{scheme} {TOKEN}", "host": "anything.example"})
        assert answer.status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost:x", "[::1"])
def test_a_page_elsewhere_cannot_ask_by_a_name_that_leads_here(serving, problem, host):
    problem(serving().get("/v1/models", headers={"host": host}), 421, "host")


def test_a_page_elsewhere_cannot_ask_across_sites(serving, problem, png):
    client = serving()
    send = {"files": {"file": ("a", png(3, 3))}, "data": {"labels": "cat, dog"}}
    for origin in ("https://evil.example", "null", "http://127.0.0.1:5000", "http://localhost", "file://", "", "http://[::1"):
        problem(client.post("/v1/segment", headers={"origin": origin}, **send), 403, "origin")
        problem(client.options("/v1/segment", headers={"origin": origin}), 403, "origin")
    for site in ("cross-site", "same-site"):
        problem(client.get("/v1/models", headers={"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}), 403, "origin")
    answer = client.post("/v1/segment", headers={"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"}, **send)
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
    assert client.get("/v1/models", headers={"origin": "http://127.0.0.1:81", "host": "127.0.0.1:81"}).status_code == 200


def test_an_open_door_is_open_to_hosts_and_not_to_other_sites(serving, problem):
    client = serving(hosts=frozenset())
    assert client.get("/v1/models", headers={"host": "nerveseg.internal"}).status_code == 200
    assert client.get("/v1/models", headers={"host": "a.example", "origin": "https://a.example"}).status_code == 200
    problem(client.get("/v1/models", headers={"host": "a.example", "origin": "https://b.example"}), 403, "origin")


def test_a_named_public_host_is_its_own(serving, problem):
    client = serving(public=frozenset({"masks.example"}))
    for headers in ({"host": "masks.example"}, {"host": "127.0.0.1:8000", "origin": "https://masks.example"}):
        assert client.get("/v1/models", headers=headers).status_code == 200
    problem(client.get("/v1/models", headers={"host": "masks.example", "origin": "https://evil.example"}), 403, "origin")
    problem(client.get("/v1/models", headers={"host": "evil.example"}), 421, "host")


def test_models_tell_knobs_and_limits(serving):
    content = serving(max_labels=7).get("/v1/models").json()
    (model,) = content["models"]
    assert (model["name"], model["device"]) == ("mini", "cpu")
    assert model["settings"]["walk.alpha"]["value"] == 0.98
    assert content["limits"]["max_labels"] == 7


def test_metrics_count_by_route_and_are_the_services_own(serving, png):
    first, second = serving(), serving()
    first.post("/v1/segment", files={"file": ("a", png(3, 3))}, data={"labels": "cat, dog"})
    first.get("/nothing/at/all")
    first.delete("/v1/encode/abc")
    text = first.get("/metrics").text
    assert 'nerveseg_requests_total{method="POST",path="/v1/segment",status="200"} 1.0' in text
    assert 'nerveseg_requests_total{method="GET",path="other",status="404"} 1.0' in text
    assert 'path="/v1/encode/{handle}",status="404"} 1.0' in text
    assert "abc" not in text
    assert "nerveseg_batch_pictures_count 1.0" in text
    assert "nerveseg_handles 0.0" in text
    assert "/v1/segment" not in second.get("/metrics").text


def test_while_it_drains_new_requests_get_503(serving, problem, png):
    client = serving()
    client.service.draining = True
    answer = client.post("/v1/segment", files={"file": ("a", png(3, 3))}, data={"labels": "cat, dog"})
    problem(answer, 503, "draining")
    assert "retry-after" in answer.headers
    problem(client.get("/v1/health"), 503, "draining")
    assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.invalid", ""])
def test_a_host_that_others_reach_needs_a_token(host):
    with pytest.raises(OptionError, match="NERVESEG_TOKEN"):
        check_door(host, None, open_door=False)
    check_door(host, TOKEN, open_door=False)
    check_door(host, None, open_door=True)
    assert hosts_of(host, None, open_door=True) == frozenset()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_none(host):
    assert is_loopback(host)
    check_door(host, None, open_door=False)
    assert host in hosts_of(host, None, open_door=False)


@pytest.mark.parametrize("token", ["", "short", "x" * 15, "x" * 16 + " y", "ö" * 20, "x" * 20 + "\n"])
def test_tokens_that_can_be_guessed_or_not_be_sent_are_refused(token):
    with pytest.raises(OptionError, match="token"):
        check_door("127.0.0.1", token, open_door=False)


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(RunError, match="nothing can listen"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_without_the_extra_the_command_that_installs_it_is_told(monkeypatch):
    monkeypatch.setattr("nerveseg.server.find_spec", lambda name: None if name == "uvicorn" else object())
    with pytest.raises(MissingExtra, match=r"pip install 'nerveseg\[serve\]'"):
        need_extra()
