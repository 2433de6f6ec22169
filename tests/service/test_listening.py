"""The listening socket."""

import asyncio
import resource
import socket
from contextlib import ExitStack

import pytest

from helpers.service_client import Client, Viewer, serving, until
from musetalk_runtime.service.http import server
from musetalk_runtime.service.http.descriptors import RESERVED, raise_limit
from musetalk_runtime.service.http.server import listen
from musetalk_runtime.service.service import Service


def test_answers_are_not_held_back_for_more() -> None:
    """asyncio turns Nagle's algorithm off for sockets that say that they are TCP's: else an answer waits for 40 ms."""

    async def accepted() -> int:
        found: list[int] = []

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listen("127.0.0.1", 0) as listener:
            async with await asyncio.start_server(answer, sock=listener):
                reader, writer = await asyncio.open_connection(*listener.getsockname()[:2])
                await reader.read()
                writer.close()
        return found[0]

    assert asyncio.run(accepted()) == 1


@pytest.mark.slow
def test_connections_that_ask_for_nothing_make_room(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 20)
    with serving(service) as running, ExitStack() as stack:
        client = Client(running.port)
        path = client.begin()
        viewer = Viewer(client, path)
        until(lambda: len(viewer.data) > 0, "it is watched")
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", running.port))) for _ in range(60)]
        assert client.ask("GET", "/healthz") == (200, {"status": "ok"})
        for one in idle[:40]:
            one.settimeout(60)
            assert one.recv(1) == b""
        seen = len(viewer.data)
        until(lambda: len(viewer.data) > seen, "it is still watched")
        client.ask("DELETE", path)
        viewer.join(60)
        assert not viewer.cut
    assert [record.getMessage()[:26] for record in caplog.records].count("more than 20 connections: ") == 1


def test_the_soft_limit_of_descriptors_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
    try:
        assert raise_limit() == min(hard, 65_536) - RESERVED
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(hard, 65_536), hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
