"""HEAD, and methods that a path does not take."""

import pytest

from helpers.service_client import Client, until
from musetalk_runtime.service.service import Service


@pytest.mark.parametrize("path", ["/", "/player", "/healthz", "/readyz", "/metrics", "/v1/avatars", "/v1/openapi.json"])
def test_head_is_get_without_its_body(client: Client, path: str) -> None:
    with client.request("GET", path) as get, client.request("HEAD", path) as head:
        assert head.status == get.status == 200
        for name in ("Content-Type", "Content-Security-Policy"):
            assert head.headers[name] == get.headers[name]
        assert head.read() == b""


def test_head_of_a_stream_is_over_at_once(client: Client, service: Service) -> None:
    path = client.begin()
    with client.request("HEAD", f"{path}/stream.mp4") as head:
        assert (head.status, head.headers["Content-Type"], head.read()) == (200, "video/mp4", b"")
    until(lambda: service.sessions.viewers == 0, "nobody watches")
    client.ask("DELETE", path)
    with client.request("HEAD", "/v1/sessions/none") as head:
        assert (head.status, head.read()) == (404, b"")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/v1/avatars", "GET, HEAD, POST"),
        ("PUT", "/v1/avatars/one", "DELETE, GET, HEAD"),
        ("PUT", "/v1/sessions", "GET, HEAD, POST"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
def test_allow_names_every_method(client: Client, method: str, path: str, allowed: str) -> None:
    with client.request(method, path, b"{}") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, allowed)


def test_what_is_answered_is_described(client: Client) -> None:
    paths = client.ask("GET", "/v1/openapi.json")[1]["paths"]
    for methods in (methods for path, methods in paths.items() if path.startswith("/v1/sessions")):
        for operation in methods.values():
            assert {"400", "403"} <= operation["responses"].keys()
