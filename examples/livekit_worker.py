"""An avatar worker for LiveKit Agents: joins a room when an agent asks for it, and says what the agent says.

    pip install 'musetalk-edge[livekit,serve]'
    python examples/livekit_worker.py --livekit-url ws://127.0.0.1:7880 -b BUNDLE -a AVATAR

In the agent, before ``session.start``:

    from musetalk_runtime.integrations.livekit_session import MuseTalkAvatarSession
    await MuseTalkAvatarSession("http://127.0.0.1:8790").start(session, room=ctx.room)

It takes ``POST /launch`` with ``{"token": JWT}``. Whoever can reach its port can have it join a room of that LiveKit
server, so it listens on this machine alone.
"""

import argparse
import asyncio
import logging
from pathlib import Path

import uvicorn
from fastapi import FastAPI, HTTPException
from livekit import rtc
from livekit.agents.voice.avatar import DataStreamAudioReceiver
from pydantic import BaseModel, Field

from musetalk_runtime.demo import AVATAR, BUNDLE
from musetalk_runtime.integrations.avatar_stream import AvatarStream
from musetalk_runtime.integrations.livekit_worker import AvatarWorker

log = logging.getLogger(__name__)


class Launch(BaseModel):
    """What an agent asks for."""

    token: str = Field(max_length=4096)


async def work(url: str, token: str, bundle: Path, avatar: Path) -> None:
    """Be the avatar in one room, until it or the connection ends."""
    room = rtc.Room()
    ended = asyncio.Event()
    room.on("disconnected", lambda *_: ended.set())
    await room.connect(url, token)
    worker = AvatarWorker(room, DataStreamAudioReceiver(room), AvatarStream(bundle, avatar))
    try:
        await worker.start()
        await ended.wait()
    finally:
        await worker.close()
        await room.disconnect()


def create_app(url: str, bundle: Path, avatar: Path, rooms: int) -> FastAPI:
    """The worker's HTTP API."""
    app = FastAPI()
    working: set[asyncio.Task[None]] = set()

    @app.post("/launch", status_code=202)
    async def launch(wanted: Launch) -> None:
        if len(working) >= rooms:
            raise HTTPException(503, f"{rooms} at once at most")
        working.add(task := asyncio.create_task(work(url, wanted.token, bundle, avatar)))
        task.add_done_callback(end)

    def end(task: asyncio.Task[None]) -> None:
        working.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a room ended: %s", error)

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--livekit-url", required=True)
    parser.add_argument("-b", "--bundle", type=Path, default=BUNDLE)
    parser.add_argument("-a", "--avatar", type=Path, default=AVATAR)
    parser.add_argument("--rooms", type=int, default=1, help="rooms at once (default: 1)")
    parser.add_argument("--port", type=int, default=8790)
    args = parser.parse_args()
    app = create_app(args.livekit_url, args.bundle, args.avatar, args.rooms)
    uvicorn.run(app, host="127.0.0.1", port=args.port, log_level="warning")


if __name__ == "__main__":
    main()
