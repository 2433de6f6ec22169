"""The muxer: frames and sound to a container, in small fragments that a viewer can start from.

MP4 is fragmented: as many whole frames as 100 ms hold a fragment, but for the first, a keyframe every second, AAC at
48 kHz. Frame k has pts k / fps and sound its sample count, so the two cannot drift.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from types import TracebackType
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from musetalk_runtime.audio.chunk import SOUND_RATE, audio_frame
from musetalk_runtime.core.cores import available_cores
from musetalk_runtime.core.errors import MachineError
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.frame import Frame
from musetalk_runtime.output.encoder import open_encoder
from musetalk_runtime.output.fragment_writer import FragmentWriter
from musetalk_runtime.output.nal_units import with_parameters
from musetalk_runtime.output.pieces import Pieces
from musetalk_runtime.output.video import AccessUnit, Picture, VideoOptions
from musetalk_runtime.output.writable import Writable

MIN_FRAGMENTS_PER_SECOND = 10  # a second, at least
MAX_BUFFER_BYTES = 1 << 18  # bytes handed over at once, at most
HEAD_FLAGS = "empty_moov+default_base_moof+skip_trailer"  # of MP4 whose fragments are written here
AAC_BITS = 96_000  # a second and channel
AAC_OPTIONS = {"aac_coder": "fast"}  # a quarter of the default's time, for as many bits


@dataclass(frozen=True)
class StreamStart:
    """The first frame and the first sample of sound of a stream that another muxer began.

    The sound that is put first begins ``heard`` samples earlier, and is in the stream already: an encoder that knows it
    goes on as the one before would have.
    """

    frame: int
    sample: int
    heard: int = 0


BEGINNING = StreamStart(0, 0)


class Muxer:
    """Encodes and muxes one video and one audio track to a writable object.

    Frames and sound come in the order of their times. Leaving the ``with`` block writes what the encoders still hold
    and ends the container; after an error it only releases it. Raises MachineError for an encoder that this machine has
    not; what the writable object raises comes through. `timings` gets the stages. What another muxer began is
    continued from `start` on: MP4's fragments then have the times and the order of the whole stream. With more than one
    thread in `options`, one encodes the sound while others encode its frame. FFmpeg writes the head of MP4, and
    FragmentWriter its fragments.
    """

    def __init__(
        self,
        target: Writable,
        container: str,
        picture: Picture,
        channels: int,
        options: VideoOptions,
        timings: Timings | None = None,
        start: StreamStart = BEGINNING,
    ) -> None:
        self._start, self._samples = start, start.sample - start.heard
        self._timings = timings or Timings()
        self._fragments: FragmentWriter | None = None
        self._put = start.frame  # frames
        fragmented, head = container == "mp4", Pieces()
        flags = {"movflags": HEAD_FLAGS} if fragmented else {"flush_packets": "1"}
        self._kbps = options.kbps
        alone = min(options.threads, available_cores()) <= 1
        self._sound_thread = None if alone else ThreadPoolExecutor(1, "sound")
        sink = head if fragmented else target
        self._container = av.open(sink, "w", format=container, options=flags, buffer_size=MAX_BUFFER_BYTES)
        self._encoder = open_encoder(self._container, picture, options)
        self._layout = "stereo" if channels == 2 else "mono"
        self._audio: Any = self._container.add_stream("aac", SOUND_RATE, AAC_OPTIONS, layout=self._layout)
        self._audio.bit_rate = AAC_BITS * channels
        try:
            self._container.start_encoding()
            if fragmented:
                target.write(head.take())
        except av.FFmpegError as error:
            self._release()
            size = f"{picture.width}x{picture.height}"
            raise MachineError(f"{self.encoder} cannot encode {size} here: {error.strerror}") from error
        except BaseException:
            self._release()
            raise
        if fragmented:
            video, frames = self._container.streams.video[0], fragment_frames(picture.fps)
            self._fragments = FragmentWriter(target, video, self._audio, picture.fps, frames, start.frame, start.sample)

    def __enter__(self) -> "Muxer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None or kind is GeneratorExit:
                self.write(self._encoder.finish())
                if self._samples > self._start.sample:
                    self.write(self._audio.encode(None))
                if self._fragments:
                    self._fragments.finish()
                self._container.close()
            else:
                self._release()
        finally:
            self._end_thread()

    @property
    def encoder(self) -> str:
        """The encoder's name."""
        return self._encoder.name

    @property
    def unwritten(self) -> StreamStart:
        """What comes next in the stream; of MP4, in the next fragment."""
        written = self._fragments
        return StreamStart(written.frame, written.sample) if written else StreamStart(self._put, self._samples)

    def put(
        self,
        frame: Frame,
        keyframe: bool = False,
        kbps: int | None = None,
        more: bool = False,  # noqa: ARG002 - each is encoded at once
    ) -> list[AccessUnit]:
        """Encode and mux `frame` and its sound; `keyframe` makes it one out of turn. Gives what is encoded by now.

        From this frame on it takes `kbps`, in kbit/s, where the options are `steered`. See ``FrameMuxer.put``.
        """
        if kbps is not None and kbps != self._kbps:
            self._encoder.steer(kbps)
            self._kbps = kbps
        encode_sound = self._timings.timed("encode_sound", self.encode_sound)
        thread = self._sound_thread
        sound = thread.submit(encode_sound, frame.sound).result if thread else partial(encode_sound, frame.sound)
        with self._timings.measure("encode"):
            video = self.encode_frame(frame.index, frame.nv12, keyframe)
        units = [AccessUnit(packet.pts, _annex_b(packet), packet.is_keyframe) for packet in video]
        packets = sound() + video
        with self._timings.measure("mux"):
            self.write(packets)
        return units

    def frame(self, index: int, nv12: npt.NDArray[np.uint8], keyframe: bool = False) -> None:
        """Encode and mux frame `index`, NV12 ``[H * 3 / 2, W]``; `keyframe` makes it one out of turn."""
        self.write(self.encode_frame(index, nv12, keyframe))

    def sound(self, samples: npt.NDArray[np.float32]) -> None:
        """Encode and mux the next `samples` ``[channels, n]`` at 48 kHz."""
        self.write(self.encode_sound(samples))

    def encode_frame(self, index: int, nv12: npt.NDArray[np.uint8], keyframe: bool = False) -> list[Any]:
        """The packets of `frame`, for `write`."""
        self._put = index + 1
        return self._encoder.encode(index, nv12, keyframe)

    def encode_sound(self, samples: npt.NDArray[np.float32]) -> list[Any]:
        """The packets of `sound`, for `write`."""
        if not samples.shape[1]:
            return []
        frame = audio_frame(samples, SOUND_RATE, self._samples)
        self._samples += samples.shape[1]
        packets: list[Any] = self._audio.encode(frame)
        return packets

    def write(self, packets: list[Any]) -> None:
        """Mux `packets`, in the order in which they were encoded."""
        mux = self._fragments.write if self._fragments else self._container.mux
        for packet in packets:
            # AAC's priming packet lies before its first sample. Sent, it would make FFmpeg shift the video by 21 ms;
            # without it the first 21 ms of sound are faded in.
            if packet.stream is not self._audio or packet.pts >= self._start.sample:
                mux(packet)

    def _release(self) -> None:
        self._end_thread()  # before what it works with
        with suppress(av.FFmpegError, OSError):
            self._container.close()

    def _end_thread(self) -> None:
        if self._sound_thread:
            self._sound_thread.shutdown()


def fragment_frames(fps: Fraction) -> int:
    """How many frames an MP4 fragment has. The stream's first two have them together, one and the rest; the last one
    before a keyframe may have fewer.
    """
    return max(1, int(fps / MIN_FRAGMENTS_PER_SECOND))


def _annex_b(packet: Any) -> bytes:
    """An access unit of libx264 or NVENC, as ``AccessUnit`` has it."""
    parameters = packet.stream.codec_context.extradata if packet.is_keyframe else None
    return with_parameters(bytes(packet), bytes(parameters or b""))
