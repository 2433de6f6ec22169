"""An audio file as a source of speech."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from musetalk_runtime.audio.chunk import AudioChunk, Resampler
from musetalk_runtime.audio.decode.samples import SampleReader
from musetalk_runtime.audio.decode.timeline import MAX_GAP_S, TOLERANCE_S, Timeline
from musetalk_runtime.audio.decode.wav import is_wav, missing_bytes
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.errors import InputNotFound, InvalidMedia
from musetalk_runtime.core.media import best_stream, open_media, several

FORMATS = (  # those that name other files, such as playlists, are left out
    "wav,w64,aiff,caf,au,mp3,aac,ac3,eac3,flac,ogg,amr,asf,wv,tta,ape,"
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpeg,mpegts"
)
# By itself FFmpeg reads many small packets of a WAV ahead, to see whether its PCM is another codec's bits.
# One larger packet does for that, and 5 s of speech are decoded in a third of the time.
WAV_OPTIONS = {"max_size": "32768", "max_probe_packets": "1"}
TIMED = {"mp4", "matroska", "ogg", "mpegts", "mpeg", "asf", "flv"}  # FFmpeg counts the samples of the others itself
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
        wav = is_wav(path)
        if wav and (missing := missing_bytes(path)):
            self._warn(missing)
        chunks = self._decode(WAV_OPTIONS if wav else {})
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

    def _decode(self, options: dict[str, str]) -> Generator[AudioChunk, None, None]:
        try:
            container = open_media(self.path, FORMATS, **options)
        except (av.FFmpegError, OSError) as error:
            raise InvalidMedia(f"{self.path}: not an audio file that can be read: {_reason(error)}") from error
        with container:
            if not container.streams.audio:
                raise InvalidMedia(f"{self.path}: it has no audio stream{_kinds(container)}")
            stream = best_stream(container, "audio")
            if stream is None or stream.codec_context is None:
                raise InvalidMedia(f"{self.path}: its audio is of a codec that is unknown here")
            if warning := several(container, "audio", stream):
                self._warn(warning)
            self.channels = max(1, min(2, stream.codec_context.channels))
            resample = Resampler(self.channels)
            for samples, rate in self._samples(container, stream):
                if chunk := resample(samples, rate):
                    yield chunk
            if chunk := resample.end():
                yield chunk

    def _samples(self, container: Any, stream: Any) -> Iterator[tuple[Floats, int]]:
        """Pieces ``[channels, n]`` without a gap between, and their rates."""
        read, timeline = SampleReader(str(self.path)), None
        timed = not TIMED.isdisjoint(container.format.name.split(","))
        for frame in self._frames(container, stream):
            rate = frame.sample_rate
            if not SAMPLE_RATE_RANGE[0] <= rate <= SAMPLE_RATE_RANGE[1]:
                rates = f"expected {SAMPLE_RATE_RANGE[0]} to {SAMPLE_RATE_RANGE[1]}"
                raise InvalidMedia(f"{self.path}: its audio has {rate} samples a second, {rates}")
            if timeline is None:
                self.start = _start(container, frame)
                timeline = Timeline(self.start)
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
        declared = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        if timeline.seconds < declared - 0.5:
            self._warn(f"the audio ends at {timeline.seconds:.1f} s, its header says {declared:.1f} s")

    def _frames(self, container: Any, stream: Any) -> Iterator[Any]:
        damaged = 0
        for packet in self._packets(container, stream):
            try:
                yield from packet.decode()
            except av.FFmpegError:
                damaged += 1
        if damaged:
            self._warn(f"{damaged} damaged audio packets were skipped")

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        """Up to the end, or to where FFmpeg reads no further."""
        try:
            yield from container.demux(stream)
        except OSError as error:
            raise InvalidMedia(f"{self.path}: it cannot be read: {_reason(error)}") from None
        except av.FFmpegError as error:
            self._warn(f"only a first part of it can be read: {_reason(error)}")

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
