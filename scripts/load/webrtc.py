#!/usr/bin/env python3
"""Viewers by WebRTC that come and go, hundreds of times: whether the service grows.

    PYTHONPATH=runtime python scripts/load/webrtc.py [--rounds 4] [--viewers 50]

Starts `musetalk-edge serve` with the demo, and one session. Each viewer, by aiortc in this process, connects, waits for
its first frame, and leaves: every other one without a word to the service. Prints JSON: for each round the median
milliseconds from the offer to the first frame, and after it the service's memory, descriptors, threads and, by its
/metrics, the tasks of its event loop.

Not measured: a browser, a network, and viewers that vanish, whom the service gives up after half a minute (tests do).
"""

import argparse
import asyncio
import json
import re
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from load.service import Service, serving

from helpers.service_client import Client
from helpers.whep_client import WhepViewer

NOT_MEASURED = ["a browser", "a network", "viewers that vanish"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--viewers", type=int, default=50, help="in each round (default: 50)")
    args = parser.parse_args()
    rounds = []
    with serving("--sessions", "1") as service:
        status, session = service.ask("POST", "/v1/sessions", {"avatar": "demo", "fps": 25, "lead": 0})
        if status != 201:
            raise SystemExit(f"webrtc: refused: {session}")
        path = f"/v1/sessions/{session['id']}"
        for number in range(1, args.rounds + 1):
            spent = [asyncio.run(watch(service, path, says=bool(n % 2))) for n in range(args.viewers)]
            wait_until_gone(service, path)
            rounds.append(
                {
                    "viewers": number * args.viewers,
                    "first_frame_ms": round(statistics.median(spent)),
                    "memory_mb": round(service.memory_mb, 1),
                    "descriptors": service.descriptors,
                    "threads": len(list(Path(f"/proc/{service.pid}/task").iterdir())),
                    "tasks": tasks(service),
                }
            )
            print(rounds[-1], file=sys.stderr)
    print(json.dumps({"rounds": rounds, "not_measured": NOT_MEASURED}, indent=1))


async def watch(service: Service, path: str, says: bool) -> float:
    """Milliseconds from the offer of one viewer to its first frame; whether it `says` that it leaves."""
    began = time.monotonic()
    async with WhepViewer(Client(service.port), path) as viewer:
        await viewer.until(lambda: viewer.video, "the first frame comes")
        spent = (time.monotonic() - began) * 1e3
        if says:
            await asyncio.to_thread(service.ask, "DELETE", viewer.location)
    return spent


def wait_until_gone(service: Service, path: str) -> None:
    """Wait until the service counts no viewer."""
    while service.ask("GET", path)[1]["viewers"]:
        time.sleep(0.5)


def tasks(service: Service) -> int:
    """The tasks of its event loop, with the one that answers this."""
    found = re.search(r"^musetalk_tasks (\d+)", service.ask("GET", "/metrics")[1], re.MULTILINE)
    if not found:
        raise SystemExit("webrtc: /metrics tells no tasks")
    return int(found[1])


if __name__ == "__main__":
    main()
