"""The muxer: frames and sound to a container, in small fragments that a viewer can start from.

MP4 is fragmented: as many whole frames as 100 ms hold a fragment, a keyframe every second, AAC at 48 kHz. Frame k has
pts k / fps and sound its sample count, so the two cannot drift.
"""

from contextlib import suppress
from fractions import Fraction
from types import TracebackType
from typing import Any, Protocol

import av
import numpy as np
import numpy.typing as npt

from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.core.errors import MachineError
from musetalk_runtime.output.encoder import open_encoder
from musetalk_runtime.output.mp4 import MP4_FLAGS
from musetalk_runtime.output.video import AccessUnit, Picture, VideoOptions

MIN_FRAGMENTS_PER_SECOND = 10  # a second, at least
MAX_BUFFER_BYTES = 1 << 18  # bytes handed over at once, at most
AAC_BITS = 96_000  # a second and channel
SEQUENCE_PARAMETERS = 7  # an H.264 NAL unit's type
AAC_OPTIONS = {"aac_coder": "fast"}  # a quarter of the default's time, for as many bits


class Writable(Protocol):
    """Anything whose ``write`` takes all it is given."""

    def write(self, data: bytes, /) -> Any: ...


class Muxer:
    """Encodes and muxes one video and one audio track to a writable object.

    Frames and sound come in the order of their times. Leaving the ``with`` block writes what the encoders still hold
    and ends the container; after an error it only releases it. Raises MachineError for an encoder that this machine has
    not; what the writable object raises comes through.
    """

    def __init__(
        self, target: Writable, container: str, picture: Picture, channels: int, options: VideoOptions
    ) -> None:
        self._samples = 0
        flags = {"flush_packets": "1", **(_mp4_options(picture.fps) if container == "mp4" else {})}
        self._container = av.open(target, "w", format=container, options=flags, buffer_size=MAX_BUFFER_BYTES)
        self._encoder = open_encoder(self._container, picture, options)
        self._layout = "stereo" if channels == 2 else "mono"
        self._audio: Any = self._container.add_stream("aac", SOUND_RATE, AAC_OPTIONS, layout=self._layout)
        self._audio.bit_rate = AAC_BITS * channels
        try:
            self._container.start_encoding()
        except av.FFmpegError as error:
            self._release()
            size = f"{picture.width}x{picture.height}"
            raise MachineError(f"{self.encoder} cannot encode {size} here: {error.strerror}") from error
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> "Muxer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or kind is GeneratorExit:
            self.write(self._encoder.finish())
            if self._samples:
                self.write(self._audio.encode(None))
            self._container.close()
        else:
            self._release()

    @property
    def encoder(self) -> str:
        """The encoder's name."""
        return self._encoder.name

    def frame(self, index: int, nv12: npt.NDArray[np.uint8], keyframe: bool = False) -> None:
        """Encode and mux frame `index`, NV12 ``[H * 3 / 2, W]``; `keyframe` makes it one out of turn."""
        self.write(self.encode_frame(index, nv12, keyframe))

    def sound(self, samples: npt.NDArray[np.float32]) -> None:
        """Encode and mux the next `samples` ``[channels, n]`` at 48 kHz."""
        self.write(self.encode_sound(samples))

    def encode_frame(self, index: int, nv12: npt.NDArray[np.uint8], keyframe: bool = False) -> list[Any]:
        """The packets of `frame`, for `write`."""
        return self._encoder.encode(index, nv12, keyframe)

    def encode_sound(self, samples: npt.NDArray[np.float32]) -> list[Any]:
        """The packets of `sound`, for `write`."""
        if not samples.shape[1]:
            return []
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, self._samples, Fraction(1, SOUND_RATE)
        self._samples += samples.shape[1]
        packets: list[Any] = self._audio.encode(frame)
        return packets

    def write(self, packets: list[Any]) -> None:
        """Mux `packets`, in the order in which they were encoded."""
        for packet in packets:
            # AAC's priming packet lies before time 0. Sent, it would make FFmpeg shift the video by 21 ms; without it
            # the first 21 ms of sound are faded in.
            if packet.pts >= 0:
                self._container.mux(packet)

    def _release(self) -> None:
        with suppress(av.FFmpegError, OSError):
            self._container.close()


def fragment_frames(fps: Fraction) -> int:
    """How many frames an MP4 fragment has, but for the last one before a keyframe, which may have fewer."""
    return max(1, int(fps / MIN_FRAGMENTS_PER_SECOND))


def access_unit(packet: Any) -> AccessUnit:
    """What `packet`, of `Muxer.encode_frame`, holds."""
    return AccessUnit(packet.pts, _annex_b(packet), packet.is_keyframe)


def _annex_b(packet: Any) -> bytes:
    """An access unit of libx264 or NVENC; a keyframe with the parameter sets that a container has in its head."""
    data = bytes(packet)
    parameters = packet.stream.codec_context.extradata if packet.is_keyframe else None
    begins = data.find(b"\0\0\1") + 3
    if parameters and data[begins] & 0x1F != SEQUENCE_PARAMETERS:
        return bytes(parameters) + data
    return data


def _mp4_options(fps: Fraction) -> dict[str, str]:
    # FFmpeg cuts at a packet of either track that is so late after its first in the fragment. A millisecond less than
    # the frames last: sound, which begins no earlier and whose packets are longer than that, then never cuts before.
    microseconds = int(fragment_frames(fps) / fps * 1_000_000) - 1000
    return {"movflags": MP4_FLAGS, "frag_duration": str(microseconds)}
