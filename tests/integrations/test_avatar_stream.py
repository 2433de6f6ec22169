"""An avatar in a conversation, by itself."""

import asyncio
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from helpers.live_avatar import played, say
from helpers.media import voice
from musetalk_runtime import InputNotFound
from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.integrations.avatar_stream import AvatarStream
from musetalk_runtime.integrations.live_avatar import AvatarFrame

FPS = 25


@pytest.mark.parametrize("fps", [25, "24000/1001"])
def test_frames_hold_the_sound_of_their_duration_and_tell_utterances(bundle: Path, avatar: Path, fps: str) -> None:
    ended: list[int] = []

    def act(stream: AvatarStream, frame: AvatarFrame) -> bool:
        if frame.index == 5:
            for part in np.array_split(voice(1.0, 24_000) / 32768, 20):
                stream.push(part, 24_000)
            stream.flush()
            stream.push(voice(0.4, 44_100) / 32768, 44_100)
            stream.flush()
        ended.extend([frame.index] * frame.ended)
        return len(ended) == 2 and frame.index == ended[-1] + 10

    frames = played(AvatarStream(bundle, avatar, fps), act)
    rate = 25 if fps == 25 else 24000 / 1001
    assert [frame.index for frame in frames] == list(range(len(frames)))
    sound = np.concatenate([frame.sound for frame in frames])
    assert abs(len(sound) - len(frames) * SOUND_RATE / rate) <= 1
    assert sum(frame.ended for frame in frames) == 2
    speaking = [frame.index for frame in frames if frame.speaking]
    assert speaking == list(range(speaking[0], speaking[-1] + 1))  # the second begins where the first ends
    assert len(speaking) / rate == pytest.approx(1.4, abs=0.1)
    loud = np.flatnonzero(np.abs(sound) > 0.01) / SOUND_RATE * rate
    assert speaking[0] <= loud[0]
    assert loud[-1] <= speaking[-1] + 1
    assert frames[-1].rgb().shape == (240, 320, 3)


def test_it_is_speaking_until_the_last_frame_of_the_utterance_is_taken(bundle: Path, avatar: Path) -> None:
    """Also where who takes them is slow, so that some wait."""
    speaking: list[bool] = []

    def act(stream: AvatarStream, frame: AvatarFrame) -> bool:
        if frame.index == 5:
            say(stream, 0.4)
        if frame.index >= 5:
            speaking.append(stream.speaking)
        return frame.ended > 0

    played(AvatarStream(bundle, avatar, FPS), act, pause=2 / FPS)
    *before, at_the_end = speaking
    assert len(before) > 0.4 * FPS
    assert all(before)
    assert not at_the_end


def test_a_reader_that_is_slow_costs_no_pictures(bundle: Path, avatar: Path) -> None:
    """A slow machine makes fewer of them, but here it waits for the reader."""
    frames = played(AvatarStream(bundle, avatar, FPS), lambda _, frame: frame.index == 99, pause=2 / FPS)[70:]
    repeated = sum(np.array_equal(before.nv12, after.nv12) for before, after in pairwise(frames))
    assert repeated < len(frames) // 3


def test_an_interruption_tells_what_was_taken_of_the_utterance(bundle: Path, avatar: Path) -> None:
    spoken: list[int] = []
    taken: list[float] = []

    def act(stream: AvatarStream, frame: AvatarFrame) -> bool:
        if frame.index == 5:
            say(stream, 2.0)
        spoken.extend([frame.index] * frame.speaking)
        if len(spoken) == 10:
            taken.append(stream.interrupt())
        return len(spoken) == 10

    played(AvatarStream(bundle, avatar, FPS), act, pause=2 / FPS)
    assert 9 / FPS < taken[0] <= 10 / FPS + 1e-6  # it may begin within a frame


def test_closing_ends_the_frames_and_what_cannot_be_opened_leaves_nothing(bundle: Path, avatar: Path) -> None:
    async def run() -> int:
        lost = AvatarStream(bundle, avatar / "nobody")
        with pytest.raises(InputNotFound):
            await lost.open()
        await lost.close()
        stream = AvatarStream(bundle, avatar, FPS)
        await stream.open()
        count = 0
        async for _ in stream.frames():
            count += 1
            if count == 10:
                await stream.close()
        await stream.close()
        return count

    assert 10 <= asyncio.run(run()) <= 13


@pytest.mark.parametrize(
    ("module", "framework", "extra"),
    [
        ("pipecat", "pipecat", "pipecat"),
        ("pipecat_tts", "pipecat", "pipecat"),
        ("livekit", "livekit", "livekit"),
        ("livekit_worker", "livekit", "livekit"),
        ("livekit_session", "livekit", "livekit"),
    ],
)
def test_without_the_framework_the_error_says_how_to_get_it(module: str, framework: str, extra: str) -> None:
    code = f"import sys; sys.modules[{framework!r}] = None; import musetalk_runtime.integrations.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"pip install 'musetalk-edge[{extra}]'" in done.stderr.splitlines()[-1]
