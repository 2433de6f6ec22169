"""The feed of encoded packets."""

import asyncio
from fractions import Fraction
from typing import Any

import numpy as np

from musetalk_runtime.output.video import AccessUnit
from musetalk_runtime.service.delivery import packet_feed
from musetalk_runtime.service.delivery.packet_feed import EncodedPacket, PacketFeed, PacketQueue

FPS = Fraction(25)
STEP = 48_000 // 25


def encoded(index: int) -> AccessUnit:
    return AccessUnit(index, b"", index == 0)


def taken(queue: PacketQueue) -> list[EncodedPacket | None]:
    return [queue.get_nowait() for _ in range(queue.qsize())]


def test_sound_comes_with_its_frame_and_the_end_is_told() -> None:
    async def run() -> tuple[Any, Any, Any]:
        feed = PacketFeed(asyncio.get_running_loop(), FPS, lambda: None)
        video, audio = feed.subscribe("video"), feed.subscribe("audio")
        feed.publish([], np.zeros((2, 6 * STEP), np.float32))  # sound is there before its frames
        await asyncio.sleep(0.01)
        early = taken(audio)
        for index in range(4):
            feed.publish([encoded(index)], np.zeros((2, STEP), np.float32))
        await asyncio.sleep(0.01)
        found = early, taken(video), taken(audio)
        feed.end()
        await asyncio.sleep(0.01)
        assert taken(audio)[-1] is None
        assert taken(feed.subscribe("video")) == [None]
        feed.unsubscribe(video)
        assert feed.subscribers == 2
        return found

    early, video, audio = asyncio.run(run())
    assert early == []
    assert [packet.pts for packet in video] == [index / FPS for index in range(4)]
    assert [packet.keyframe for packet in video] == [True, False, False, False]
    assert len(audio) in (8, 9)  # 20 ms each, and what the codec looks ahead
    assert max(packet.pts for packet in audio) < 4 / FPS


def test_keyframes_are_made_at_once_but_not_for_every_wish(monkeypatch: Any) -> None:
    monkeypatch.setattr(packet_feed, "KEYFRAME_INTERVAL_S", 0.2)
    made: list[float] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        feed = PacketFeed(loop, FPS, lambda: made.append(loop.time()))
        feed.request_keyframe()
        await asyncio.sleep(0.01)
        assert len(made) == 1
        for _ in range(20):
            feed.request_keyframe()
        await asyncio.sleep(0.4)

    asyncio.run(run())
    assert len(made) == 2
    assert made[1] - made[0] >= 0.19


def test_a_slow_subscriber_loses_the_oldest(monkeypatch: Any) -> None:
    monkeypatch.setattr(packet_feed, "MAX_QUEUED", 3)

    async def run() -> list[EncodedPacket | None]:
        feed = PacketFeed(asyncio.get_running_loop(), FPS, lambda: None)
        queue = feed.subscribe("video")
        for index in range(9):
            feed.publish([encoded(index)], np.zeros((2, STEP), np.float32))
        await asyncio.sleep(0.01)
        return taken(queue)

    assert [packet.pts * FPS for packet in asyncio.run(run()) if packet] == [6, 7, 8]
