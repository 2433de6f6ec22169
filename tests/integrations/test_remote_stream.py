"""An avatar of a running service in a conversation."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="aiohttp is not installed: it comes with the extras pipecat and livekit")

from helpers.live_avatar import played, say, saying
from helpers.media import voice
from helpers.service_client import Client, end_sessions, serving, until
from helpers.tcp_proxy import TcpProxy
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.core.errors import InvalidArgument, OutputError
from musetalk_runtime.integrations.live_avatar import AvatarFrame
from musetalk_runtime.integrations.remote_stream import RemoteAvatarStream
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings

FPS = 25
MOVED = 1.0  # of a picture to the nearest of the avatar's own, on average: what H.264 changes is 0.7


Act = Callable[[RemoteAvatarStream, AvatarFrame], bool]


@pytest.fixture
def stream(remote_stream: RemoteAvatarStream) -> RemoteAvatarStream:
    return remote_stream


@pytest.fixture
def far_stream(client: Client, service: Service) -> Iterator[RemoteAvatarStream]:
    """By a network that takes 0.3 s each way."""
    with TcpProxy(client.port, delay=0.3) as proxy:
        token = client.authorization.removeprefix("Bearer ")
        yield RemoteAvatarStream(f"http://127.0.0.1:{proxy.port}", "one", token, FPS)
        until(lambda: not service.sessions.running, "its session is ended")


def test_frames_hold_the_sound_of_their_duration_and_tell_utterances(stream: RemoteAvatarStream) -> None:
    said = voice(1.0, 24_000) / 32768

    def act(stream: RemoteAvatarStream, frame: AvatarFrame) -> bool:
        if frame.index == 5:
            for part in np.array_split(said, 20):
                stream.push(part, 24_000)
            stream.flush()
            stream.push(voice(0.4, 44_100) / 32768, 44_100)
            stream.flush()
        return frame.index > 10 and not stream.speaking

    frames = played(stream, act)
    assert (stream.width, stream.height, stream.fps) == (320, 240, FPS)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert {len(frame.sound) for frame in frames} == {SOUND_RATE // FPS}
    assert sum(frame.ended for frame in frames) == 2
    speaking = [frame.index for frame in frames if frame.speaking]
    assert speaking == list(range(speaking[0], speaking[-1] + 1))
    assert len(speaking) / FPS == pytest.approx(1.4, abs=0.1)
    sound = np.concatenate([frame.sound for frame in frames])
    loud = np.flatnonzero(np.abs(sound) > 0.02) / SOUND_RATE * FPS
    assert speaking[0] <= loud[0]
    assert loud[-1] <= speaking[-1] + 1


def test_the_mouth_moves_with_the_sound_to_the_frame(stream: RemoteAvatarStream, avatar: Path) -> None:
    """As in a file of the same speech: the first picture that is not the avatar's own comes by the first sound."""

    frames = played(stream, saying(1.0, at=30))
    with Avatar.open(avatar) as pack:
        own = [pack.frame(number).astype(int) for number in range(len(pack))]
    moved = [min(np.abs(frame.nv12.astype(int) - one).mean() for one in own) > MOVED for frame in frames]
    heard = [np.abs(frame.sound).max() > 0.02 for frame in frames]
    assert abs(moved.index(True) - heard.index(True)) <= 4  # the mouth opens in the 120 ms before
    assert not any(moved[:30])


def test_an_interruption_silences_the_next_frame_and_what_comes_after_it_is_said(stream: RemoteAvatarStream) -> None:
    cut: list[int] = []
    done: list[int] = []

    def act(stream: RemoteAvatarStream, frame: AvatarFrame) -> bool:
        if frame.index == 5:
            say(stream, 30.0)
        if not cut and frame.speaking and np.abs(frame.sound).max() > 0.1 and frame.index > 40:
            assert 0 < stream.interrupt() < 30
            cut.append(frame.index)
        if cut and frame.index == cut[0] + 25:
            assert not stream.speaking
            say(stream, 0.5)
        done.extend([frame.index] * frame.ended)
        return bool(done)

    frames = played(stream, act)
    after = frames[cut[0] + 1 :]
    loudest = [float(np.abs(frame.sound).max()) for frame in after]
    assert max(loudest[1:25]) == 0  # the first has the fade
    assert max(loudest[25:]) > 0.1
    assert sum(frame.speaking for frame in after) / FPS == pytest.approx(0.5, abs=0.1)
    assert sum(frame.ended for frame in frames) == 1  # the other was dropped


def test_an_utterance_over_a_slow_network_has_no_silence_inside(far_stream: RemoteAvatarStream) -> None:
    frames = played(far_stream, saying(3.0, at=5))
    assert sum(frame.ended for frame in frames) == 1
    assert sum(frame.speaking for frame in frames) / FPS == pytest.approx(3.0, abs=0.1)


def test_what_the_service_has_not_answered_is_dropped_by_an_interruption(far_stream: RemoteAvatarStream) -> None:
    def act(stream: RemoteAvatarStream, frame: AvatarFrame) -> bool:
        if frame.index == 5:
            say(stream, 30.0)
        if frame.index == 8:
            assert stream.interrupt() == 0
            assert not stream.speaking
            say(stream, 0.5)
        return frame.index > 10 and not stream.speaking

    frames = played(far_stream, act)
    assert sum(frame.ended for frame in frames) == 1
    speaking = [frame.index for frame in frames if frame.speaking]
    assert len(speaking) / FPS == pytest.approx(0.5, abs=0.1)
    heard = [frame.index for frame in frames if np.abs(frame.sound).max() > 0.02]
    assert speaking[0] <= heard[0] <= heard[-1] <= speaking[-1] + 1


def test_an_utterance_ends_once_however_often_it_is_told_to(stream: RemoteAvatarStream) -> None:
    def act(stream: RemoteAvatarStream, frame: AvatarFrame) -> bool:
        if frame.index == 5:
            stream.flush()
            say(stream, 0.4)
        if frame.index >= 5:
            stream.flush()
        return frame.index > 40 and not stream.speaking

    assert sum(frame.ended for frame in played(stream, act)) == 1


def test_a_pose_is_shown_by_the_service(bundle: Path, posed: Path) -> None:
    def act(stream: RemoteAvatarStream, frame: AvatarFrame) -> bool:
        if frame.index == 5:
            stream.pose("nod", repeat=True)
            with pytest.raises(InvalidArgument, match="expected one of idle, nod, wave"):
                stream.pose("bow")
        return frame.index == 60

    with Bundle.open(bundle) as b, Avatar.open(posed) as a:
        service = Service(b, {"one": a}, Settings(sessions=1))
        with serving(service) as running:
            frames = played(RemoteAvatarStream(f"http://127.0.0.1:{running.port}", "one", fps=FPS), act)
            end_sessions(service)
    before, after = (np.mean([frame.nv12[:240].mean() for frame in part]) for part in (frames[:5], frames[-5:]))
    assert after < 0.85 * before  # "nod" is darker


def test_long_speech_is_sent_as_it_is_played(stream: RemoteAvatarStream, service: Service) -> None:
    waiting: list[float] = []

    def act(stream: RemoteAvatarStream, frame: AvatarFrame) -> bool:
        if frame.index == 5:
            say(stream, 60.0)
        waiting.extend(session.speech.queued for session in service.sessions.running)
        return frame.index == 100

    played(stream, act)
    assert 3 < max(waiting) < 7


def test_a_conversation_may_be_silent_for_long(bundle: Path, avatar: Path) -> None:
    def act(stream: RemoteAvatarStream, frame: AvatarFrame) -> bool:
        if frame.index == 200:
            say(stream, 0.2)
        return frame.index > 200 and not stream.speaking

    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        service = Service(b, {"one": a}, Settings(sessions=1))
        with serving(service) as running:
            running.config.ws_ping_interval, running.config.ws_ping_timeout = 0.2, 6.0  # seconds, instead of 20
            frames = played(RemoteAvatarStream(f"http://127.0.0.1:{running.port}", "one", fps=FPS), act)
            end_sessions(service)
    assert sum(frame.ended for frame in frames) == 1


def test_what_cannot_be_opened_says_why_and_leaves_nothing(client: Client, service: Service) -> None:
    url, token = f"http://127.0.0.1:{client.port}", client.authorization.removeprefix("Bearer ")

    def refused(*given: str) -> str:
        async def run() -> str:
            lost = RemoteAvatarStream(*given)
            with pytest.raises(OutputError) as caught:
                await lost.open()
            await lost.close()
            return str(caught.value)

        return asyncio.run(run())

    assert "token" in refused(url, "one")
    assert "it has: one" in refused(url, "nobody", token)
    assert "cannot be reached" in refused("http://127.0.0.1:9", "one")
    assert not service.sessions.running


def test_the_end_of_its_session_is_an_error(stream: RemoteAvatarStream, service: Service) -> None:
    def act(_: RemoteAvatarStream, frame: AvatarFrame) -> bool:
        if frame.index == 10:
            service.sessions.running[0].stop()
        return False

    with pytest.raises(OutputError, match="the service has ended the session"):
        played(stream, act)
