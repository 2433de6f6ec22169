#!/usr/bin/env python3
"""How soon and how well a browser sees a conversation by WebRTC, on this machine.

    PYTHONPATH=runtime python scripts/bench_webrtc.py [--turns 15] [--seconds 60] [--fps auto]

Starts `musetalk-edge serve` (the demo, unless -b and -a say otherwise) and Chromium without a window, whose microphone
says the demo's speech. Prints JSON:

- click: milliseconds from "Speak live" to the first frame on the screen, in a new session each time
- glass: from a sample of speech that is sent over the WebSocket to the mouth that moves in the <video>, and to the
  sound that is heard there, and by /metrics to the frame that leaves the service; by WebRTC, and by fragmented MP4 in
  a session with the usual lead
- sync: how far sound is played after the picture of the same time, by the browser's own estimate, each second
- viewers: frames a second of five viewers of one session at once

Not measured: a network, a screen's and a loudspeaker's own delay, other browsers. Service and browser share the
machine.
"""

import argparse
import base64
import json
import re
import statistics
import sys
import tempfile
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "load"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.browser import Page, browsing
from musetalk_runtime.demo import SPEECH
from service import Service, serving

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

TOOLS = Path(__file__).with_suffix(".js").read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="clicks (default: 10)")
    parser.add_argument("--turns", type=int, default=15, help="turns (default: 15)")
    parser.add_argument("--seconds", type=int, default=60, help="of a conversation, for sync (default: 60)")
    parser.add_argument("--fps", default="auto", help="of the sessions (default: auto)")
    parser.add_argument("-b", "--bundle")
    parser.add_argument("-a", "--avatar", metavar="NAME=AVATAR")
    args = parser.parse_args()
    options = [x for name in ("bundle", "avatar") if getattr(args, name) for x in (f"--{name}", getattr(args, name))]
    profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with serving(*options) as service, profile as folder:
        url = f"http://127.0.0.1:{service.port}/"
        with browsing(url, Path(folder), *MICROPHONE) as page:
            avatar = {**service.ask("GET", "/v1/avatars")[1][0], "fps": args.fps}
            found = {"click": _describe([_click(page) for _ in range(args.runs)])}
            page.run(TOOLS)
            speech = base64.b64encode(_speech()).decode()
            page.run(f"window.pcm = new Int16Array(Uint8Array.from(atob('{speech}'), c => c.charCodeAt()).buffer); 0")
            found["glass"] = {
                kind: _glass(page, service, avatar, kind, lead, args.turns)
                for kind, lead in (("webrtc", 0), ("mp4", None))
            }
            found["sync"] = _sync(page, service, avatar, args.seconds)
            found["viewers"] = _viewers(page, service, avatar, 5)
    print(json.dumps({**found, "not_measured": NOT_MEASURED}, indent=1))


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
            return session  # type: ignore[no-any-return]
        time.sleep(0.5)
    raise SystemExit(f"bench_webrtc: refused: {session}")


def _open(page: Page, session: dict[str, Any], avatar: dict[str, Any], kind: str, name: str = "watched") -> None:
    page.run(
        f"open_('{kind}', {json.dumps(session)}, {json.dumps(avatar['face_box'])}).then(w => {{ window.{name} = w; }})"
    )
    if problems := page.run(f"{name}.problems"):
        raise SystemExit(f"bench_webrtc: {problems}")


def _glass(
    page: Page, service: Service, avatar: dict[str, Any], kind: str, lead: float | None, turns: int
) -> dict[str, Any]:
    session = _begin(service, avatar, lead)
    before = _turns(service)
    _open(page, session, avatar, kind)
    page.run(f"""new Promise(done => {{
        window.socket = new WebSocket("ws://127.0.0.1:{service.port}{session["audio"]}"); socket.onopen = () => done(0);
    }})""")
    by_webrtc = kind == "webrtc"
    counts = page.run("held(watched).then(({ counts }) => counts)") if by_webrtc else None
    found = [page.run(f"turn(watched, socket, pcm, {PIECE})") for _ in range(turns)]
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
    for _ in range(0, seconds, 20):
        offsets += page.run(f"sync(watched, {min(20, seconds)})")
    page.run("watched.close(); 0")
    service.ask("DELETE", f"/v1/sessions/{session['id']}")
    if not offsets:
        return None
    return {**_describe(offsets), "worst_ms": round(max(map(abs, offsets))), "seconds": len(offsets)}


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
    return {"p50_ms": round(statistics.median(times)), "min_ms": round(min(times)), "max_ms": round(max(times))}


if __name__ == "__main__":
    main()
