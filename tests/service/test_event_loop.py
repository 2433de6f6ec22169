"""What the event loop does itself: all that returns at once, for each thread wants the interpreter's lock too."""

from typing import Any

import anyio.to_thread
import pytest

from helpers.service_client import Client


def test_no_request_goes_through_the_pool_of_threads(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    pooled: list[Any] = []
    run_sync = anyio.to_thread.run_sync

    async def recorded(function: Any, *arguments: Any, **keywords: Any) -> Any:
        pooled.append(function)
        return await run_sync(function, *arguments, **keywords)

    monkeypatch.setattr(anyio.to_thread, "run_sync", recorded)
    path = client.begin()
    for method, asked in (
        *(("GET", asked) for asked in ("/", "/healthz", "/readyz", "/metrics", "/v1/limits", "/v1/avatars", path)),
        *(("GET", asked) for asked in ("/v1/avatars/one", "/v1/sessions/none", f"{path}/hls/stream.m3u8")),
        ("POST", f"{path}/interrupt"),
        ("DELETE", path),
    ):
        status, _ = client.ask(method, asked)
        assert status < 300 or asked.endswith("none")
        assert not pooled, asked
