"""A fleet behind nginx, by the example as it is: each device has its path."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers.fleet import ListedDevices, device, fronting
from helpers.proxy import Proxy, nginx_of_example
from helpers.service_client import Client, HeldPort, Viewer, until
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings

pytestmark = pytest.mark.slow


@pytest.fixture
def service(bundle: Path, avatar: Path) -> Iterator[Service]:
    with Bundle.open(bundle) as opened, Avatar.open(avatar) as face:
        yield Service(opened, {"one": face}, Settings(sessions=1))


def test_viewers_come_to_their_device_by_its_path(service: Service, tmp_path: Path) -> None:
    with ExitStack() as stack:
        running = stack.enter_context(ExitStack())
        address = running.enter_context(device("gb10-1", service, public=False))
        front, _ = stack.enter_context(fronting(ListedDevices(address)))
        held = stack.enter_context(HeldPort())
        changes = {
            "127.0.0.1:8000": f"127.0.0.1:{front.port}",
            "10.0.0.11:8787": address.url.removeprefix("http://"),
            "10.0.0.12:8787": "127.0.0.1:1",
            "listen 8080": f"listen 127.0.0.1:{held.port}",
        }
        proxy = Proxy(held.port, lambda _: nginx_of_example("nginx-fleet.conf", tmp_path, changes), tmp_path)
        stack.callback(proxy.stop)
        client = Client(proxy.port)
        status, session = client.ask("POST", "/v1/sessions", {"avatar": "one"})
        assert status == 201, session
        path, _, query = session["stream"].partition("?")
        assert path.startswith("/d/gb10-1/")
        viewer = Viewer(client, path.removesuffix("/stream.mp4"), f"?{query}")
        assert viewer.status == 200
        until(lambda: len(viewer.data) > 1000, "the stream comes through")
        assert client.ask("GET", path)[0] == 401  # without its signature
        for elsewhere in ("/d/gb10-2/v1/avatars", "/d/nobody/v1/avatars"):
            answer = client.request("GET", elsewhere)
            assert (answer.status, answer.headers["Retry-After"]) == (410, "1"), elsewhere
        running.close()
        viewer.join(60)
        assert client.ask("GET", session["stream"])[1]["error"]["code"] == "device_lost"
