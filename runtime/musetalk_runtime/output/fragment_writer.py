"""Fragments of MP4, each written as soon as it is whole (ISO/IEC 14496-12, section 8.8).

FFmpeg writes a fragment only when the packet after it comes, a frame later.
"""

import struct
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from musetalk_runtime.output.nal_units import length_prefixed
from musetalk_runtime.output.writable import Writable

BASE_IS_MOOF, DURATION, FLAGS = 0x020000, 0x8, 0x20  # of tfhd: what it has
OFFSET, FIRST_FLAGS, DURATIONS, SIZES = 0x1, 0x4, 0x100, 0x200  # of trun: what it has
DEPENDS_ON_NONE, DEPENDS_ON_OTHERS = 0x2000000, 0x1010000  # of a sample: a keyframe or sound, and any other frame
HEADER_BYTES = 8  # of a box


@dataclass(frozen=True)
class Sample:
    """A frame or a packet of sound: its data as MP4 has it, its time and its length, in ticks of its track."""

    data: bytes
    time: int
    duration: int


class FragmentWriter:
    """Writes the packets of the streams `video` and `sound` of one container to `target`, in fragments.

    A fragment has `size` frames, or fewer before a keyframe, and the sound that begins before its end or there. It is
    written once both are there. The stream's first frame is a fragment by itself, so that it is seen at once.

    Attributes: ``frame`` and ``sample``, the first that are in no fragment yet, in the beginning those given.
    """

    def __init__(
        self, target: Writable, video: Any, sound: Any, fps: Fraction, size: int, frame: int = 0, sample: int = 0
    ) -> None:
        self._target, self._video, self._sound = target, video, sound
        self._scales: dict[int, Fraction] = {}  # ticks of a track in one of its packets'
        self._frame_ticks = 1 / fps / Fraction(sound.time_base)  # of sound
        self._size = size
        self._room = size if frame else 1  # frames of the fragment in hand
        self.frame, self.sample = frame, sample
        self._number = frame  # of the last fragment: each has a frame at least, so that those before have lower ones
        self._keyframe = False  # whether the fragment in hand begins with one
        self._frames: list[Sample] = []
        self._sounds: deque[Sample] = deque()
        self._heard = 0  # ticks of sound that have come

    def write(self, packet: Any) -> None:
        """Take the next packet of either stream, in the order of their times."""
        if packet.stream is self._sound:
            sample = self._sample(packet, bytes(packet))
            self._sounds.append(sample)
            self._heard = sample.time + sample.duration
        else:
            if self._whole or (self._frames and packet.is_keyframe):
                self._cut()
            self._keyframe = self._keyframe if self._frames else packet.is_keyframe
            self._frames.append(self._sample(packet, length_prefixed(bytes(packet))))
        if self._whole and self._heard > self._end:
            self._cut()

    def finish(self) -> None:
        """Write what is left."""
        if self._frames or self._sounds:
            self._write(list(self._sounds))
            self._sounds.clear()

    @property
    def _whole(self) -> bool:
        return len(self._frames) >= self._room

    @property
    def _end(self) -> int:
        """Where the frames in hand end, in ticks of the sound."""
        return _scaled(self.frame + len(self._frames), self._frame_ticks)

    def _sample(self, packet: Any, data: bytes) -> Sample:
        stream = packet.stream
        scale = self._scales.get(stream.index)
        if scale is None:
            scale = self._scales[stream.index] = Fraction(packet.time_base) / stream.time_base
        return Sample(data, _scaled(packet.pts, scale), _scaled(packet.duration or 1, scale))

    def _cut(self) -> None:
        end, sounds = self._end, []
        while self._sounds and self._sounds[0].time <= end:
            sounds.append(self._sounds.popleft())
        self._write(sounds)

    def _write(self, sounds: list[Sample]) -> None:
        self._number += 1
        tracks = [(self._video, self._frames), (self._sound, sounds)]
        given = [(stream.index + 1, samples) for stream, samples in tracks if samples]
        size = len(self._moof(given, 0))
        data = [sample.data for _, samples in given for sample in samples]
        self._target.write(self._moof(given, size + HEADER_BYTES) + _box(b"mdat", *data))
        # What is left of the first fragment's size comes next: so all others begin where they would without it.
        self._room = self._size if self.frame or self._size == 1 else self._size - 1
        self.frame += len(self._frames)
        self.sample = sounds[-1].time + sounds[-1].duration if sounds else self.sample
        self._frames = []

    def _moof(self, given: list[tuple[int, list[Sample]]], offset: int) -> bytes:
        """The box of this fragment, whose samples begin `offset` bytes after its own beginning."""
        boxes = [_box(b"mfhd", struct.pack(">II", 0, self._number))]
        for number, samples in given:
            is_video = samples is self._frames
            boxes.append(_traf(number, samples, offset, is_video, is_video and self._keyframe))
            offset += sum(len(sample.data) for sample in samples)
        return _box(b"moof", *boxes)


def _scaled(number: int, scale: Fraction) -> int:
    return number * scale.numerator // scale.denominator  # a tenth of the time of Fraction's own product


def _traf(number: int, samples: list[Sample], offset: int, is_video: bool, keyframe: bool) -> bytes:
    flags = DEPENDS_ON_OTHERS if is_video else DEPENDS_ON_NONE
    durations = [sample.duration for sample in samples]
    differ = len(set(durations)) > 1
    has = OFFSET | SIZES | FIRST_FLAGS * keyframe | DURATIONS * differ
    numbers = [has, len(samples), offset, *([DEPENDS_ON_NONE] if keyframe else [])]
    for sample in samples:
        numbers += [sample.duration, len(sample.data)] if differ else [len(sample.data)]
    return _box(
        b"traf",
        _box(b"tfhd", struct.pack(">IIII", BASE_IS_MOOF | DURATION | FLAGS, number, durations[0], flags)),
        _box(b"tfdt", struct.pack(">IQ", 1 << 24, samples[0].time)),
        _box(b"trun", struct.pack(f">{len(numbers)}I", *numbers)),
    )


def _box(name: bytes, *content: bytes) -> bytes:
    return b"".join([struct.pack(">I4s", HEADER_BYTES + sum(map(len, content)), name), *content])
