"""The feed of encoded packets."""

import asyncio
from fractions import Fraction
from typing import Any

import numpy as np

from musetalk_runtime.audio.decode.opus import OpusDecoder
from musetalk_runtime.output.video import AccessUnit
from musetalk_runtime.service.delivery import packet_feed
from musetalk_runtime.service.delivery.packet_feed import EncodedPacket, PacketFeed, PacketQueue

FPS = Fraction(25)
STEP = 48_000 // 25


def unit(index: int) -> AccessUnit:
    return AccessUnit(index, b"\0\0\0\1\x41" if index else b"\0\0\0\1\x65", index == 0)


def taken(queue: PacketQueue) -> list[EncodedPacket | None]:
    return [queue.get_nowait() for _ in range(queue.qsize())]


def test_sound_does_not_wait_for_its_frame_and_the_end_is_told() -> None:
    async def run() -> tuple[Any, Any, Any]:
        feed = PacketFeed(asyncio.get_running_loop(), FPS, lambda: None)
        video, audio = feed.subscribe("video"), feed.subscribe("audio")
        feed.publish([], np.zeros((2, 3 * STEP), np.float32))  # sound is there before its frames
        await asyncio.sleep(0.01)
        early = taken(audio)
        for index in range(4):
            feed.publish([unit(index)], np.zeros((2, STEP), np.float32))
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
    assert len(early) == 6  # of 20 ms each
    assert [packet.pts for packet in video] == [index / FPS for index in range(4)]
    assert [packet.keyframe for packet in video] == [True, False, False, False]
    assert len(audio) == 8
    assert set(np.diff([packet.pts for packet in early + audio])) == {Fraction(1, 50)}


def test_an_interruption_silences_what_was_not_sent() -> None:
    async def run() -> tuple[list[Any], list[Any]]:
        feed = PacketFeed(asyncio.get_running_loop(), FPS, lambda: None)
        queue, noise = feed.subscribe("audio"), np.random.default_rng(0).normal(0, 0.3, (2, 5 * STEP))
        feed.publish([], noise.astype(np.float32))
        feed.hush()
        feed.publish([], noise.astype(np.float32))
        await asyncio.sleep(0.01)
        packets = taken(queue)
        return packets, [feed.audible(packet) for packet in packets if packet]

    packets, sent = asyncio.run(run())
    assert [one.pts for one in packets] == [one.pts for one in sent]
    decoder = OpusDecoder("opus")
    heard = [np.abs(decoder(one.data).sound.astype(int)).max() for one in sent]
    assert heard[1:10] == [0] * 9  # the first has what the decoder begins with
    assert min(heard[12:]) > 1000


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
            feed.publish([unit(index)], np.zeros((2, STEP), np.float32))
        await asyncio.sleep(0.01)
        return taken(queue)

    assert [packet.pts * FPS for packet in asyncio.run(run()) if packet] == [6, 7, 8]
