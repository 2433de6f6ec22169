"""A fleet without Ray: a directory that a test fills, a front end on a free port, and stand-ins for devices."""

import asyncio
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from helpers.service_client import Client, serving, until
from musetalk_runtime.fleet.directory import DeviceAddress
from musetalk_runtime.fleet.front.app import create_front_app
from musetalk_runtime.fleet.front.front import Front
from musetalk_runtime.service.http.server import listen
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.signed_tokens import SignedTokens, device_key
from musetalk_runtime.service.service import Service

SECRET = b"a secret of a fleet, for the tests only"


class ListedDevices:
    """A directory of devices that a test lists; ``taken`` has what they were asked to take, ``wanted`` how many."""

    def __init__(self, *devices: DeviceAddress) -> None:
        self.listed = {device.name: device for device in devices}
        self.taken: list[tuple[str, str]] = []
        self.wanted: list[int] = []

    async def devices(self) -> Mapping[str, DeviceAddress]:
        return dict(self.listed)

    async def take_avatar(self, device: str, avatar: str) -> None:
        self.taken.append((device, avatar))

    async def ask_for(self, devices: int) -> None:
        self.wanted.append(devices)


@contextmanager
def served(app: FastAPI, port: int = 0) -> Iterator[int]:
    """`app` on a free port of this machine, by a thread."""
    server = uvicorn.Server(
        uvicorn.Config(app, loop="asyncio", log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    )
    with listen("127.0.0.1", port) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        until(lambda: server.started, "it is served")
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def fronting(
    directory: ListedDevices, access: Access | None = None, all_up: bool = True, **settings: Any
) -> Iterator[tuple[Client, Front]]:
    """A client of a front end of the devices in `directory`, which has heard of all if `all_up`, and that front end."""
    front = Front(directory, SECRET, **settings)
    with served(create_front_app(front, access or Access())) as port:
        until(lambda: not all_up or front.rooms.up.keys() == directory.listed.keys(), "all devices are up")
        yield Client(port), front


def begin_soon(client: Client, **wanted: Any) -> dict[str, Any]:
    """A session of a front end, which for up to a second may count a place twice and refuse then."""
    deadline = time.monotonic() + 60
    while True:
        with client.request("POST", "/v1/sessions", {"avatar": "one", "fps": 25, **wanted}) as answer:
            session = json.loads(answer.read())
        if not answer.headers["Retry-After"] or time.monotonic() > deadline:
            assert answer.status == 201, session
            return dict(session)
        time.sleep(0.5)


class StandIn:
    """A device that makes nothing: it counts its sessions, and refuses what is above its `capacity`.

    ``most`` is how many ran at once, ``refused`` how many it refused.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.process = secrets.token_hex(4)
        self.sessions: set[str] = set()
        self.most = self.refused = 0
        self.app = FastAPI()
        self.app.get("/v1/fleet/status")(self.status)
        self.app.post("/v1/sessions")(self.begin)
        self.app.delete("/v1/sessions/{key}")(self.end)

    async def status(self) -> Response:
        return JSONResponse(
            {
                "process": self.process,
                "admits": True,
                "free": self.capacity - len(self.sessions),
                "sessions": len(self.sessions),
                "avatars": {"one": ["default"]},
                "holders": {},
            }
        )

    async def begin(self, request: Request) -> Response:
        json.loads(await request.body())
        if len(self.sessions) >= self.capacity:
            self.refused += 1
            return JSONResponse({"error": {"code": "no_capacity", "message": "full"}}, 503)
        await asyncio.sleep(0)
        key = self.process + secrets.token_urlsafe(18)
        self.sessions.add(key)
        self.most = max(self.most, len(self.sessions))
        return JSONResponse({"id": key, "stream": f"/d/x/v1/sessions/{key}/stream.mp4"}, 201)

    async def end(self, key: str) -> Response:
        if key not in self.sessions:
            return JSONResponse({"error": {"code": "unknown_session", "message": "gone"}}, 404)
        self.sessions.discard(key)
        return Response(status_code=204)


@contextmanager
def device(name: str, service: Service, public: bool = True) -> Iterator[DeviceAddress]:
    """`service` as a device of a fleet with SECRET, until the context is left."""
    keyed = SignedTokens(device_key(SECRET, name))
    address = DeviceAddress(name, "", None)
    with serving(service, Access(keyed, root_path="" if public else address.root_path)) as server:
        url = f"http://127.0.0.1:{server.port}"
        yield DeviceAddress(name, url, url if public else None)
