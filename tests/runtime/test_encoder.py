"""The encoders' options and packets. No NVENC is at hand: its adapter runs against a stand-in that has the methods of
PyNvVideoCodec 2.2.4, looks at frames as its extension module was seen to, and makes real H.264 with libx264."""

import ctypes
import inspect
import io
import json
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from helpers.dlpack import dl_tensor
from helpers.paths import DATA
from musetalk_runtime.backends.cuda.device_frame import DeviceFrame
from musetalk_runtime.core.errors import InvalidArgument, MachineError
from musetalk_runtime.diagnostics.doctor import FAILURE, NOTE, OK, examine
from musetalk_runtime.output.muxer import Muxer
from musetalk_runtime.output.nal_units import has_idr
from musetalk_runtime.output.nvenc import encoder_settings
from musetalk_runtime.output.video import Picture, VideoOptions
from musetalk_runtime.prepare.frame_writer import AlphaWriter, FrameWriter

PICTURE = Picture(320, 240, Fraction(25))
DELAY = 3  # frames that it holds back
STREAM = 0x22  # the CUDA stream on which it copies
LIBRARY = json.loads((DATA / "pynvvideocodec.json").read_text())


class StandIn:
    """What ``PyNvVideoCodec.CreateEncoder`` gives, as far as it is used."""

    taken: list[tuple[int, bytes]] = []  # noqa: RUF012
    """The frames that were encoded, with their times."""

    def __init__(self, width: int, height: int, fmt: str, usecpuinputbuffer: bool, **settings: Any) -> None:
        assert (fmt, settings["codec"], settings["bf"]) == ("NV12", "h264", 0)
        self.takes_host_buffers = usecpuinputbuffer
        self.held: list[dict[str, Any]] = []
        self.codec: Any = av.CodecContext.create("libx264", "w")
        self.codec.width, self.codec.height, self.codec.pix_fmt = width, height, "yuv420p"
        self.codec.time_base, self.codec.framerate = Fraction(1, settings["fps"]), settings["fps"]
        gop = str(settings["gop"])
        self.codec.options = {"preset": "ultrafast", "tune": "zerolatency", "g": gop, "forced-idr": "1"}

    def GetSequenceParams(self) -> bytes:  # noqa: N802
        other = StandIn(self.codec.width, self.codec.height, "NV12", True, codec="h264", bf=0, fps=25, gop=25)
        black = np.zeros((self.codec.height * 3 // 2, self.codec.width), np.uint8)
        other.Encode(black, SimpleNamespace(inputTimeStamp=0, encodePicFlags=0))
        first = other.EndEncode()[0]["data"]
        units = [unit for unit in first.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
        return b"".join(b"\0\0\0\1" + unit for unit in units if unit[0] & 0x1F in (7, 8))

    def Encode(self, frame: Any, settings: SimpleNamespace) -> list[dict[str, Any]]:  # noqa: N802
        if hasattr(frame, "cuda"):
            pixels = self.device_buffer(frame.cuda())
        else:
            assert self.takes_host_buffers, "incorrect usage of CPU input buffer"
            pixels = np.ascontiguousarray(frame, np.uint8)
        StandIn.taken.append((settings.inputTimeStamp, pixels.tobytes()))
        picture: Any = av.VideoFrame.from_ndarray(pixels, format="nv12")
        picture.pts = settings.inputTimeStamp
        if settings.encodePicFlags:
            picture.pict_type = av.video.frame.PictureType.I
        self.held += [{"data": bytes(packet), "timestamp": packet.pts} for packet in self.codec.encode(picture)]
        ready, self.held = self.held[:-DELAY], self.held[-DELAY:]
        return ready

    def EndEncode(self) -> list[dict[str, Any]]:  # noqa: N802
        assert self.codec.encode(None) == []
        ready, self.held = self.held, []
        return ready

    def device_buffer(self, tensor: Any) -> np.ndarray:
        """The pixels of a DLPack tensor, read as the module reads them: it asks for strides, and checks the height."""
        assert tensor.__dlpack_device__()[0] == 2, "Only CUDA-accessible memory buffers can be wrapped"
        capsule = tensor.__dlpack__(STREAM)
        content = dl_tensor(capsule)
        assert content.shape[0] == self.codec.height * 1.5
        assert not content.strides or content.strides[0] == self.codec.width  # NumPy before 2.3 gives none
        pixels = (ctypes.c_uint8 * (content.shape[0] * content.shape[1])).from_address(content.data)
        return np.array(pixels).reshape(content.shape[0], content.shape[1])


class PicParams:
    """Takes the attributes that the library's has, and no others."""

    __slots__ = tuple(LIBRARY["NV_ENC_PIC_PARAMS"])

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)


class OnGpu(DeviceFrame):
    """A frame whose memory is the host's."""

    def __init__(self, pixels: np.ndarray) -> None:
        super().__init__(pixels.ctypes.data, pixels.shape, None, None)
        self.pixels = pixels

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        assert (stream, options) == (STREAM, {}), "the stream that must wait until the frame is finished"
        return self.pixels.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


@pytest.fixture
def nvenc(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr("musetalk_runtime.output.encoder.nvenc_tries", set())
    module: Any = ModuleType("PyNvVideoCodec")
    module.__spec__ = SimpleNamespace(name="PyNvVideoCodec")
    module.CreateEncoder = StandIn
    module.NV_ENC_PIC_PARAMS = PicParams
    module.NV_ENC_PIC_FLAGS = SimpleNamespace(**LIBRARY["NV_ENC_PIC_FLAGS"])
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", module)
    return module


def stream(options: VideoOptions, force: tuple[int, ...] = (), on_gpu: bool = False) -> tuple[str, bytes]:
    """The name of the encoder that `options` gave, and 60 frames of it, from the host's memory or the GPU's."""
    memory = io.BytesIO()
    frames = np.random.default_rng(0).integers(16, 235, (8, 360, 320), dtype=np.uint8)
    pipe = SimpleNamespace(write=memory.write)
    with Muxer(pipe, "mp4", PICTURE, 1, options) as muxer:
        for k in range(60):
            muxer.sound(np.zeros((1, 1920), np.float32))
            frame: Any = OnGpu(frames[k % 8]) if on_gpu else frames[k % 8]
            muxer.frame(k, frame, keyframe=k in force)
    return muxer.encoder, memory.getvalue()


def parameters(method: Any) -> list[str]:
    taken = list(inspect.signature(method).parameters.values())[1:]
    return [f"**{item.name}" if item.kind is item.VAR_KEYWORD else item.name for item in taken]


def test_the_stand_in_is_called_as_the_library_is() -> None:
    assert parameters(StandIn.__init__)[:4] == LIBRARY["CreateEncoder"][:4]
    assert [name[:2] for name in (parameters(StandIn.__init__)[-1], LIBRARY["CreateEncoder"][-1])] == ["**", "**"]
    for name, taken in LIBRARY["PyNvEncoder"].items():
        assert len(parameters(getattr(StandIn, name))) == len(taken), name
    for options in (VideoOptions(), VideoOptions(kbps=500, constant=True)):
        assert encoder_settings(PICTURE, options).keys() <= set(LIBRARY["options"])


def keyframes(data: bytes) -> list[int]:
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
    return [k for k, packet in enumerate(packets) if packet.is_keyframe]


@pytest.mark.parametrize("encoder", ["x264", "nvenc"])
@pytest.mark.usefixtures("nvenc")
def test_a_keyframe_every_second_and_on_demand(encoder: str) -> None:
    name, data = stream(VideoOptions(encoder), force=(7, 40))
    assert name == encoder
    assert {0, 7, 40} <= set(keyframes(data))
    assert max(np.diff(keyframes(data))) <= 25
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(video=0))
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(k, 25) for k in range(60)]


@pytest.mark.usefixtures("nvenc")
def test_nvenc_takes_frames_from_the_gpu_as_from_the_host() -> None:
    """The bytes that come out are not compared: libx264, in its place, does not always give the same ones."""
    taken = []
    for on_gpu in (True, False):
        StandIn.taken.clear()
        assert stream(VideoOptions("nvenc"), on_gpu=on_gpu)[0] == "nvenc"
        taken.append([*StandIn.taken])
    assert taken[0] == taken[1]
    assert len(taken[0]) > 60  # and a black one, for the parameter sets


@pytest.mark.usefixtures("nvenc")
def test_auto_takes_nvenc_where_it_works() -> None:
    assert stream(VideoOptions())[0] == "nvenc"


def test_auto_falls_back_and_says_so(nvenc: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("No capable devices found\nat NvEncoder.cpp")

    nvenc.CreateEncoder = fail
    assert stream(VideoOptions())[0] == "x264"
    assert caplog.messages == ["NVENC cannot be used: No capable devices found; encoding with libx264"]
    with pytest.raises(MachineError, match="NVENC cannot be used: No capable devices found"):
        stream(VideoOptions("nvenc"))
    assert stream(VideoOptions())[0] == "x264"
    assert len(caplog.messages) == 1  # asking takes long: it is asked once


def test_auto_tries_again_what_once_worked(nvenc: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of sessions")

    assert stream(VideoOptions())[0] == "nvenc"
    with monkeypatch.context() as patch:
        patch.setattr(nvenc, "CreateEncoder", fail)
        assert stream(VideoOptions())[0] == "x264"
    assert stream(VideoOptions())[0] == "nvenc"


def test_without_the_package_auto_is_quiet_and_nvenc_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "PyNvVideoCodec", raising=False)
    with pytest.raises(MachineError, match=r"pip install 'musetalk-edge\[nvenc\]'"):
        stream(VideoOptions("nvenc"))
    assert stream(VideoOptions())[0] == "x264"
    assert caplog.messages == []


@pytest.mark.parametrize(("constant", "low", "high"), [(True, 900, 1150), (False, 700, 1550)])
def test_a_bit_rate_is_kept(constant: bool, low: int, high: int) -> None:
    _, data = stream(VideoOptions("x264", kbps=1000, constant=constant))
    with av.open(io.BytesIO(data)) as container:
        sizes = [packet.size for packet in container.demux(video=0)]
    assert low <= sum(sizes[25:]) * 8 / 1000 / (35 / 25) <= high


def test_nvenc_gets_what_low_latency_needs() -> None:
    settings = encoder_settings(Picture(1280, 720, Fraction(24)), VideoOptions(kbps=3000, constant=True))
    assert settings["rc"] == "cbr"
    assert settings["bitrate"] == settings["maxbitrate"] == 3_000_000
    assert (settings["gop"], settings["idrperiod"], settings["bf"]) == (24, 24, 0)
    assert settings["tuning_info"] == "ultra_low_latency"
    settings = encoder_settings(Picture(1280, 720, Fraction(25)), VideoOptions())
    assert (settings["rc"], settings["bitrate"], settings["maxbitrate"]) == ("vbr", 2_304_000, 3_456_000)


def test_an_idr_slice_is_found_wherever_it_is() -> None:
    assert has_idr(b"\0\0\0\1\x67abc\0\0\1\x68x\0\0\1\x65slice")
    assert not has_idr(b"\0\0\0\1\x41slice\0\0\1")
    assert not has_idr(b"")


@pytest.mark.parametrize(
    ("values", "message"),
    [(("vp9",), "expected one of auto"), (("x264", 10), "out of range"), (("x264", None, True), "needs a bit rate")],
)
def test_options_that_make_no_sense(values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        VideoOptions(*values)


@pytest.fixture
def without_x264(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PyAV as ``scripts/appliance/pyav`` builds it, as far as it tells; the stand-in still has its own."""
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})


@pytest.mark.usefixtures("without_x264")
def test_without_libx264_it_says_that_nvenc_is_needed(nvenc: Any) -> None:
    assert stream(VideoOptions())[0] == "nvenc"
    with pytest.raises(MachineError, match="built without libx264"):
        stream(VideoOptions("x264"))
    del nvenc.CreateEncoder
    with pytest.raises(MachineError, match="NVENC cannot be used"):
        stream(VideoOptions())


@pytest.mark.usefixtures("without_x264", "nvenc")
def test_without_libx264_an_avatar_is_encoded_by_nvenc(tmp_path: Path) -> None:
    with FrameWriter(tmp_path / "frames.mp4", 320, 240, Fraction(25)) as video:
        for k in range(5):
            video.write(np.full((240, 320, 3), 40 * k, np.uint8))
    with av.open(str(tmp_path / "frames.mp4")) as container:
        assert all(packet.is_keyframe for packet in container.demux(video=0) if packet.pts is not None)
    with av.open(str(tmp_path / "frames.mp4")) as container:
        shown = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
    assert shown == pytest.approx([40 * k for k in range(5)], abs=3)
    with pytest.raises(MachineError, match="transparency is kept by libx264"):
        AlphaWriter(tmp_path / "alpha.mp4", 320, 240, Fraction(25))


@pytest.mark.usefixtures("without_x264")
def test_without_libx264_and_nvenc_no_avatar_is_made(tmp_path: Path, nvenc: Any) -> None:
    del nvenc.CreateEncoder
    with pytest.raises(MachineError, match="built without libx264, and NVENC cannot be used"):
        FrameWriter(tmp_path / "frames.mp4", 320, 240, Fraction(25))
    states = {finding.name: finding.state for finding in examine(None, print)}
    assert (states["x264"], states["nvenc"]) == (FAILURE, NOTE)


@pytest.mark.usefixtures("without_x264", "nvenc")
def test_without_libx264_a_machine_with_nvenc_is_healthy() -> None:
    states = {finding.name: finding.state for finding in examine(None, print)}
    assert (states["x264"], states["nvenc"]) == (NOTE, OK)
