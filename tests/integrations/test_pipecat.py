"""Pipecat: a real pipeline with text to speech and the avatar."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pipecat", reason="pipecat-ai is not installed: the extra pipecat, from Python 3.11 on")

from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from helpers.media import tone_hertz, voice
from helpers.paths import ROOT
from helpers.tone_engine import HERTZ, NAME, SECONDS_A_CHARACTER
from musetalk_runtime import Avatar
from musetalk_runtime.integrations.avatar_stream import MAX_WAITING_FRAMES, AvatarStream
from musetalk_runtime.integrations.live_avatar import AvatarFrame, LiveAvatar
from musetalk_runtime.integrations.pipecat import AvatarPoseFrame, MuseTalkVideoService
from musetalk_runtime.integrations.pipecat_tts import LocalTTSService

# Pipecat 1.14 and its dependencies warn of their own use of what is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

RATE = 48_000
FPS = 25


class Seen(FrameProcessor):
    """The end of a pipeline: ``frames``, each with when it came."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[tuple[float, Frame]] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.frames.append((time.monotonic(), frame))
        await self.push_frame(frame, direction)

    def of(self, *kinds: type) -> list[Any]:
        return [frame for _, frame in self.frames if isinstance(frame, kinds)]

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, what
            await asyncio.sleep(0.01)


Script = Callable[[PipelineWorker, Seen], Awaitable[None]]


def run(script: Script, *processors: FrameProcessor) -> Seen:
    """Run a pipeline of `processors` while `script` feeds it; what came out of it."""
    seen = Seen()

    async def play() -> None:
        worker = PipelineWorker(
            Pipeline([*processors, seen]), params=PipelineParams(audio_out_sample_rate=RATE), enable_rtvi=False
        )
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)

        async def feed() -> None:
            try:
                await script(worker, seen)
            finally:
                await worker.queue_frames([EndFrame()])

        await asyncio.wait_for(asyncio.gather(runner.run(), feed()), 120)

    asyncio.run(play())
    return seen


def speech_frames(samples: np.ndarray, rate: int = 24_000) -> list[TTSAudioRawFrame]:
    parts = np.array_split(samples, max(1, len(samples) * 10 // rate))
    return [TTSAudioRawFrame(audio=part.tobytes(), sample_rate=rate, num_channels=1) for part in parts]


@pytest.fixture(params=["in this process", "by a service"])
def stream(request: pytest.FixtureRequest, bundle: Path, avatar: Path) -> LiveAvatar:
    if request.param == "by a service":
        return request.getfixturevalue("remote_stream")  # type: ignore[no-any-return]
    return AvatarStream(bundle, avatar, fps=FPS)


def test_a_sentence_is_spoken_with_pictures_and_sound_in_step(
    stream: LiveAvatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each picture comes just before the sound of its duration, and that is the speech that was sent, to the sample."""
    text = "Here I speak, in step with my sound."
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]))

    async def script(worker: PipelineWorker, seen: Seen) -> None:
        await seen.until(lambda: len(seen.of(OutputImageRawFrame)) > 10, "it idles")
        assert not seen.of(TTSAudioRawFrame)
        await worker.queue_frames([TTSSpeakFrame(text)])
        await seen.until(lambda: seen.of(TTSStoppedFrame), "the utterance ends")
        count = len(seen.of(OutputImageRawFrame))
        await seen.until(lambda: len(seen.of(OutputImageRawFrame)) > count + 10, "it idles again")

    seen = run(script, LocalTTSService(NAME), MuseTalkVideoService(stream))
    media = seen.of(OutputImageRawFrame, TTSAudioRawFrame)
    image = seen.of(OutputImageRawFrame)[0]
    assert (image.size, image.format, len(image.image), image.sync_with_audio) == (
        (320, 240),
        "RGB",
        320 * 240 * 3,
        True,
    )
    kinds = [type(frame) for frame in media]
    first = kinds.index(TTSAudioRawFrame)
    shown = heard = 0.0
    for frame in media[first - 1 :]:
        if isinstance(frame, TTSAudioRawFrame):
            heard += frame.num_frames / RATE
        elif heard < len(text) * SECONDS_A_CHARACTER:
            assert abs(shown - heard) < 0.02
            shown += 1 / FPS
    sound = np.frombuffer(b"".join(frame.audio for frame in seen.of(TTSAudioRawFrame)), "<i2")
    loud = np.flatnonzero(np.abs(sound) > 1000)
    assert (loud[-1] - loud[0]) / RATE == pytest.approx(len(text) * SECONDS_A_CHARACTER, abs=0.02)
    assert tone_hertz(sound[loud[0] : loud[-1]], RATE) == pytest.approx(HERTZ, abs=3)
    stopped = next(k for k, (_, frame) in enumerate(seen.frames) if isinstance(frame, TTSStoppedFrame))
    assert not any(isinstance(frame, TTSAudioRawFrame) for _, frame in seen.frames[stopped:])


def test_an_interruption_silences_at_once_and_the_next_utterance_is_heard(stream: LiveAvatar) -> None:
    samples = voice(20.0, 24_000)

    async def script(worker: PipelineWorker, seen: Seen) -> None:
        await seen.until(lambda: seen.of(OutputImageRawFrame), "it idles")
        await worker.queue_frames([*speech_frames(samples), TTSStoppedFrame()])
        await seen.until(lambda: len(seen.of(TTSAudioRawFrame)) > 30, "it speaks")
        await worker.queue_frames([InterruptionFrame()])
        await seen.until(lambda: seen.of(InterruptionFrame), "the interruption is passed on")
        count = len(seen.of(OutputImageRawFrame))
        await seen.until(lambda: len(seen.of(OutputImageRawFrame)) > count + 25, "a second of pictures")
        await worker.queue_frames([*speech_frames(voice(0.5, 24_000)), TTSStoppedFrame()])
        await seen.until(lambda: seen.of(TTSStoppedFrame), "the next utterance ends")

    seen = run(script, MuseTalkVideoService(stream))
    interrupted = next(k for k, (_, frame) in enumerate(seen.frames) if isinstance(frame, InterruptionFrame))
    after = [frame for _, frame in seen.frames[interrupted:]]
    images = [k for k, frame in enumerate(after) if isinstance(frame, OutputImageRawFrame)]
    sounds = [k for k, frame in enumerate(after) if isinstance(frame, TTSAudioRawFrame)]
    assert [k for k in sounds if k < images[25]] == []  # silence for a second of pictures, from the first on
    assert len(sounds) / FPS == pytest.approx(0.5, abs=0.1)
    assert len(seen.of(TTSStoppedFrame)) == 1  # the other was dropped with its utterance


def distance_to_own(frame: AvatarFrame, pack: Avatar, fps: Fraction) -> float:
    """How much a picture differs from the avatar's own, or from one before, which a busy machine shows again."""
    own = [pack.frame(pack.index_at(max(0, frame.index - back), fps)) for back in range(4)]
    return min(float(np.abs(frame.nv12.astype(int) - picture).mean()) for picture in own)


def test_the_mouth_is_closed_within_200_ms_of_an_interruption(bundle: Path, avatar: Path) -> None:
    """From there on the pictures are the avatar's own."""

    async def speak() -> tuple[list[float], int]:
        stream = AvatarStream(bundle, pack, fps=FPS)
        await stream.open()
        distances: list[float] = []
        cut = -1
        try:
            async for frame in stream.frames():
                distances.append(distance_to_own(frame, pack, stream.fps))
                if frame.index == 5:
                    stream.push(voice(10.0, 24_000) / 32768, 24_000)
                    stream.flush()
                if cut < 0 and frame.index > 40 and distances[-1] > 0:
                    played, cut = stream.interrupt(), frame.index
                    assert 0 < played < 3
                if 0 <= cut < frame.index - 30:
                    return distances, cut
        finally:
            await stream.close()
        raise AssertionError("it ended")

    with Avatar.open(avatar) as pack:
        distances, cut = asyncio.run(speak())
    assert max(distances[20:cut]) > 0
    assert max(distances[cut + MAX_WAITING_FRAMES + FPS // 5 :]) == 0  # those that waited for their reader come first


def test_a_frame_changes_the_pose_and_an_unknown_one_is_an_error(bundle: Path, posed: Path) -> None:
    """While it speaks, and the sound goes on."""
    errors: list[str] = []

    async def script(worker: PipelineWorker, seen: Seen) -> None:
        @worker.event_handler("on_pipeline_error")
        async def note(_: Any, frame: Any) -> None:
            errors.append(frame.error)

        await seen.until(lambda: seen.of(OutputImageRawFrame), "it idles")
        await worker.queue_frames([*speech_frames(voice(3.0, 24_000)), TTSStoppedFrame()])
        await seen.until(lambda: len(seen.of(TTSAudioRawFrame)) > 5, "it speaks")
        await worker.queue_frames([AvatarPoseFrame("smile"), AvatarPoseFrame("nod", repeat=True)])
        await seen.until(lambda: seen.of(TTSStoppedFrame), "the utterance ends")

    seen = run(script, MuseTalkVideoService(AvatarStream(bundle, posed, fps=FPS)))
    assert ["no pose 'smile'" in error for error in errors] == [True]
    assert not seen.of(AvatarPoseFrame)
    bright = [np.frombuffer(frame.image, np.uint8).mean() for frame in seen.of(OutputImageRawFrame)]
    assert bright[-1] < 0.8 * bright[0]  # "nod" is darker
    assert np.abs(np.diff(bright)).max() < (bright[0] - bright[-1]) / 2  # a slow machine makes 2 of 5 frames
    assert len(seen.of(TTSAudioRawFrame)) / FPS == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "not told to be whole"])
def test_what_was_sent_before_the_end_is_said(stream: LiveAvatar, whole: bool) -> None:
    async def script(worker: PipelineWorker, seen: Seen) -> None:
        await seen.until(lambda: seen.of(OutputImageRawFrame), "it idles")
        await worker.queue_frames([*speech_frames(voice(1.5, 24_000)), *[TTSStoppedFrame()] * whole])

    seen = run(script, MuseTalkVideoService(stream))
    assert len(seen.of(TTSAudioRawFrame)) / FPS == pytest.approx(1.5, abs=0.1)
    kinds = [type(frame) for _, frame in seen.frames]
    assert kinds[-1] is EndFrame
    assert kinds.count(TTSStoppedFrame) == whole


def test_an_avatar_that_cannot_be_opened_ends_the_pipeline_with_its_error(bundle: Path, tmp_path: Path) -> None:
    errors: list[str] = []

    async def script(worker: PipelineWorker, seen: Seen) -> None:
        @worker.event_handler("on_pipeline_error")
        async def note(_: Any, frame: Any) -> None:
            errors.append(frame.error)

        await seen.until(lambda: errors, "the error is told")

    run(script, MuseTalkVideoService(AvatarStream(bundle, tmp_path / "nobody.avatar")))
    assert "nobody.avatar" in errors[0]
