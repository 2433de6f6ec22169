"""LiveKit: the library's own runner, receiver and sources, in rooms that stand in for a server's."""

import asyncio
import io
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

pytest.importorskip("livekit.agents", reason="livekit-agents is not installed: the extra livekit")

from livekit import api, rtc
from livekit.agents.voice.avatar import (
    AudioSegmentEnd,
    AvatarRunner,
    DataStreamAudioOutput,
    DataStreamAudioReceiver,
    QueueAudioOutput,
)
from livekit.rtc._proto.room_pb2 import ENCODER_BACKEND_PRE_ENCODED

from helpers.livekit_rooms import stand_in_rooms
from helpers.media import voice
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.integrations.avatar_stream import AvatarStream
from musetalk_runtime.integrations.live_avatar import LiveAvatar
from musetalk_runtime.integrations.livekit import MuseTalkVideoGenerator
from musetalk_runtime.integrations.livekit_session import MuseTalkAvatarSession, avatar_token
from musetalk_runtime.integrations.livekit_worker import AvatarWorker

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

RATE = 24_000
FPS = 25
AGENT, AVATAR = "agent", "avatar"


async def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.005)


def speech(seconds: float) -> list[rtc.AudioFrame]:
    """In frames of 0.1 s."""
    samples = voice(seconds, RATE)
    parts = np.array_split(samples, round(seconds * 10))
    return [rtc.AudioFrame(part.tobytes(), RATE, 1, len(part)) for part in parts]


async def say(output: Any, seconds: float) -> None:
    for frame in speech(seconds):
        await output.capture_frame(frame)
    output.flush()


def test_the_generator_gives_pictures_always_and_sound_in_segments(bundle: Path, avatar: Path) -> None:
    async def run() -> list[Any]:
        stream = AvatarStream(bundle, avatar, fps=FPS)
        await stream.open()
        generator = MuseTalkVideoGenerator(stream)
        assert (generator.options.video_width, generator.options.video_height) == (320, 240)
        given: list[Any] = []
        async for frame in generator:
            given.append(frame)
            if len(given) == 10:
                for part in speech(1.0):
                    await generator.push_audio(part)
                await generator.push_audio(AudioSegmentEnd())
            if len(given) > 20 and isinstance(given[-10], AudioSegmentEnd):
                break
        await generator.aclose()
        return given

    given = asyncio.run(run())
    kinds = [type(frame) for frame in given]
    assert kinds.count(AudioSegmentEnd) == 1
    first, end = kinds.index(rtc.AudioFrame), kinds.index(AudioSegmentEnd)
    assert first > 10
    assert kinds[first - 1 : end] == [rtc.VideoFrame, rtc.AudioFrame] * ((end - first + 1) // 2)
    assert rtc.AudioFrame not in kinds[end:]
    assert given[0].type == rtc.VideoBufferType.NV12
    assert (given[0].width, given[0].height) == (320, 240)
    sound = [frame for frame in given if isinstance(frame, rtc.AudioFrame)]
    assert sum(frame.duration for frame in sound) == pytest.approx(1.0, abs=0.08)
    assert all(frame.duration == pytest.approx(1 / FPS, abs=1e-4) for frame in sound)


def test_the_generator_gives_no_sound_of_a_frame_whose_picture_was_out_at_an_interruption(
    bundle: Path, avatar: Path
) -> None:
    async def run() -> list[Any]:
        stream = AvatarStream(bundle, avatar, fps=FPS)
        await stream.open()
        generator = MuseTalkVideoGenerator(stream)
        after: list[Any] = []
        speaking = cleared = False
        async for frame in generator:
            if cleared:
                after.append(frame)
            elif not speaking:
                speaking = stream.speaking
                for part in [] if speaking else [*speech(0.5), AudioSegmentEnd()]:
                    await generator.push_audio(part)
            elif not stream.speaking:  # the picture of the last frame
                generator.clear_buffer()
                cleared = True
            if len(after) == 10:
                break
        await generator.aclose()
        return after

    assert {type(frame) for frame in asyncio.run(run())} == {rtc.VideoFrame}


@pytest.fixture(params=["in this process", "by a service"])
def stream(request: pytest.FixtureRequest, bundle: Path, avatar: Path) -> LiveAvatar:
    if request.param == "by a service":
        return request.getfixturevalue("remote_stream")  # type: ignore[no-any-return]
    return AvatarStream(bundle, avatar, fps=FPS)


def test_the_runner_plays_segments_and_interruptions_with_their_positions(stream: LiveAvatar) -> None:
    """``AvatarRunner`` and ``QueueAudioOutput``, in the agent's own process."""

    async def run() -> list[Any]:
        room, _ = stand_in_rooms(AGENT, AVATAR)
        await stream.open()
        generator = MuseTalkVideoGenerator(stream)
        output = QueueAudioOutput(sample_rate=RATE, wait_playback_start=True)
        runner = AvatarRunner(room, audio_recv=output, video_gen=generator, options=generator.options)
        finished: list[Any] = []
        started: list[Any] = []
        output.on("playback_finished", finished.append)
        output.on("playback_started", started.append)
        await runner.start()
        await say(output, 1.0)
        await until(lambda: len(finished) == 1, "the segment is played")
        await say(output, 20.0)
        await until(lambda: len(started) == 2, "the next one is played")
        await asyncio.sleep(0.5)
        output.clear_buffer()
        await until(lambda: len(finished) == 2, "it is interrupted")
        await say(output, 0.5)
        await until(lambda: len(finished) == 3, "and another is played")
        kinds = [track.kind for track, _ in room.local_participant.published]
        assert kinds == [rtc.TrackKind.KIND_AUDIO, rtc.TrackKind.KIND_VIDEO]
        await runner.aclose()
        await generator.aclose()
        return finished

    first, second, third = asyncio.run(run())
    assert (first.interrupted, second.interrupted, third.interrupted) == (False, True, False)
    assert first.playback_position == pytest.approx(1.0, abs=0.08)
    assert 0.1 < second.playback_position < 19
    assert third.playback_position == pytest.approx(0.5, abs=0.12)  # the runner counts a frame that was under way to it


class Pair:
    """An agent's output and an avatar worker in one room. ``finished``, ``started``: events with when they came."""

    def __init__(self, bundle: Path, avatar: Path) -> None:
        self.agent, self.avatar = stand_in_rooms(AGENT, AVATAR)
        self.stream = AvatarStream(bundle, avatar, fps=FPS)
        self.worker = AvatarWorker(
            self.avatar, DataStreamAudioReceiver(self.avatar, sender_identity=AGENT), self.stream
        )
        self.finished: list[tuple[float, Any]] = []
        self.started: list[float] = []
        self.encoded: list[tuple[float, rtc.EncodedVideoFrame]] = []
        self.heard: list[tuple[float, rtc.AudioFrame]] = []

    async def start(self) -> None:
        await self.worker.start()
        self._note()
        self.output = DataStreamAudioOutput(
            self.agent, destination_identity=AVATAR, sample_rate=RATE, wait_playback_start=True
        )
        self.output.on("playback_finished", lambda event: self.finished.append((time.monotonic(), event)))
        self.output.on("playback_started", lambda _: self.started.append(time.monotonic()))

    def _note(self) -> None:
        """Remember what goes into LiveKit's sources, which take it."""
        source, sound = self.worker.source, self.worker._sound
        capture, hear = source.capture_frame, sound.capture_frame

        def capture_frame(frame: rtc.EncodedVideoFrame) -> bool:
            self.encoded.append((time.monotonic(), frame))
            return capture(frame)

        async def hear_frame(frame: rtc.AudioFrame) -> None:
            self.heard.append((time.monotonic(), frame))
            await hear(frame)

        source.capture_frame, sound.capture_frame = capture_frame, hear_frame


def pair(bundle: Path, avatar: Path, script: Callable[[Pair], Awaitable[None]]) -> Pair:
    async def run() -> Pair:
        made = Pair(bundle, avatar)
        await made.start()
        try:
            await script(made)
        finally:
            await made.worker.close()
        return made

    return asyncio.run(run())


def test_a_worker_tells_what_was_played_when_it_was_played(bundle: Path, avatar: Path) -> None:
    """Not when it was received: two seconds of speech come at once."""
    received = 0.0

    async def script(pair: Pair) -> None:
        nonlocal received
        await say(pair.output, 2.0)
        received = time.monotonic()
        await until(lambda: pair.finished, "it is played")
        await say(pair.output, 0.5)
        await until(lambda: len(pair.finished) == 2, "the next one is played")

    made = pair(bundle, avatar, script)
    (first_at, first), (_, second) = made.finished
    assert (first.interrupted, second.interrupted) == (False, False)
    assert first.playback_position == pytest.approx(2.0, abs=0.08)
    assert second.playback_position == pytest.approx(0.5, abs=0.08)
    last_heard = [at for at, _ in made.heard if at <= first_at][-1]
    assert first_at >= last_heard  # the last sample was handed over before
    assert len(made.started) == 2
    assert received < made.started[0] < first_at
    methods = [method for method, _ in made.agent.local_participant.called]
    assert methods == ["lk.playback_started", "lk.playback_finished"] * 2


def test_an_interruption_is_answered_at_once_and_nothing_more_is_heard(bundle: Path, avatar: Path) -> None:
    cleared = 0.0

    async def script(pair: Pair) -> None:
        nonlocal cleared
        await say(pair.output, 20.0)
        await until(lambda: len(pair.heard) > 20, "it speaks")
        cleared = time.monotonic()
        pair.output.clear_buffer()
        await until(lambda: pair.finished, "the interruption is told")
        count = len(pair.encoded)
        await until(lambda: len(pair.encoded) > count + 25, "a second of pictures")
        assert not pair.worker._sound.queued_duration
        await say(pair.output, 0.5)
        await until(lambda: len(pair.finished) == 2, "the next segment is played")

    made = pair(bundle, avatar, script)
    (at, first), (_, second) = made.finished
    assert first.interrupted
    handed = sum(frame.duration for when, frame in made.heard if when <= cleared)
    assert handed - 0.3 < first.playback_position < handed + 0.1  # without what waited in LiveKit's queue
    pictures = [when for when, _ in made.encoded if when > cleared]
    assert len([when for when, _ in made.heard if cleared < when < pictures[20]]) <= 1  # the one that was under way
    assert at < pictures[5]  # told within 0.2 s of the stream
    assert not second.interrupted
    assert made.avatar.local_participant.called[-1][0] == "lk.clear_buffer"


def test_an_interruption_while_the_last_sound_is_handed_over_ends_the_segment_once(bundle: Path, avatar: Path) -> None:
    done: list[str] = []

    async def script(pair: Pair) -> None:
        sound = pair.worker._sound
        capture, clear = sound.capture_frame, sound.clear_queue

        async def interrupted(frame: rtc.AudioFrame) -> None:
            if not pair.stream.speaking and not pair.finished:
                pair.output.clear_buffer()
                await until(lambda: pair.finished, "the interruption is told")
            done.append("heard")
            await capture(frame)

        def clear_queue() -> None:
            done.append("cleared")
            clear()

        sound.capture_frame, sound.clear_queue = interrupted, clear_queue
        await say(pair.output, 0.5)
        await until(lambda: pair.finished, "it is interrupted at its last frame")
        count = len(pair.encoded)
        await until(lambda: len(pair.encoded) > count + 3, "pictures come on")
        assert done[-3:] == ["cleared", "heard", "cleared"]
        await say(pair.output, 5.0)
        await until(lambda: done[-1] == "heard", "it speaks")
        pair.output.clear_buffer()
        await until(lambda: len(pair.finished) == 2, "the next interruption is told")

    made = pair(bundle, avatar, script)
    assert [event.interrupted for _, event in made.finished] == [True, True]


def test_an_interruption_before_the_first_sample_is_told_too(bundle: Path, avatar: Path) -> None:
    async def script(pair: Pair) -> None:
        await say(pair.output, 5.0)
        await until(lambda: pair.worker._avatar.speaking, "it is received")
        pair.output.clear_buffer()
        await until(lambda: pair.finished, "the interruption is told")

    made = pair(bundle, avatar, script)
    assert [event.interrupted for _, event in made.finished] == [True]
    assert made.finished[0][1].playback_position == pytest.approx(0, abs=0.2)


def test_the_published_video_is_h264_as_it_is_encoded_here(bundle: Path, avatar: Path) -> None:
    """Keyframes where they are asked for, the bit rate that the network holds, and all of it decodes."""
    keyframe_asked = 0

    async def script(pair: Pair) -> None:
        nonlocal keyframe_asked
        source = pair.worker.source
        await until(lambda: len(pair.encoded) > 30, "it is published")
        asked = [
            rtc.EncodedVideoSourceFeedback(True, None),
            rtc.EncodedVideoSourceFeedback(False, rtc.EncodedRateControl(300_000, 25.0)),
        ]
        keyframe_asked = len(pair.encoded)
        take = source.take_feedback
        assert not take().keyframe_requested
        source.take_feedback = lambda: asked.pop(0) if asked else take()
        await until(lambda: pair.worker.kbps, "the bit rate is taken")
        count = len(pair.encoded)
        await until(lambda: len(pair.encoded) > count + 30, "more of it")

    made = pair(bundle, avatar, script)
    (sound, _), (_, options) = made.avatar.local_participant.published
    assert sound.kind == rtc.TrackKind.KIND_AUDIO
    assert (options.video_codec, options.video_encoder) == (rtc.VideoCodec.H264, ENCODER_BACKEND_PRE_ENCODED)
    assert not options.simulcast
    assert made.worker.kbps == 300
    frames = [frame for _, frame in made.encoded]
    assert all(frame.data.startswith(b"\0\0\0\1") for frame in frames)
    keys = [k for k, frame in enumerate(frames) if frame.frame_type == rtc.EncodedFrameType.ENCODED_FRAME_KEY]
    assert {0, 25} <= set(keys)
    assert [k for k in keys if keyframe_asked <= k <= keyframe_asked + 3]
    assert all(before.timestamp_us < after.timestamp_us for before, after in pairwise(frames))
    with av.open(io.BytesIO(b"".join(frame.data for frame in frames)), format="h264") as container:
        decoded = list(container.decode(video=0))
    assert len(decoded) == len(frames)
    assert (decoded[0].width, decoded[0].height) == (320, 240)


def test_the_workers_token_lets_it_publish_on_behalf_of_the_agent() -> None:
    secret = "s" * 32
    token = avatar_token("key", secret, "room", AGENT)
    claims = api.TokenVerifier("key", secret).verify(token)
    assert (claims.identity, claims.kind) == ("musetalk-avatar", "agent")
    assert claims.attributes == {"lk.publish_on_behalf": AGENT}
    assert claims.video is not None
    assert (claims.video.room_join, claims.video.room) == (True, "room")
    assert not claims.video.room_admin


def test_a_session_launches_its_worker_and_gives_it_the_agents_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    from aiohttp import web
    from livekit.agents import AgentSession

    monkeypatch.setenv("LIVEKIT_API_KEY", "key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "s" * 32)
    launched: list[dict[str, Any]] = []

    async def run() -> Any:
        async def launch(request: web.Request) -> web.Response:
            launched.append(await request.json())
            return web.Response(status=202)

        app = web.Application()
        app.router.add_post("/launch", launch)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        room: Any = stand_in_rooms(AGENT, "musetalk-avatar")[0]
        session: Any = AgentSession()
        avatar = MuseTalkAvatarSession(f"http://127.0.0.1:{port}/")
        await avatar.start(session, room)
        await avatar.aclose()
        await runner.cleanup()
        return session.output.audio

    output = asyncio.run(run())
    while output.next_in_chain is not None:
        output = output.next_in_chain
    assert isinstance(output, DataStreamAudioOutput)
    claims = api.TokenVerifier("key", "s" * 32).verify(launched[0]["token"])
    assert claims.attributes == {"lk.publish_on_behalf": AGENT}
    monkeypatch.delenv("LIVEKIT_API_SECRET")
    with pytest.raises(InvalidArgument, match="LIVEKIT_API_SECRET"):
        MuseTalkAvatarSession("http://127.0.0.1:1/")
