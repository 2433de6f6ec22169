"""An audio file as a source of speech."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np

from musetalk_runtime.audio.chunk import AudioChunk, Resampler
from musetalk_runtime.audio.decode.declared import declared_seconds
from musetalk_runtime.audio.decode.part import open_part
from musetalk_runtime.audio.decode.samples import SampleReader
from musetalk_runtime.audio.decode.timeline import MAX_GAP_S, TOLERANCE_S, Timeline
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.errors import InputNotFound, InvalidMedia
from musetalk_runtime.core.joined import MAX_FILES, beginnings
from musetalk_runtime.core.media import best_stream, several

TIMED = {"mp4", "matroska", "ogg", "mpegts", "mpeg", "asf", "flv"}  # FFmpeg counts the samples of the others itself
MOST_PACKETS, MOST_PACKETS_A_SECOND = 20_000, 2000  # codecs have 400 a second at most; each packet costs as much time
ANOTHER_STREAM = "only a first part of it can be read: then another stream begins"
MOST_REST_BYTES = 4096  # after the last packet of an MPEG-TS
SAMPLE_RATE_RANGE = (
    1000,
    768_000,
)  # samples a second: outside, a resampler takes all memory, or a few bytes stand for hours


class AudioFile:
    """The audio of a media file (its default stream), decoded and resampled as it is iterated.

    Raises InputNotFound or InvalidMedia, at once when the file is no audio or holds none. ``channels`` is 1 or 2;
    ``start`` the file's time of the first sample, in seconds. Gaps in the timestamps are silence. ``warnings`` tells,
    after the last chunk, what was skipped, missing or changed.
    """

    live = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.channels = 1
        self.start = 0.0
        self.warnings: list[str] = []
        if not path.exists():
            raise InputNotFound(f"{path}: no such audio file")
        chunks = self._decode()
        try:
            self._first = next(chunks)
        except StopIteration:
            raise InvalidMedia(f"{path}: it holds no audio samples") from None
        self._rest = chunks

    def __iter__(self) -> Generator[AudioChunk, None, None]:
        yield self._first
        yield from self._rest

    def interrupt(self) -> None:
        """A file never makes its reader wait."""

    def close(self) -> None:
        """Close the file; not while another thread iterates."""
        self._rest.close()

    def _decode(self) -> Generator[AudioChunk, None, None]:
        """All files that this one was joined of."""
        resample: Resampler | None = None
        begin, ends = 0, beginnings(self.path)[1:]
        for end in ends[:MAX_FILES] if len(ends) == MAX_FILES else (*ends, None):
            try:
                with self._open(begin, end) as container:
                    stream = self._choose(container)
                    if resample is None:
                        self.channels = max(1, min(2, stream.codec_context.channels))
                        resample = Resampler(self.channels)
                    for samples, rate in self._samples(container, stream, first=begin == 0):
                        if chunk := resample(samples, rate):
                            yield chunk
            except InvalidMedia as error:
                if begin == 0:
                    raise
                self._warn(f"what follows its byte {begin} is left out: {str(error).removeprefix(f'{self.path}: ')}")
            begin = end or 0
        if begin:
            self._warn(f"what follows its byte {begin} is left out: more than {MAX_FILES} files are joined")
        if resample and (chunk := resample.end()):
            yield chunk

    @contextmanager
    def _open(self, begin: int, end: int | None) -> Iterator[Any]:
        with ExitStack() as opened:
            try:
                container, warning = opened.enter_context(open_part(self.path, begin, end))
            except (av.FFmpegError, OSError) as error:
                raise InvalidMedia(f"{self.path}: not an audio file that can be read: {_reason(error)}") from error
            if warning:
                self._warn(warning)
            yield container

    def _choose(self, container: Any) -> Any:
        """The stream that is heard."""
        if not container.streams.audio:
            raise InvalidMedia(f"{self.path}: it has no audio stream{_kinds(container)}")
        stream = best_stream(container, "audio")
        if stream is None or stream.codec_context is None:
            raise InvalidMedia(f"{self.path}: its audio is of a codec that is unknown here")
        if warning := several(container, "audio", stream):
            self._warn(warning)
        return stream

    def _samples(self, container: Any, stream: Any, first: bool) -> Iterator[tuple[Floats, int]]:
        """Pieces ``[channels, n]`` without a gap between, and their rates; of the `first` file it notes the start."""
        read, timeline = SampleReader(str(self.path)), None
        timed = not TIMED.isdisjoint(container.format.name.split(","))
        for frame in self._frames(container, stream):
            rate = frame.sample_rate
            if not SAMPLE_RATE_RANGE[0] <= rate <= SAMPLE_RATE_RANGE[1]:
                rates = f"expected {SAMPLE_RATE_RANGE[0]} to {SAMPLE_RATE_RANGE[1]}"
                raise InvalidMedia(f"{self.path}: its audio has {rate} samples a second, {rates}")
            if timeline is None:
                start = _start(container, frame)
                self.start = start if first else self.start
                timeline = Timeline(start)
            samples = _with_channels(read(frame), self.channels)
            gap = round(timeline.gap(frame.time) * rate) if timed else 0
            for count in _blocks(gap, rate):
                yield np.zeros((self.channels, count), np.float32), rate
            samples = samples[:, max(0, -gap) :]
            if samples.size:
                yield samples, rate
            timeline.add((max(0, gap) + samples.shape[1]) / rate)
        if timeline is None:
            return
        for warning in filter(None, (*read.warnings, timeline.warning)):
            self._warn(warning)
        declared = declared_seconds(self.path, container, stream)
        if timeline.seconds < declared - 0.5:
            self._warn(f"the audio ends at {timeline.seconds:.1f} s, its header says {declared:.1f} s")

    def _frames(self, container: Any, stream: Any) -> Iterator[Any]:
        damaged, seconds = 0, 0.0
        for packets, packet in enumerate(self._packets(container, stream), 1):
            if packets > MOST_PACKETS + MOST_PACKETS_A_SECOND * seconds:
                raise InvalidMedia(f"{self.path}: {packets} packets hold {seconds:.1f} s of audio: those are too many")
            try:
                for frame in packet.decode():
                    seconds += frame.samples / max(1, frame.sample_rate)
                    yield frame
            except av.FFmpegError:
                damaged += 1
        if damaged:
            self._warn(f"{damaged} damaged audio packets were skipped")

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        """Up to the end, or to where FFmpeg reads no further."""
        last = 0
        try:
            for packet in container.demux(stream):
                last = packet.pos or last
                yield packet
        except OSError as error:
            raise InvalidMedia(f"{self.path}: it cannot be read: {_reason(error)}") from None
        except av.FFmpegError as error:
            self._warn(f"only a first part of it can be read: {_reason(error)}")
        except IndexError:  # PyAV's before 19, for a stream that was not there in the beginning
            self._warn(ANOTHER_STREAM)
        else:
            rest = self.path.stat().st_size - last
            if container.format.name == "mpegts" and rest > max(MOST_REST_BYTES, last // 10):
                self._warn(ANOTHER_STREAM)

    def _warn(self, text: str) -> None:
        self.warnings.append(f"{self.path}: {text}")


def _with_channels(samples: Floats, count: int) -> Floats:
    """`samples` ``[1 or 2, n]`` with `count` channels: in a file that was joined these may change."""
    if len(samples) == count:
        return samples
    return np.repeat(samples, 2, axis=0) if count == 2 else np.asarray(samples.mean(axis=0, keepdims=True))


def _start(container: Any, frame: Any) -> float:
    """The timestamp of the file's beginning; that of its first frame where the two are too far apart."""
    first = frame.time or 0.0
    begin = 0.0 if "mp4" in container.format.name else (container.start_time or 0) / av.time_base
    return begin if TOLERANCE_S < first - begin <= MAX_GAP_S else first


def _blocks(count: int, size: int) -> Iterator[int]:
    """`count` in parts of at most `size`."""
    while count > 0:
        yield min(count, size)
        count -= size


def _kinds(container: Any) -> str:
    """What else it has, as the end of a sentence."""
    kinds = ", ".join(stream.type for stream in container.streams)
    return f", only {kinds}" if kinds else ""


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
