"""The share of frames that is made, so that generation keeps up with playback."""

import io
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from helpers.service_client import Client, Viewer, serving, until
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.backends.interface import FrameRequest
from musetalk_runtime.backends.ort.renderer import CpuRenderer
from musetalk_runtime.service.metrics import Metrics
from musetalk_runtime.service.scheduling.repeating_renderer import RepeatingRenderer
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.session.pace import Pace
from musetalk_runtime.service.session.playback_clock import PlaybackClock
from musetalk_runtime.service.settings import Settings


class Run:
    """A pace, and the seconds of its playback, in which frames come in time or late."""

    def __init__(self, fps: int) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.seconds = 0.0
        clock = PlaybackClock(lambda: self.seconds)
        clock.start()
        published: Any = SimpleNamespace(publish=lambda name, **content: self.events.append((name, content)))
        self.pace = Pace(clock, Fraction(fps), Metrics(), published)

    def spend(self, seconds: int, late: bool, speaking: bool = True) -> float:
        """The rate after so many seconds."""
        for _ in range(seconds):
            self.seconds += 1
            made = self.pace._clock.now() - 0.2 if late else self.pace._clock.now()
            self.pace.made(int(made * self.pace._fps))
            self.pace.measure(int(made * self.pace._fps), speaking)
        return float(self.pace.share * self.pace._fps)


def test_a_rate_that_is_missed_is_lowered_and_comes_back_with_patience() -> None:
    run = Run(25)
    assert run.spend(20, late=False) == 25
    assert run.spend(2, late=True) == 25  # a moment is no reason
    assert run.spend(1, late=False) == 25
    assert run.spend(3, late=True) == 20
    assert run.spend(3, late=True) == 15
    assert run.spend(30, late=True) == 10  # and no lower
    assert run.spend(59, late=False, speaking=False) == 10  # who is silent proves nothing
    assert run.spend(119, late=False) == 10  # after two steps down from a lowered rate, it waits for four times 30 s
    assert run.spend(1, late=False) == 15
    assert [content["fps"] for name, content in run.events if name == "rate"] == [20, 15, 10, 15]


def test_a_low_rate_is_lowered_to_10_at_least() -> None:
    assert Run(15).spend(60, late=True) == 12
    assert Run(10).spend(60, late=True) == 10


class Counting:
    """A renderer whose pictures hold the index of their frame, and are written over by the next batch."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self._pictures = np.zeros((8, 1), np.uint16)

    def render(self, batch: list[FrameRequest]) -> Any:
        self.made += [request.speech.index for request in batch]

        def wait() -> list[np.ndarray]:
            for place, request in enumerate(batch):
                self._pictures[place] = request.speech.index
            return [self._pictures[place] for place in range(len(batch))]

        return SimpleNamespace(wait=wait, finish=lambda: None)

    def close(self) -> None:
        self.made = []


def requested(index: int, weight: float = 1.0) -> Any:
    return SimpleNamespace(speech=SimpleNamespace(index=index, weight=weight))


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("closed", range(3, 9))
def test_an_open_mouth_is_not_repeated_once_it_is_closed(size: int, closed: int) -> None:
    """As after an interruption, between a frame that was made and one that repeats it."""
    renderer: Any = RepeatingRenderer(Counting(), lambda: Fraction(2, 5))  # type: ignore[arg-type]
    shown: list[int] = []
    for start in range(0, 24, size):
        batch = [requested(index, float(index < closed)) for index in range(start, start + size)]
        shown += [int(picture[0]) for picture in renderer.render(batch).wait()]
    assert all(picture < closed for picture in shown[:closed])
    assert shown[closed] == closed
    assert all(index - 3 < picture <= index for index, picture in enumerate(shown[closed:], closed))


@pytest.mark.parametrize("size", [1, 3, 8])
def test_frames_that_are_not_made_repeat_the_picture_before(size: int) -> None:
    inner, share = Counting(), [Fraction(1)]
    renderer: Any = RepeatingRenderer(inner, lambda: share[0])  # type: ignore[arg-type]
    shown: list[int] = []
    for start in range(0, 96, size):
        share[0] = Fraction(1) if start < 24 or start >= 72 else Fraction(3, 5)
        rendering = renderer.render([requested(index) for index in range(start, start + size)])
        shown += [int(picture[0]) for picture in rendering.wait()]
        rendering.finish()
    assert shown[:24] == list(range(24))
    assert shown[72:] == list(range(72, 96))
    lowered = shown[24:72]
    assert all(index - 2 < picture <= index for index, picture in enumerate(lowered, 24))
    assert 28 <= len(set(lowered)) <= 30  # three in five, and the first one in any case
    assert inner.made == sorted(set(shown))


@pytest.fixture
def service(bundle: Path, avatar: Path) -> Iterator[Service]:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        yield Service(b, {"one": a}, Settings(sessions=1))


def test_a_session_that_is_too_slow_makes_fewer_pictures_at_the_same_frame_rate(
    service: Service, monkeypatch: pytest.MonkeyPatch, speech: Callable[[float], Path]
) -> None:
    generate, made = CpuRenderer._generate, set[int]()

    def slow(self: CpuRenderer, batch: Any) -> Any:
        time.sleep(0.08 * len(batch))  # twice as long as a frame lasts
        made.update(request.speech.index for request in batch)
        return generate(self, batch)

    monkeypatch.setattr(CpuRenderer, "_generate", slow)
    with serving(service) as server:
        client = Client(server.port)
        path = client.begin(lead=0.5)
        viewer, events = Viewer(client, path, whole=True), client.events(path)
        client.ask("POST", f"{path}/audio", speech(20.0).read_bytes())
        assert next(content["fps"] for name, content in events if name == "rate") == 20
        assert client.ask("GET", path)[1]["fps"] in (20, 15)
        lowered_at = service.sessions.running[0].frames
        until(lambda: service.sessions.running[0].frames > lowered_at + 30, "it goes on")
        client.ask("DELETE", path)
        viewer.join(60)
    with av.open(io.BytesIO(viewer.init + viewer.data)) as stream:
        times = [frame.time for frame in stream.decode(video=0)]
    assert [round(at * 25, 3) for at in times] == list(range(len(times)))
    window = range(lowered_at + 20, lowered_at + 30)  # what was on its way has left by then
    assert 6 <= len(made.intersection(window)) <= 8
