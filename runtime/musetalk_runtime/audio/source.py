"""Where speech comes from: any audio file, or PCM as it is spoken."""

import os
import select
import struct
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from musetalk_runtime.errors import InputNotFound, InvalidMedia
from musetalk_runtime.model import SAMPLE_RATE

Floats = npt.NDArray[np.float32]

SOUND_RATE = 48_000  # of the stream's audio track
FORMATS = (  # those that name other files, such as playlists, are left out
    "wav,w64,aiff,caf,au,mp3,aac,ac3,eac3,flac,ogg,amr,asf,wv,tta,ape,"
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpeg,mpegts"
)
LIVE_READ = 1 << 16  # bytes
LOOK = 0.1  # seconds between looks for an interruption


@dataclass(frozen=True)
class AudioChunk:
    """The same stretch of audio twice: for the model and for the listener.

    ``speech`` is float32 ``[n]``, mono at 16 kHz; ``sound`` float32 ``[channels, m]`` at 48 kHz. The resamplers'
    delays differ, so the two agree in length only over the whole stream.
    """

    speech: Floats
    sound: Floats


class AudioFile:
    """The first audio stream of a media file, decoded and resampled as it is iterated.

    Raises InputNotFound or InvalidMedia, at once when the file is no audio, holds none, or is a WAV shorter than
    its header says. ``channels`` is 1 or 2. ``warnings`` tells, after the last chunk, what was skipped or missing.
    """

    live = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.channels = 1
        self.warnings: list[str] = []
        if not path.exists():
            raise InputNotFound(f"{path}: no such audio file")
        _check_wav(path)
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
        try:
            container = av.open(f"file:{self.path}", options={"format_whitelist": FORMATS})
        except (av.FFmpegError, OSError) as error:
            raise InvalidMedia(f"{self.path}: not an audio file that can be read: {_reason(error)}") from error
        with container:
            if not container.streams.audio:
                raise InvalidMedia(f"{self.path}: it has no audio stream, only {_kinds(container)}")
            stream = container.streams.audio[0]
            self.channels = min(2, stream.codec_context.channels)
            resample = _Resampler(self.channels)
            seconds = 0.0
            for frame in self._frames(container, stream):
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


class LivePcm:
    """Speech as it is spoken: signed 16-bit little-endian mono PCM at 16 kHz, from an iterable of bytes.

    Chunks may have any length. The iterable ends the stream by ending.
    """

    live = True
    channels = 1

    def __init__(self, pcm: Iterable[bytes]) -> None:
        self.warnings: list[str] = []
        self._pcm = pcm

    def __iter__(self) -> Generator[AudioChunk, None, None]:
        resample = _Resampler(channels=1)
        odd = b""
        for data in self._pcm:
            data = odd + bytes(data)  # noqa: PLW2901
            whole = len(data) // 2 * 2
            data, odd = data[:whole], data[whole:]  # noqa: PLW2901
            if not data:
                continue
            frame = av.AudioFrame.from_ndarray(np.frombuffer(data, dtype="<i2")[None], format="s16", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            if chunk := resample(frame):
                yield chunk
        if chunk := resample(None):
            yield chunk

    def interrupt(self) -> None:
        """End an iteration that waits in another thread, where the iterable has an ``interrupt`` of its own."""
        if interrupt := getattr(self._pcm, "interrupt", None):
            interrupt()

    def close(self) -> None:
        """Nothing is held."""


class PipeReader:
    """The bytes of a pipe, as they come; `interrupt` from another thread ends the iteration, also a waiting one."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._interrupted = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        while not self._interrupted.is_set():
            ready, _, _ = select.select([self._descriptor], [], [], LOOK)
            if not ready:
                continue
            data = os.read(self._descriptor, LIVE_READ)
            if not data:
                return
            yield data

    def interrupt(self) -> None:
        self._interrupted.set()


class _Resampler:
    """One decoded stream to both rates."""

    def __init__(self, channels: int) -> None:
        self._speech = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        self._sound = av.AudioResampler(format="fltp", layout="stereo" if channels == 2 else "mono", rate=SOUND_RATE)
        self._channels = channels

    def __call__(self, frame: av.AudioFrame | None) -> AudioChunk | None:
        """What `frame`, or the end of the stream, gives; None when the resamplers only filled their buffers."""
        if frame is not None:
            frame.pts = None  # time is counted in samples
        speech = [out.to_ndarray()[0] for out in self._speech.resample(frame)]
        sound = [out.to_ndarray() for out in self._sound.resample(frame)]
        if not speech and not sound:
            return None
        return AudioChunk(
            np.concatenate([np.empty(0, np.float32), *speech]),
            np.concatenate([np.empty((self._channels, 0), np.float32), *sound], axis=1),
        )


def _check_wav(path: Path) -> None:
    """Raise InvalidMedia for a RIFF WAV whose data chunk is longer than the file: FFmpeg hides that."""
    if not path.is_file():
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return
        while len(header := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", header)
            start = file.tell()
            if name == b"data":
                if length != 0xFFFFFFFF and start + length > size:  # the maximum: written to a pipe, length unknown
                    raise InvalidMedia(
                        f"{path}: truncated: its header promises {length} bytes of audio, {size - start} are there"
                    )
                return
            file.seek(start + length + length % 2)


def _kinds(container: Any) -> str:
    return ", ".join(stream.type for stream in container.streams) or "nothing"


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
