#!/usr/bin/env python3
"""The front end of a fleet against stand-ins for devices: sessions begun a second, how long each takes, memory.

    PYTHONPATH=runtime python scripts/load/fleet.py [--devices 50] [--capacity 16] [--sessions 10000] [--clients 32]

Three processes on this machine: the front end under uvicorn as Ray Serve runs its application, the stand-ins, and the
clients. Each session is begun and ended. A tenth of the devices dies and comes back meanwhile. Prints JSON: with room
for all, and then a fifth as many sessions on devices that hold one each, where most are refused. A device that has had
more sessions than it holds at any time is an error.

Not measured: Ray Serve's own part of a request, real devices, a network between them, uploads.
"""

import argparse
import asyncio
import json
import multiprocessing
import platform
import secrets
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from aiohttp import web

from musetalk_runtime.fleet.directory import DeviceAddress
from musetalk_runtime.fleet.front.app import create_front_app
from musetalk_runtime.fleet.front.front import Front
from musetalk_runtime.service.security.access import Access

SECRET = secrets.token_bytes(32)
NOT_MEASURED = ["Ray Serve's own part of a request", "real devices", "a network between them", "uploads"]
DEATH_S = 1.0  # seconds between deaths, and that one lasts
ROUNDS = 10


@dataclass
class StandIn:
    """A device that makes nothing: it counts its sessions, and refuses what is above its capacity."""

    capacity: int
    process: str = field(default_factory=lambda: secrets.token_hex(4))
    sessions: set[str] = field(default_factory=set)
    most: int = 0
    refused: int = 0
    up: bool = True

    async def status(self, request: web.Request) -> web.StreamResponse:
        self._check_up(request)
        return web.json_response(
            {
                "process": self.process,
                "admits": True,
                "free": self.capacity - len(self.sessions),
                "sessions": len(self.sessions),
                "avatars": {"one": ["default"]},
                "holders": {},
            }
        )

    async def begin(self, request: web.Request) -> web.StreamResponse:
        self._check_up(request)
        await request.read()
        if len(self.sessions) >= self.capacity:
            self.refused += 1
            return web.json_response({"error": {"code": "no_capacity", "message": "full"}}, status=503)
        key = self.process + secrets.token_urlsafe(18)
        self.sessions.add(key)
        self.most = max(self.most, len(self.sessions))
        links = {name: f"/v1/sessions/{key}/{name}" for name in ("stream", "hls", "events", "audio", "whep")}
        return web.json_response({"id": key, **links}, status=201)

    async def end(self, request: web.Request) -> web.StreamResponse:
        self._check_up(request)
        self.sessions.discard(request.match_info["key"])
        return web.Response(status=204)

    def die(self) -> None:
        self.up = False
        self.sessions.clear()

    def come_back(self) -> None:
        self.up, self.process = True, secrets.token_hex(4)

    def _check_up(self, request: web.Request) -> None:
        """Break off, as a device does whose power was cut."""
        if not self.up:
            if request.transport:
                request.transport.abort()
            raise web.HTTPServiceUnavailable


class Listed:
    """The directory of the stand-ins."""

    def __init__(self, ports: list[int]) -> None:
        names = [f"device-{n}" for n in range(len(ports))]
        self._devices = {n: DeviceAddress(n, f"http://127.0.0.1:{port}") for n, port in zip(names, ports, strict=True)}

    async def devices(self) -> Mapping[str, DeviceAddress]:
        return self._devices

    async def take_avatar(self, device: str, avatar: str) -> None:
        raise NotImplementedError

    async def ask_for(self, devices: int) -> None:
        raise NotImplementedError


def stand_in_devices(pipe: Connection, count: int, capacity: int) -> None:
    """Serve the stand-ins until told to stop; a tenth of them dies in turn."""

    async def serve() -> None:
        devices = [StandIn(capacity) for _ in range(count)]
        runners, ports = [], []
        for device in devices:
            app = web.Application()
            app.router.add_get("/v1/fleet/status", device.status)
            app.router.add_post("/v1/sessions", device.begin)
            app.router.add_delete("/v1/sessions/{key}", device.end)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            ports.append(runner.addresses[0][1])
            runners.append(runner)
        pipe.send(ports)
        deaths, mortal = 0, devices[: max(1, count // 10)]
        while not pipe.poll():
            device = mortal[deaths % len(mortal)]
            device.die()
            await asyncio.sleep(DEATH_S)
            device.come_back()
            deaths += 1
            await asyncio.sleep(DEATH_S)
        pipe.send(
            {
                "deaths": deaths,
                "over_capacity": sum(device.most > device.capacity for device in devices),
                "most_at_once": max(device.most for device in devices),
                "refused_by_devices": sum(device.refused for device in devices),
            }
        )
        for runner in runners:
            await runner.cleanup()

    asyncio.run(serve())


def front_end(ports: list[int], port: int) -> None:
    app = create_front_app(Front(Listed(ports), SECRET), Access())
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


async def load(port: int, sessions: int, clients: int, pid: int) -> dict[str, Any]:
    """Begin and end sessions by many clients at once; the figures of each round and of all."""
    url = f"http://127.0.0.1:{port}/v1/sessions"
    statuses: Counter[int] = Counter()
    rounds, times = [], []

    async def client(http: aiohttp.ClientSession, count: int) -> None:
        for _ in range(count):
            began = time.perf_counter()
            async with http.post(url, json={"avatar": "one"}) as answer:
                told = await answer.json()
                times.append(time.perf_counter() - began)
                statuses[answer.status] += 1
            if answer.status == 201:
                async with http.delete(f"{url}/{told['id']}") as ended:
                    statuses[ended.status] += 1

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await ready(http, port)
        for number in range(1, ROUNDS + 1):
            began, before = time.perf_counter(), len(times)
            each = -(-sessions // (ROUNDS * clients))
            await asyncio.gather(*(client(http, each) for _ in range(clients)))
            spent = time.perf_counter() - began
            rate = round((len(times) - before) / spent)
            rounds.append({"begins": len(times), "a_second": rate, "memory_mb": rss(pid)})
            print(number, rounds[-1], file=sys.stderr)
    times.sort()
    return {
        "begins_a_second": {"median": sorted(one["a_second"] for one in rounds)[ROUNDS // 2]},
        "statuses": dict(statuses),
        "begin_ms": {f"p{p}": round(times[int(len(times) * p / 100)] * 1e3, 1) for p in (50, 95, 99)},
        "rounds": rounds,
    }


async def ready(http: aiohttp.ClientSession, port: int) -> None:
    for _ in range(300):
        try:
            async with http.get(f"http://127.0.0.1:{port}/readyz") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.1)
    raise SystemExit("fleet: the front end does not start")


def rss(pid: int) -> float:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return round(int(fields[1]) * 4096 / 1e6, 1)


def measure(args: argparse.Namespace, capacity: int, sessions: int) -> dict[str, Any]:
    """The figures of a front end, with as many stand-ins as are asked, which hold `capacity` sessions each."""
    start = multiprocessing.get_context("spawn")
    ours, theirs = start.Pipe()
    devices = start.Process(target=stand_in_devices, args=(theirs, args.devices, capacity))
    devices.start()
    front = start.Process(target=front_end, args=(ours.recv(), args.port))
    front.start()
    try:
        figures = asyncio.run(load(args.port, sessions, args.clients, front.pid or 0))
        ours.send("stop")
        return {**figures, "devices": {"count": args.devices, "capacity": capacity, **ours.recv()}}
    finally:
        for process in (front, devices):
            process.terminate()
            process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--capacity", type=int, default=16, help="sessions that a device holds (default: 16)")
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=32, help="at once (default: 32)")
    parser.add_argument("--port", type=int, default=8765)
    args = parser.parse_args()
    roomy = measure(args, args.capacity, args.sessions)
    crowded = measure(args, 1, args.sessions // 5)
    machine = {"cpu": platform.processor() or platform.machine(), "cores": multiprocessing.cpu_count()}
    told = {"room_for_all": roomy, "one_session_a_device": crowded, "clients": args.clients, "machine": machine}
    print(json.dumps({**told, "not_measured": NOT_MEASURED}, indent=1))
    if any(figures["devices"]["over_capacity"] for figures in (roomy, crowded)):
        raise SystemExit("fleet: a device had more sessions than it holds")


if __name__ == "__main__":
    main()
