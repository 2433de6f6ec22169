#!/usr/bin/env python3
"""How lips follow the sound of a microphone: by WebRTC, and the same speech over the WebSocket.

    PYTHONPATH=export:runtime python scripts/bench/webrtc_lips.py [AUDIO.wav] [--seconds 12] [--fps 25]

Lets the demo's person say AUDIO (default: the demo's speech), 16-bit mono WAV at 16 kHz, as it is spoken. By WebRTC,
aiortc sends it as Opus and decodes what comes back; the other way it goes over the WebSocket and comes back as
fragmented MP4. Prints JSON for both: how far the lips are apart, in faces, correlated with the loudness of the sound,
in decibels, as scripts/bench/lips.py does: without lag, and at the best lag in frames (positive: the picture is late).

aiortc counts the times of both tracks from what came first of each, so a lag of one frame by WebRTC means nothing:
scripts/bench/webrtc.py has the offset in a browser. Needs the extras ``webrtc`` and ``dev``.
"""

import argparse
import asyncio
import io
import json
import sys
import time
import wave
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import av
import numpy as np
import torch
from websockets.asyncio.client import connect

from helpers.service_client import Client, serving
from helpers.whep_client import WhepViewer
from musetalk_distill.evaluate.lips import lip_correlation, lip_opening
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.avatar.crop import crop_face
from musetalk_runtime.demo import AVATAR, BUNDLE, SPEECH
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings

QUIET = -50.0  # dB below full scale
RATE, PIECE_S = 16_000, 0.02
SIDE = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path, nargs="?", default=SPEECH)
    parser.add_argument("--seconds", type=float, default=12.0, help="of it (default: 12)")
    parser.add_argument("--fps", default="25")
    args = parser.parse_args()
    with Bundle.open(BUNDLE) as bundle, Avatar.open(AVATAR) as avatar:
        service = Service(bundle, {"one": avatar}, Settings(sessions=1))
        service.measure()
        with serving(service) as running:
            client = Client(running.port)
            found = {}
            for name, watch in (("webrtc", by_webrtc), ("websocket", by_websocket)):
                status, session = client.ask("POST", "/v1/sessions", {"avatar": "one", "fps": args.fps, "lead": 0})
                if status != 201:
                    raise SystemExit(f"webrtc_lips: refused: {session}")
                path = f"/v1/sessions/{session['id']}"
                shown, heard = asyncio.run(watch(client, path, args.audio, args.seconds))
                client.ask("DELETE", path)
                while service.sessions.running:
                    time.sleep(0.1)
                found[name] = follow(shown, heard, session["fps"], avatar)
    print(json.dumps(found, indent=1))


async def by_webrtc(client: Client, path: str, audio: Path, seconds: float) -> tuple[list[Any], Any]:
    """The pictures and the sound of a viewer whose microphone hears `audio`."""
    async with WhepViewer(client, path, audio) as viewer:
        await asyncio.sleep(seconds + 2)
        return _pictures(viewer.video), _samples(viewer.audio)


async def by_websocket(client: Client, path: str, audio: Path, seconds: float) -> tuple[list[Any], Any]:
    """The pictures and the sound of the stream while `audio` is sent in real time."""
    with wave.open(str(audio)) as file:
        pcm = file.readframes(int(seconds * RATE))
    stream = asyncio.create_task(asyncio.to_thread(lambda: client.request("GET", f"{path}/stream.mp4").read()))
    async with connect(f"ws://127.0.0.1:{client.port}{path}/audio") as socket:
        began, size = time.monotonic(), int(2 * RATE * PIECE_S)
        for number in range(len(pcm) // size):
            await asyncio.sleep(max(0.0, began + number * PIECE_S - time.monotonic()))
            await socket.send(pcm[number * size : (number + 1) * size])
    await asyncio.sleep(2)
    await asyncio.to_thread(client.ask, "DELETE", path)
    data = await stream
    with av.open(io.BytesIO(data)) as container:
        shown = _pictures(container.decode(video=0))
    with av.open(io.BytesIO(data)) as container:
        return shown, _samples(container.decode(audio=0))


def follow(shown: list[Any], heard: Any, fps: float, avatar: Avatar) -> dict[str, Any]:
    """How the lips in the pictures follow the sound."""
    box = tuple(avatar.boxes[0].tolist())
    faces = np.stack([crop_face(rgb, box, SIDE) for rgb in shown])
    lips = lip_opening(torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 255)
    step = round(SOUND_RATE / fps)
    count = min(len(lips), len(heard) // step)
    power = np.mean(heard[: count * step].reshape(count, step) ** 2, axis=1)
    decibels = 10 * np.log10(np.maximum(power, 10 ** (QUIET / 10)))
    found = lip_correlation([(lips[:count], decibels)])
    return {"frames": count, **(found.to_json(3) if found else {})}


def _pictures(frames: Any) -> list[Any]:
    return [frame.to_ndarray(format="rgb24") for frame in frames]


def _samples(frames: Any) -> Any:
    resample = av.AudioResampler(format="flt", layout="mono", rate=SOUND_RATE)
    return np.concatenate([out.to_ndarray()[0] for frame in frames for out in resample.resample(frame)])


if __name__ == "__main__":
    main()
