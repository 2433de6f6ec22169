#!/usr/bin/env python3
"""How soon and how well a browser sees a conversation by WebRTC, on this machine.

    PYTHONPATH=runtime python scripts/bench/webrtc.py [--turns 15] [--seconds 60] [--fps auto]

Starts `musetalk-edge serve` (the demo, unless -b and -a say otherwise) and Chromium without a window, whose microphone
says the demo's speech. Prints JSON:

- click: milliseconds from "Speak live" to the first frame on the screen, in a new session each time
- glass: from a sample of speech that is sent over the WebSocket to the mouth that moves in the <video>, and to the
  sound that is heard there, and by /metrics to the frame that leaves the service; by WebRTC, by the page's player of
  fragmented MP4, and by hls.js where npm has it (npm install --prefix .venv hls.js); the latter two in sessions with
  the usual lead
- interruption: from a request to interrupt to silence, by each of them
- sync: how far sound is played after the picture of the same time, by the browser's own estimate, each second from the
  tenth on, and what the browser counts of trouble: on a machine that is too busy it is that what is measured
- viewers: frames a second of five viewers of one session at once
- load: the share of all cores that was busy meanwhile, with other processes

Not measured: a network, a screen's and a loudspeaker's own delay, other browsers. Service and browser share the
machine.
"""

import argparse
import base64
import json
import os
import re
import sys
import tempfile
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from load.service import Service, busy_seconds, serving

from helpers.browser import Page, browsing
from musetalk_runtime.demo import SPEECH

RATE, PIECE = 16_000, 320  # of speech, and samples sent at once
MICROPHONE = [
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    f"--use-file-for-fake-audio-capture={SPEECH}",
]
NOT_MEASURED = ["a network", "a screen's and a loudspeaker's own delay", "other browsers"]

CLICK = """new Promise(done => {
    const clicked = performance.now();
    const look = () => {
        if (v.srcObject && v.videoWidth) done(performance.now() - clicked);
        else v.requestVideoFrameCallback(look);
    };
    v.requestVideoFrameCallback(look);
    document.getElementById("live").click();
})"""

AFTER_MS = {"webrtc": 1200, "mp4": 1200, "hls": 6000}  # from the end of the speech until all of it has been played
SETTLED_S, IN_STEP_MS = 10, 40
HLS_JS = Path(sys.prefix) / "node_modules" / "hls.js" / "dist" / "hls.light.min.js"
TOOLS = Path(__file__).with_suffix(".js").read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="clicks (default: 10)")
    parser.add_argument("--turns", type=int, default=15, help="turns (default: 15)")
    parser.add_argument("--seconds", type=int, default=60, help="of a conversation, for sync: 10 or more (default: 60)")
    parser.add_argument("--only", choices=["click", "glass", "interruption", "sync", "viewers"], action="append")
    parser.add_argument("--fps", default="auto", help="of the sessions (default: auto)")
    parser.add_argument("-b", "--bundle")
    parser.add_argument("-a", "--avatar", metavar="NAME=AVATAR")
    args = parser.parse_args()
    options = [x for name in ("bundle", "avatar") if getattr(args, name) for x in (f"--{name}", getattr(args, name))]
    profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with serving(*options) as service, profile as folder:
        url = f"http://127.0.0.1:{service.port}/"
        with browsing(url, Path(folder), *MICROPHONE) as page:
            found = _measure(page, service, args)
    print(json.dumps({**found, "not_measured": NOT_MEASURED}, indent=1))


def _measure(page: Page, service: Service, args: argparse.Namespace) -> dict[str, Any]:
    avatar = {**service.ask("GET", "/v1/avatars")[1][0], "fps": args.fps}
    busy, began = busy_seconds(), time.monotonic()
    clicks = [_click(page) for _ in range(args.runs)] if not args.only or "click" in args.only else []
    page.run(TOOLS)
    speech = base64.b64encode(_speech()).decode()
    page.run(f"window.pcm = new Int16Array(Uint8Array.from(atob('{speech}'), c => c.charCodeAt()).buffer); 0")
    kinds = {"webrtc": 0, "mp4": None}
    if HLS_JS.exists():
        page.run(HLS_JS.read_text() + "; 0")
        kinds["hls"] = None
    measures = {
        "click": lambda: _describe(clicks),
        "glass": lambda: {kind: _glass(page, service, avatar, kind, kinds[kind], args.turns) for kind in kinds},
        "interruption": lambda: {
            kind: _interruption(page, service, avatar, kind, kinds[kind], args.turns) for kind in kinds
        },
        "sync": lambda: _sync(page, service, avatar, args.seconds),
        "viewers": lambda: _viewers(page, service, avatar, 5),
    }
    found = {name: measure() for name, measure in measures.items() if not args.only or name in args.only}
    cores = os.cpu_count() or 1
    return {**found, "load": round((busy_seconds() - busy) / (time.monotonic() - began) / cores, 2)}


def _click(page: Page) -> float:
    page.ready()
    page.until("document.getElementById('live').getAttribute('aria-disabled') === 'false'")
    found: float = page.run(CLICK)
    page.click("end")
    page.until("document.getElementById('end').getAttribute('aria-disabled') === 'true'")
    time.sleep(0.5)
    return found


def _begin(service: Service, avatar: dict[str, Any], lead: float | None) -> dict[str, Any]:
    wanted = {"avatar": avatar["name"], "fps": avatar["fps"], **({} if lead is None else {"lead": lead})}
    for _ in range(60):
        status, session = service.ask("POST", "/v1/sessions", wanted)
        if status == 201:
            return session
        time.sleep(0.5)
    raise SystemExit(f"webrtc: refused: {session}")


def _open(page: Page, session: dict[str, Any], avatar: dict[str, Any], kind: str, name: str = "watched") -> None:
    page.run(
        f"open_('{kind}', {json.dumps(session)}, {json.dumps(avatar['face_box'])}).then(w => {{ window.{name} = w; }})"
    )
    if problems := page.run(f"{name}.problems"):
        raise SystemExit(f"webrtc: {problems}")


def _speaking(page: Page, service: Service, avatar: dict[str, Any], kind: str, lead: float | None) -> dict[str, Any]:
    """A session that is watched, and a socket for its speech."""
    session = _begin(service, avatar, lead)
    _open(page, session, avatar, kind)
    page.run(f"""new Promise(done => {{
        window.socket = new WebSocket("ws://127.0.0.1:{service.port}{session["audio"]}"); socket.onopen = () => done(0);
    }})""")
    return session


def _interruption(
    page: Page, service: Service, avatar: dict[str, Any], kind: str, lead: float | None, turns: int
) -> dict[str, Any]:
    session = _speaking(page, service, avatar, kind, lead)
    path = f"/v1/sessions/{session['id']}"
    found = [page.run(f"interruption(watched, socket, '{path}', {AFTER_MS[kind]})") for _ in range(turns)]
    page.run("socket.close(); watched.close(); 0")
    service.ask("DELETE", path)
    return _describe(found)


def _glass(
    page: Page, service: Service, avatar: dict[str, Any], kind: str, lead: float | None, turns: int
) -> dict[str, Any]:
    before = _turns(service)
    session = _speaking(page, service, avatar, kind, lead)
    by_webrtc = kind == "webrtc"
    counts = page.run("held(watched).then(({ counts }) => counts)") if by_webrtc else None
    found = [page.run(f"turn(watched, socket, pcm, {PIECE}, {AFTER_MS[kind]})") for _ in range(turns)]
    held = page.run(f"held(watched, {json.dumps(counts)}).then(({{ ms }}) => ms)") if by_webrtc else None
    page.run("socket.close(); watched.close(); 0")
    service.ask("DELETE", f"/v1/sessions/{session['id']}")
    count, total = (after - was for after, was in zip(_turns(service), before, strict=True))
    return {
        **{what: _describe([one[what] for one in found if one[what] is not None]) for what in ("mouth", "sound")},
        "mouth_ms": [one["mouth"] and round(one["mouth"]) for one in found],
        "stream_fps": session["fps"],
        "missed": sum(one["mouth"] is None or one["sound"] is None for one in found),
        "to_frame_out_mean_ms": round(1e3 * total / count) if count else None,
        **({"browser": held} if held else {}),
    }


def _sync(page: Page, service: Service, avatar: dict[str, Any], seconds: int) -> Any:
    session = _begin(service, avatar, 0)
    _open(page, session, avatar, "webrtc")
    page.run("""navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, noiseSuppression: false,
        autoGainControl: false } }).then(stream => watched.player.speak(stream.getAudioTracks()[0]))""")
    offsets: list[float] = []
    troubles: dict[str, Any] = {}
    for _ in range(0, seconds, 20):
        told = page.run(f"sync(watched, {min(20, seconds)})")
        offsets, troubles = offsets + told["offsets"], told["troubles"]
    page.run("watched.close(); 0")
    service.ask("DELETE", f"/v1/sessions/{session['id']}")
    steady = offsets[SETTLED_S:]
    if not steady:
        return None
    within = sum(abs(one) <= IN_STEP_MS for one in steady) / len(steady)
    percentiles = {f"p{share}_ms": round(float(np.percentile(steady, share))) for share in (1, 5, 50, 95, 99)}
    return {
        **percentiles,
        "min_ms": round(min(steady)),
        "max_ms": round(max(steady)),
        "within_40_ms": round(within, 3),
        "seconds": len(steady),
        "troubles": troubles,
    }


def _viewers(page: Page, service: Service, avatar: dict[str, Any], count: int, seconds: float = 10.0) -> Any:
    session = _begin(service, avatar, 0)
    for number in range(count):
        _open(page, session, avatar, "webrtc", f"w{number}")
    every = "[" + ", ".join(f"w{number}" for number in range(count)) + "]"
    decoded = f"""Promise.all({every}.map(async w => [...(await w.player.connection.getStats()).values()]
        .find(one => one.type === "inbound-rtp" && one.kind === "video").framesDecoded))"""
    spent, before = service.cpu_seconds, page.run(decoded)
    began = time.monotonic()
    time.sleep(seconds)
    after, taken = page.run(decoded), time.monotonic() - began
    cpu = (service.cpu_seconds - spent) / taken
    found = {
        "first_frame_ms": [round(x) for x in page.run(f"{every}.map(w => w.first)")],
        "fps": [round((b - a) / taken, 1) for a, b in zip(before, after, strict=True)],
        "cpu_cores_of_the_service": round(cpu, 2),
    }
    page.run(f"{every}.forEach(w => w.close()); 0")
    service.ask("DELETE", f"/v1/sessions/{session['id']}")
    return found


def _turns(service: Service) -> tuple[float, float]:
    """How many turns of speech were timed, and their seconds."""
    text = service.ask("GET", "/metrics")[1]
    count, total = (re.findall(rf"musetalk_turn_speech_seconds_{x} (\S+)", text)[0] for x in ("count", "sum"))
    return float(count), float(total)


def _speech() -> bytes:
    """0.8 s of the demo's speech, from its first loud sample on, as PCM at 16 kHz."""
    with wave.open(str(SPEECH)) as file:
        step = file.getframerate() // RATE
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")[:: file.getnchannels()][::step]
    loud = np.flatnonzero(np.abs(samples.astype(int)) > 1500)
    return samples[loud[0] : loud[0] + int(0.8 * RATE)].tobytes()


def _describe(times: list[float]) -> dict[str, Any]:
    if not times:
        return {}
    p50, p95 = (round(float(np.percentile(times, share))) for share in (50, 95))
    return {"p50_ms": p50, "p95_ms": p95, "min_ms": round(min(times)), "max_ms": round(max(times))}


if __name__ == "__main__":
    main()
