#!/usr/bin/env python3
"""A browser that is killed while it watches: how long the only place of a service is held.

    PYTHONPATH=runtime python scripts/load/killed_browser.py [--idle 300]

Starts `musetalk-edge serve --sessions 1` with the demo, opens the player in Chromium, waits until it plays, and kills
all of Chromium with SIGKILL. Then it asks for a session each second until there is room. Prints JSON: seconds from the
kill until another is let in.

Not measured: a network that fails without a word. There TCP_USER_TIMEOUT, a minute, comes first.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from load.service import Service, serving

NOT_MEASURED = ["a network that fails without a word"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle", help="of the service, in seconds (default: its own)")
    args = parser.parse_args()
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        raise SystemExit("killed_browser: no Chromium on PATH")
    idle = ["--idle", args.idle] if args.idle else []
    with serving("--sessions", "1", *idle) as service, tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless=new", "--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        url = f"http://127.0.0.1:{service.port}/player?avatar=demo"
        with subprocess.Popen(
            [*command, f"--user-data-dir={profile}", url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            wait_until_watched(service)
            os.killpg(process.pid, signal.SIGKILL)
        killed = time.monotonic()
        refused = 0
        while service.ask("POST", "/v1/sessions", {"avatar": "demo"})[0] != 201:
            refused += 1
            time.sleep(1)
        held = time.monotonic() - killed
    print(json.dumps({"held_s": round(held, 1), "refused": refused, "not_measured": NOT_MEASURED}, indent=1))


def wait_until_watched(service: Service) -> None:
    deadline = time.monotonic() + 60
    while "musetalk_viewers 1\n" not in service.ask("GET", "/metrics")[1]:
        if time.monotonic() > deadline:
            raise SystemExit("killed_browser: the player did not begin to watch")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
