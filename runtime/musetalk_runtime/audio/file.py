"""An audio file as a source of speech."""

import struct
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import av

from musetalk_runtime.audio.chunk import AudioChunk, Resampler
from musetalk_runtime.core.errors import InputNotFound, InvalidMedia
from musetalk_runtime.core.media import open_media

FORMATS = (  # those that name other files, such as playlists, are left out
    "wav,w64,aiff,caf,au,mp3,aac,ac3,eac3,flac,ogg,amr,asf,wv,tta,ape,"
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpeg,mpegts"
)
# By itself FFmpeg reads many small packets of a WAV ahead, to see whether its PCM is another codec's bits.
# One larger packet does for that, and 5 s of speech are decoded in a third of the time.
WAV_OPTIONS = {"max_size": "32768", "max_probe_packets": "1"}
SAMPLE_RATE_RANGE = (
    1000,
    768_000,
)  # samples a second: outside, a resampler takes all memory, or a few bytes stand for hours


class AudioFile:
    """The first audio stream of a media file, decoded and resampled as it is iterated.

    Raises InputNotFound or InvalidMedia, at once when the file is no audio, holds none, or is a WAV shorter than
    its header says. ``channels`` is 1 or 2; ``start`` the file's time of the first sample, in seconds. ``warnings``
    tells, after the last chunk, what was skipped or missing.
    """

    live = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.channels = 1
        self.start = 0.0
        self.warnings: list[str] = []
        if not path.exists():
            raise InputNotFound(f"{path}: no such audio file")
        chunks = self._decode(WAV_OPTIONS if _is_wav(path) else {})
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
                raise InvalidMedia(f"{self.path}: it has no audio stream, only {_kinds(container)}")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise InvalidMedia(f"{self.path}: its audio is of a codec that is unknown here")
            self.channels = min(2, stream.codec_context.channels)
            resample = Resampler(self.channels)
            seconds = 0.0
            for frame in self._frames(container, stream):
                if not seconds:
                    self.start = frame.time or 0.0
                if not SAMPLE_RATE_RANGE[0] <= frame.sample_rate <= SAMPLE_RATE_RANGE[1]:
                    rates = f"expected {SAMPLE_RATE_RANGE[0]} to {SAMPLE_RATE_RANGE[1]}"
                    raise InvalidMedia(f"{self.path}: its audio has {frame.sample_rate} samples a second, {rates}")
                seconds += frame.samples / frame.sample_rate
                if chunk := resample(frame):
                    yield chunk
            if seconds and (chunk := resample(None)):
                yield chunk
            declared = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
            if seconds < declared - 0.5:
                self.warnings.append(
                    f"{self.path}: the audio ends at {seconds:.1f} s, its header says {declared:.1f} s"
                )

    def _frames(self, container: Any, stream: Any) -> Iterator[Any]:
        damaged = 0
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.FFmpegError:
                damaged += 1
        if damaged:
            self.warnings.append(f"{self.path}: {damaged} damaged audio packets were skipped")


def _is_wav(path: Path) -> bool:
    """Raises InvalidMedia for a RIFF WAV whose data chunk is longer than the file: FFmpeg hides that."""
    if not path.is_file():
        return False
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return False
        while len(header := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", header)
            start = file.tell()
            if name == b"data":
                if length != 0xFFFFFFFF and start + length > size:  # the maximum: written to a pipe, length unknown
                    raise InvalidMedia(
                        f"{path}: truncated: its header promises {length} bytes of audio, {size - start} are there"
                    )
                break
            file.seek(start + length + length % 2)
    return True


def _kinds(container: Any) -> str:
    return ", ".join(stream.type for stream in container.streams) or "nothing"


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
