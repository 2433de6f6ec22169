#!/usr/bin/env python3
"""Sessions that begin and end, thousands of times: whether the service grows.

    PYTHONPATH=runtime python scripts/load/churn.py [--rounds 10] [--sessions 300]

Starts `musetalk-edge serve` with the demo. Each session is watched until its first fragment and deleted. Prints JSON:
for each round the milliseconds a session took, and the service's memory and descriptors after it, 12 s later: so long
ended sessions are kept for viewers that have not seen the end.

Not measured: sessions that speak, and several at once.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from load.service import Service, serving

KEPT_S = 12.0
NOT_MEASURED = ["sessions that speak", "several sessions at once"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--sessions", type=int, default=300, help="in each round (default: 300)")
    args = parser.parse_args()
    rounds = []
    with serving("--sessions", "4") as service:
        for number in range(1, args.rounds + 1):
            began = time.monotonic()
            for _ in range(args.sessions):
                run(service)
            spent = (time.monotonic() - began) * 1e3 / args.sessions
            time.sleep(KEPT_S)
            rounds.append(
                {
                    "sessions": number * args.sessions,
                    "ms_a_session": round(spent, 1),
                    "memory_mb": round(service.memory_mb, 1),
                    "descriptors": service.descriptors,
                }
            )
            print(rounds[-1], file=sys.stderr)
    print(json.dumps({"rounds": rounds, "not_measured": NOT_MEASURED}, indent=1))


def run(service: Service) -> None:
    """One session, until its first fragment has come."""
    status, session = service.ask("POST", "/v1/sessions", {"avatar": "demo"})
    if status != 201:
        raise SystemExit(f"churn: refused: {session}")
    with service.open("GET", f"/v1/sessions/{session['id']}/stream.mp4") as stream:
        if not stream.read(1000):
            raise SystemExit("churn: a stream ended before its first fragment")
    service.ask("DELETE", f"/v1/sessions/{session['id']}")


if __name__ == "__main__":
    main()
