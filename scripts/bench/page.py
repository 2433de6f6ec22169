"""The time that a browser takes from the click to the first frame, on this machine.

    scripts/bench/page.py BUNDLE AVATAR [--runs 10]

Serves the page, and clicks on "Play" with a speech file chosen, in a new session each time, in Chromium without a
window. Prints milliseconds as JSON: until the first frame is on the screen, and until the voice is heard. The browser
shares the machine with the service. Needs Chromium and the extra ``dev``.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from helpers.browser import Page, browsing
from helpers.service_client import serving, until
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.diagnostics.synthetic import write_voice
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings

LISTEN = """
const context = new AudioContext();
window.analyser = context.createAnalyser();
context.createMediaElementSource(v).connect(analyser).connect(context.destination);
context.resume()"""
CLICK = """new Promise(done => {
    const clicked = performance.now(), times = {}, since = () => performance.now() - clicked;
    const samples = new Float32Array(analyser.fftSize);
    v.requestVideoFrameCallback(() => { times.frame = since(); });
    const look = setInterval(() => {
        analyser.getFloatTimeDomainData(samples);
        if (!times.frame || v.currentTime === 0 || !samples.some(sample => Math.abs(sample) > 0.02)) return;
        clearInterval(look);
        done({ ...times, voice: since() });
    }, 5);
    document.getElementById("play").click();
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()
    with Bundle.open(args.bundle) as bundle, Avatar.open(args.avatar) as avatar:
        service = Service(bundle, {"face": avatar}, Settings(sessions=1))
        service.measure()
        profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        with serving(service) as server, profile as folder:
            voice = Path(folder) / "voice.wav"
            write_voice(voice, 2.0)
            with browsing(f"http://127.0.0.1:{server.port}/", Path(folder)) as page:
                page.run(LISTEN)
                page.choose("#clip", voice)
                runs = [_run(page, service) for _ in range(args.runs)]
    print(json.dumps({name: _describe([run[name] for run in runs]) for name in ("frame", "voice")}))


def _run(page: Page, service: Service) -> dict[str, Any]:
    page.until("document.getElementById('play').getAttribute('aria-disabled') === 'false'")
    times: dict[str, Any] = page.run(CLICK)
    page.click("end")
    until(lambda: not service.sessions.running, "the session ends")
    return times


def _describe(times: list[float]) -> dict[str, float]:
    return {"p50_ms": round(statistics.median(times)), "min_ms": round(min(times)), "max_ms": round(max(times))}


if __name__ == "__main__":
    main()
