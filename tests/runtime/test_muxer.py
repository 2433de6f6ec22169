"""The container, read back by PyAV."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from musetalk_runtime.core.errors import MachineError
from musetalk_runtime.output.muxer import Muxer
from musetalk_runtime.output.video import Picture, VideoOptions

PICTURE = Picture(64, 48, Fraction(25))
X264 = VideoOptions("x264")


class Memory:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> int:
        self.data += bytes(data)
        return len(data)


def make(fps: Fraction, seconds: float = 3.0, channels: int = 1, container: str = "mp4") -> bytes:
    memory = Memory()
    random = np.random.default_rng(0)
    count = int(seconds * fps)
    tone = (0.3 * np.sin(np.arange(round(seconds * 48_000)) * 0.06)).astype(np.float32)
    with Muxer(memory, container, Picture(64, 48, fps), channels, X264) as muxer:
        sent = 0
        for k in range(count):
            end = len(tone) if k == count - 1 else int((k + 4) * 48_000 / fps)
            muxer.sound(np.tile(tone[sent:end], (channels, 1)))
            sent = max(sent, min(end, len(tone)))
            muxer.frame(k, random.integers(16, 235, (72, 64), dtype=np.uint8))
    return memory.data


def boxes(data: bytes) -> list[tuple[str, int, int]]:
    """Name, start and size of the top-level MP4 boxes."""
    found, at = [], 0
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        found.append((name.decode(), at, size))
        at += size
    return found


@pytest.mark.parametrize(
    "fps", [Fraction(25), Fraction(24), Fraction(21), Fraction(20), Fraction(15), Fraction(30000, 1001)]
)
def test_frame_k_is_at_k_over_fps_with_a_keyframe_every_second(fps: Fraction) -> None:
    data = make(fps)
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
        times = [packet.pts * packet.time_base for packet in packets]
        assert times == [k / fps for k in range(int(3 * fps))]
        assert all(packet.dts == packet.pts for packet in packets)
        assert [k for k, packet in enumerate(packets) if packet.is_keyframe] == list(range(0, len(packets), round(fps)))


@pytest.mark.parametrize("channels", [1, 2])
def test_sound_starts_at_zero_and_has_the_inputs_length(channels: int) -> None:
    data = make(Fraction(25), channels=channels)
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        assert (stream.codec_context.name, stream.rate, stream.codec_context.channels) == ("aac", 48_000, channels)
        assert packets[0].pts == 0
        assert sum(packet.duration for packet in packets) == 3 * 48_000
    with av.open(io.BytesIO(data)) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    tone = 0.3 * np.sin(np.arange(3 * 48_000) * 0.06)
    lag = max(range(-100, 101), key=lambda d: float(np.dot(sound[10_000 + d : 30_000 + d], tone[10_000:30_000])))
    assert abs(lag) <= 1  # in step with what was said


def test_fragments_last_about_100_ms() -> None:
    data = make(Fraction(25))
    names = [name for name, _, _ in boxes(data)]
    assert names[:2] == ["ftyp", "moov"]
    assert names[2:4] == ["moof", "mdat"]
    assert 3 / 0.2 <= names.count("moof") <= 3 / 0.04


def test_an_empty_stream_ends_cleanly() -> None:
    with Muxer(Memory(), "mp4", PICTURE, 1, X264):
        pass


def test_mpegts_holds_the_same() -> None:
    with av.open(io.BytesIO(make(Fraction(25), container="mpegts")), format="mpegts") as container:
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
        assert sum(1 for _ in container.decode(video=0)) == 75


def test_what_the_writable_raises_comes_through() -> None:
    class Closed:
        def write(self, _: bytes) -> int:
            raise BrokenPipeError("gone")

    with pytest.raises(BrokenPipeError):
        Muxer(Closed(), "mp4", PICTURE, 1, X264)


def test_an_encoder_that_cannot_be_opened_is_told() -> None:
    with pytest.raises(MachineError, match="x264 cannot encode 20000x64 here"):
        Muxer(io.BytesIO(), "mp4", Picture(20_000, 64, Fraction(25)), 1, VideoOptions("x264"))
