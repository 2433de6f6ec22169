#!/usr/bin/env python3
"""Connections that ask for nothing, more than the service may have descriptors, beside a stream that is watched.

    PYTHONPATH=runtime python scripts/load/connections.py [--connections 1100] [--soft-limit 1024] [--seconds 12]

Starts `musetalk-edge serve` with the demo and that soft limit of descriptors, begins a session, and watches it. Then it
opens the connections, and keeps as many open: one that is closed is opened anew. Prints JSON: how long /healthz took
meanwhile and how often it failed, what the viewer got, the CPU's share, descriptors, and bytes of log; before and while
they are there.

Not measured: a network, and what this client takes of the machine.
"""

import argparse
import json
import selectors
import socket
import statistics
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from load.service import Service, serving

NOT_MEASURED = ["a network", "what this client takes of the machine"]


class Idle(threading.Thread):
    """Keeps `count` connections open that ask for nothing. ``reopened`` counts those that the service closed."""

    def __init__(self, port: int, count: int) -> None:
        super().__init__(daemon=True)
        self.reopened = 0
        self._port = port
        self._selector = selectors.DefaultSelector()
        for _ in range(count):
            self._open()
        self.start()

    def run(self) -> None:
        with suppress(OSError):  # the service has ended
            while True:
                for key, _ in self._selector.select():
                    self._selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
                    self._open()
                    self.reopened += 1

    def _open(self) -> None:
        self._selector.register(socket.create_connection(("127.0.0.1", self._port), timeout=10), selectors.EVENT_READ)


class Viewer(threading.Thread):
    """Watches to the end. ``received`` counts bytes; ``longest_wait`` is in seconds."""

    def __init__(self, service: Service, path: str) -> None:
        super().__init__(daemon=True)
        self.received, self.longest_wait = 0, 0.0
        self._answer = service.open("GET", f"{path}/stream.mp4")
        self.start()

    def run(self) -> None:
        at = time.monotonic()
        while data := self._answer.read1(1 << 16):
            self.received += len(data)
            self.longest_wait, at = max(self.longest_wait, time.monotonic() - at), time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1100)
    parser.add_argument("--soft-limit", type=int, default=1024, help="of descriptors, of the service (default: 1024)")
    parser.add_argument("--seconds", type=float, default=12.0)
    args = parser.parse_args()
    with serving("--sessions", "1", soft_limit=args.soft_limit) as service:
        viewer = Viewer(service, f"/v1/sessions/{service.ask('POST', '/v1/sessions', {'avatar': 'demo'})[1]['id']}")
        before = observe(service, viewer, args.seconds)
        log, idle = len(service.lines), Idle(service.port, args.connections)
        during = observe(service, viewer, args.seconds)
        figures = {
            "connections": args.connections,
            "soft_limit": args.soft_limit,
            "reopened": idle.reopened,
            "log_bytes": sum(map(len, service.lines[log:])),
        }
    print(json.dumps({**figures, "before": before, "during": during, "not_measured": NOT_MEASURED}, indent=1))


def observe(service: Service, viewer: Viewer, seconds: float) -> dict[str, Any]:
    """Ask /healthz ten times a second, for so long."""
    milliseconds, failed = [], 0
    viewer.longest_wait = 0.0
    began, cpu, received = time.monotonic(), service.cpu_seconds, viewer.received
    while (spent := time.monotonic() - began) < seconds:
        asked = time.perf_counter()
        try:
            failed += service.ask("GET", "/healthz", timeout=10)[0] != 200
        except OSError:
            failed += 1
        milliseconds.append((time.perf_counter() - asked) * 1e3)
        time.sleep(0.1)
    return {
        "healthz_ms": {"p50": round(statistics.median(milliseconds), 1), "most": round(max(milliseconds), 1)},
        "healthz_failed": failed,
        "viewer_bytes": viewer.received - received,
        "viewer_longest_wait_s": round(viewer.longest_wait, 2),
        "cpu_share_of_a_core": round((service.cpu_seconds - cpu) / spent, 3),
        "descriptors": service.descriptors,
    }


if __name__ == "__main__":
    main()
