"""The NVENC encoder, by NVIDIA's PyNvVideoCodec. Its packets are muxed by PyAV. It has not run on hardware yet.

PyNvVideoCodec 2.2 gives a frame's packet with the third frame after it, or at the end: it takes no option about that.
"""

import io
from fractions import Fraction
from importlib import import_module
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer

from musetalk_runtime.backends.cuda.device_frame import DeviceFrame
from musetalk_runtime.core.errors import MachineError, one_line
from musetalk_runtime.output.nal_units import has_idr
from musetalk_runtime.output.video import Picture, VideoOptions

PACKAGE = "PyNvVideoCodec"
BITS_A_PIXEL = 0.1  # where no bit rate is asked for


class Nvenc:
    """One encode session. Raises MachineError where PyNvVideoCodec, the driver or the GPU cannot do it."""

    name = "nvenc"

    def __init__(self, container: OutputContainer, picture: Picture, options: VideoOptions) -> None:
        self._codec = _import()
        self._fps = picture.fps
        settings = encoder_settings(picture, options)
        try:
            # Told to take host buffers it takes both kinds; told not to, device buffers alone.
            self._encoder = self._codec.CreateEncoder(picture.width, picture.height, "NV12", True, **settings)
            parameters = bytes(self._encoder.GetSequenceParams())
        except Exception as error:  # its exceptions share no base but Exception
            raise MachineError(f"NVENC cannot be used: {_in_one_line(error)}") from error
        # PyAV gives a stream for packets from elsewhere its decoder's parameters from another stream only: from one
        # that holds nothing else, not even a picture to tell the size.
        with av.open(io.BytesIO(parameters), format="h264") as template:
            self._stream: Any = container.add_stream_from_template(template.streams.video[0])
        self._stream.width, self._stream.height, self._stream.pix_fmt = picture.width, picture.height, "yuv420p"
        self._stream.time_base = 1 / picture.fps
        # Frames whose packets are still to come, in order: each is kept, for it is copied asynchronously.
        self._pending: list[tuple[int, Any]] = []

    def encode(self, index: int, nv12: npt.NDArray[np.uint8] | DeviceFrame, keyframe: bool = False) -> list[Any]:
        """See ``Encoder``. A frame may be on the GPU, and must stay there until its packet has come."""
        picture = _OnGpu(nv12) if isinstance(nv12, DeviceFrame) else np.ascontiguousarray(nv12)
        self._pending.append((index, picture))
        settings = self._codec.NV_ENC_PIC_PARAMS()
        settings.inputTimeStamp = index
        if keyframe:
            settings.encodePicFlags = int(self._codec.NV_ENC_PIC_FLAGS.FORCEIDR)
        return self._packets(self._encoder.Encode(picture, settings))

    def finish(self) -> list[Any]:
        return self._packets(self._encoder.EndEncode())

    def steer(self, kbps: int) -> None:
        """See ``Encoder``."""

    def _packets(self, encoded: list[dict[str, Any]]) -> list[Any]:
        """Without B-frames packets come in the order of their frames."""
        return [self._packet(bytes(entry["data"]), self._pending.pop(0)[0]) for entry in encoded]

    def _packet(self, data: bytes, index: int) -> Any:
        packet = av.Packet(data)
        packet.stream = self._stream
        packet.time_base = Fraction(1) / self._fps
        packet.pts = packet.dts = index
        packet.duration = 1
        packet.is_keyframe = has_idr(data)
        return packet


class _OnGpu:
    """A frame as PyNvVideoCodec asks for it: what ``cuda()`` gives, by DLPack, its own stream the only argument.

    That stream waits until the frame is finished; by ``__cuda_array_interface__`` it would not.
    """

    def __init__(self, frame: DeviceFrame) -> None:
        self._frame = frame

    def cuda(self) -> "_OnGpu":
        return self

    def __dlpack__(self, stream: int) -> Any:
        return self._frame.__dlpack__(stream=stream)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._frame.__dlpack_device__()


def encoder_settings(picture: Picture, options: VideoOptions) -> dict[str, Any]:
    """The keyword arguments of PyNvVideoCodec's CreateEncoder."""
    kbps = options.kbps or round(picture.width * picture.height * picture.fps * BITS_A_PIXEL / 1000)
    gop = round(picture.fps)
    return {
        "codec": "h264",
        "preset": "P3",
        "tuning_info": "ultra_low_latency",
        "fps": gop,
        "gop": gop,
        "idrperiod": gop,
        "bf": 0,
        "rc": "cbr" if options.constant else "vbr",
        "bitrate": kbps * 1000,
        "maxbitrate": (options.peak_kbps or kbps * 3 // 2) * 1000,
        "vbvbufsize": kbps * 500,
    }


def _import() -> Any:
    try:
        return import_module(PACKAGE)
    except ModuleNotFoundError:
        raise MachineError(f"NVENC needs {PACKAGE}: pip install 'musetalk-edge[nvenc]'") from None
    except Exception as error:  # the import itself looks for the driver's library
        raise MachineError(f"NVENC cannot be used: {_in_one_line(error)}") from error


def _in_one_line(error: Exception) -> str:
    """The library's messages have several lines, of which the first says little and the last names its source."""
    return one_line(str(error).partition("\nat ")[0])[:200] or type(error).__name__
