"""A bot by Pipecat that runs without any cloud: it greets, and says what you write.

    pip install 'musetalk-edge[pipecat,say,serve]' aiortc
    python examples/pipecat_bot.py                       # the demo's person, at http://127.0.0.1:7860/
    python examples/pipecat_bot.py -b BUNDLE -a AVATAR

Speech and pictures go out by Pipecat's own WebRTC transport. Put a speech recogniser and a language model in the place
of `Answers`, and the microphone into the transport (``audio_in_enabled``), for a bot that listens.
"""

import argparse
import asyncio
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from pipecat.frames.frames import InterruptionFrame, TTSSpeakFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.transports.base_transport import TransportParams
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection
from pipecat.transports.smallwebrtc.request_handler import SmallWebRTCRequest, SmallWebRTCRequestHandler
from pipecat.transports.smallwebrtc.transport import SmallWebRTCTransport
from pipecat.workers.runner import WorkerRunner

from musetalk_runtime import Avatar
from musetalk_runtime.demo import AVATAR, BUNDLE
from musetalk_runtime.integrations.avatar_stream import AvatarStream
from musetalk_runtime.integrations.pipecat import MuseTalkVideoService
from musetalk_runtime.integrations.pipecat_tts import LocalTTSService

GREETING = "Hello! Write something, and I say it."
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>A bot</title>
<video id="video" autoplay playsinline width="512"></video>
<p><button id="start">Start</button> <input id="text" size="50" placeholder="Write something, then Enter"></p>
<script type="module">
const [video, text] = ["video", "text"].map((id) => document.getElementById(id));
let channel;
document.getElementById("start").onclick = async () => {
  const peer = (window.peer = new RTCPeerConnection());
  channel = peer.createDataChannel("chat");
  const kinds = ["audio", "video"].map((kind) => peer.addTransceiver(kind, { direction: "recvonly" }));
  video.srcObject = new MediaStream(kinds.map(({ receiver }) => receiver.track));
  await peer.setLocalDescription();
  if (peer.iceGatheringState !== "complete") {
    await new Promise((done) => {
      peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && done();
    });
  }
  const { sdp, type } = peer.localDescription;
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch("api/offer", { method: "POST", headers, body: JSON.stringify({ sdp, type }) });
  await peer.setRemoteDescription(await answer.json());
};
text.onchange = () => {
  channel.send(JSON.stringify({ type: "text", text: text.value }));
  text.value = "";
};
</script></html>"""


class Answers:
    """What the bot says to what is written: the same. A language model would answer here."""

    def to(self, written: str) -> str:
        return written


async def talk(connection: SmallWebRTCConnection, bundle: Path, avatar: Path) -> None:
    """One conversation, until who watches leaves."""
    with Avatar.open(avatar) as pack:
        width, height = pack.width, pack.height
    params = TransportParams(
        audio_out_enabled=True, video_out_enabled=True, video_out_width=width, video_out_height=height
    )
    transport = SmallWebRTCTransport(webrtc_connection=connection, params=params)
    stages = [LocalTTSService(), MuseTalkVideoService(AvatarStream(bundle, avatar)), transport.output()]
    worker = PipelineWorker(
        Pipeline([transport.input(), *stages]),
        params=PipelineParams(audio_out_sample_rate=48_000),
        cancel_on_idle_timeout=False,
        enable_rtvi=False,
    )

    @transport.event_handler("on_client_connected")
    async def greet(*_: Any) -> None:
        await worker.queue_frames([TTSSpeakFrame(GREETING)])

    @transport.event_handler("on_app_message")
    async def answer(_: Any, message: Any, *__: Any) -> None:
        written = str(message.get("text", ""))[:1000] if isinstance(message, dict) else ""
        await worker.queue_frames([InterruptionFrame(), TTSSpeakFrame(Answers().to(written))])

    @transport.event_handler("on_client_disconnected")
    async def leave(*_: Any) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


def create_app(bundle: Path, avatar: Path) -> FastAPI:
    """The page, and where its browser connects."""
    app, handler = FastAPI(), SmallWebRTCRequestHandler()
    talks: set[asyncio.Task[None]] = set()

    @app.get("/")
    def page() -> HTMLResponse:
        return HTMLResponse(PAGE)

    @app.post("/api/offer")
    async def offer(request: dict[str, Any]) -> dict[str, str] | None:
        async def begin(connection: SmallWebRTCConnection) -> None:
            talks.add(task := asyncio.create_task(talk(connection, bundle, avatar)))
            task.add_done_callback(talks.discard)

        return await handler.handle_web_request(SmallWebRTCRequest.from_dict(request), begin)

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-b", "--bundle", type=Path, default=BUNDLE)
    parser.add_argument("-a", "--avatar", type=Path, default=AVATAR)
    parser.add_argument("--port", type=int, default=7860)
    args = parser.parse_args()
    uvicorn.run(create_app(args.bundle, args.avatar), host="127.0.0.1", port=args.port, log_level="warning")


if __name__ == "__main__":
    main()
