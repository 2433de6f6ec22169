"""The chain on a real GPU.

MUSETALK_EDGE_GPU_BUNDLE names a TensorRT bundle built on this machine; without one, only the kernels are tested.
MUSETALK_EDGE_CPU_BUNDLE names an ONNX Runtime bundle of the same model set, to compare with (needs onnxruntime);
MUSETALK_EDGE_CPU_STEP, by default 25, takes every that many-th frame, since the CPU may need seconds for one.
Figures are printed: run with -s.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.dlpack import dl_tensor
from helpers.frame_requests import shots
from helpers.kernels import SIZE, Case, cases, check, make_items
from helpers.media import voice, write_wav
from helpers.paths import ROOT
from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.audio.decode.file import AudioFile
from musetalk_runtime.audio.speech import SpeechFrame, SpeechFrames
from musetalk_runtime.avatar.base_layer import packed_bytes
from musetalk_runtime.backends.cuda.device import free_memory, open_device
from musetalk_runtime.backends.cuda.device_frame import DeviceFrame
from musetalk_runtime.backends.cuda.driver_calls import copy
from musetalk_runtime.backends.cuda.frame_memory import FrameMemory
from musetalk_runtime.backends.cuda.item import ITEM
from musetalk_runtime.backends.cuda.kernels import COMPOSE_CUBIN, COMPOSE_SOURCE, Kernels, matched_bytes
from musetalk_runtime.backends.cuda.memory import DeviceMemory, PinnedMemory
from musetalk_runtime.backends.cuda.stream import application_stream
from musetalk_runtime.backends.cuda.times import BatchTimes
from musetalk_runtime.backends.trt.gpu_facts import gpu_facts
from musetalk_runtime.backends.trt.renderer import GpuOptions
from musetalk_runtime.core.errors import InvalidArgument, MachineError
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.diagnostics.synthetic import FACE_BOX, write_face_video
from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar

pytestmark = pytest.mark.gpu

FPS = Fraction(25)
SECONDS = 10.0


@pytest.fixture(scope="module")
def device() -> Any:
    try:
        return open_device()
    except MachineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def kernels(device: Any, tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    """Compiled anew where there is a compiler, else those of the bundle."""
    from musetalk_engines.kernel import compile_kernel

    cubin = tmp_path_factory.mktemp("kernels") / COMPOSE_CUBIN
    try:
        compile_kernel(COMPOSE_SOURCE, gpu_facts().arch, cubin)
    except MachineError as error:
        if "MUSETALK_EDGE_GPU_BUNDLE" not in os.environ:
            pytest.skip(str(error))
        cubin = Path(os.environ["MUSETALK_EDGE_GPU_BUNDLE"]) / COMPOSE_CUBIN
    device.set_current()
    return Kernels(cubin)


@pytest.fixture(scope="module")
def gpu_bundle(device: Any) -> Iterator[Bundle]:
    assert device
    if "MUSETALK_EDGE_GPU_BUNDLE" not in os.environ:
        pytest.skip("MUSETALK_EDGE_GPU_BUNDLE names no bundle built on this machine")
    with Bundle.open(os.environ["MUSETALK_EDGE_GPU_BUNDLE"]) as bundle:
        yield bundle


@pytest.fixture(autouse=True)
def _default_options(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "gpu_bundle" in request.fixturenames:
        request.getfixturevalue("gpu_bundle").engines.options = GpuOptions()


@pytest.fixture(scope="module")
def face(gpu_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Avatar]:
    """A drawn face of 25 frames, prepared by the bundle's own encoder."""
    folder = tmp_path_factory.mktemp("face")
    write_face_video(folder / "face.mp4", 25)
    prepare_avatar(folder / "face.mp4", gpu_bundle, folder / "avatar", PrepareOptions(face_box=FACE_BOX))
    with Avatar.open(folder / "avatar") as avatar:
        yield avatar


@pytest.fixture(scope="module")
def speech_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("voice") / "voice.wav"
    write_wav(file, voice(SECONDS))
    return file


def spoken(bundle: Bundle, file: Path) -> list[SpeechFrame]:
    encode = bundle.engines.encode_audio
    return list(SpeechFrames(AudioFile(file), encode, bundle.spec, FPS, bundle.live_context))


def render(bundle: Bundle, face: Avatar, frames: list[SpeechFrame], batch: int) -> list[np.ndarray]:
    renderer = bundle.engines.renderer(face, Timings())
    found: list[np.ndarray] = []
    try:
        for start in range(0, len(frames), batch):
            found += renderer.render(shots(face, frames[start : start + batch])).wait()
    finally:
        renderer.close()
    return found


def psnr(found: np.ndarray, expected: np.ndarray) -> float:
    error = np.mean((found.astype(float) - expected) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


class OnGpu:
    """The cases of the kernel tests in device memory: frames, masks, faces, items, and outputs unless at `output`."""

    def __init__(self, device: Any, batch: list[Case], dtype: Any, output: int | None = None) -> None:
        self.device, self.stream = device, device.create_stream()
        faces = [np.zeros((3, SIZE, SIZE), dtype) if case.face is None else case.face for case in batch]
        parts = {"frame": [case.frame for case in batch], "mask": [case.mask for case in batch], "face": faces}
        self.shape = (len(batch), *batch[0].frame.shape)
        self.memories = {name: self._put(np.stack(arrays)) for name, arrays in parts.items()}
        nothing = np.zeros(packed_bytes(SIZE), np.uint8)
        bases = np.stack([nothing if case.base is None else case.base.packed() for case in batch])
        self.memories["base"] = self._put(bases)
        self.memories["matched"] = DeviceMemory(device, matched_bytes(SIZE) * len(batch))
        self.memories["output"] = DeviceMemory(device, int(np.prod(self.shape)))
        steps = {"frame": batch[0].frame.nbytes, "output": batch[0].frame.nbytes, "mask": batch[0].mask.nbytes}
        steps["base"] = bases[0].nbytes
        addresses = {name: self.memories[name].address for name in steps}
        if output is not None:
            addresses["output"] = output
        items = make_items(batch, lambda name, i: addresses[name] + i * steps[name])
        self.memories["items"] = self._put(items)

    def _put(self, array: np.ndarray) -> DeviceMemory:
        memory = DeviceMemory(self.device, array.nbytes)
        copy(memory.address, array.ctypes.data, array.nbytes, self.stream)
        self.stream.sync()
        return memory

    def compose(self, kernels: Kernels, dtype: Any, stream: Any = None) -> None:
        items, faces, matched = (self.memories[name].address for name in ("items", "face", "matched"))
        size = self.shape[2], self.shape[1] * 2 // 3
        kernels.match(stream or self.stream, items, self.shape[0], faces, matched, SIZE, dtype)
        kernels.compose(stream or self.stream, items, self.shape[0], matched, SIZE, size)

    def output(self) -> np.ndarray:
        found = np.empty(self.shape, np.uint8)
        self.device.sync()
        copy(found.ctypes.data, self.memories["output"].address, found.nbytes, self.stream)
        self.stream.sync()
        return found

    def close(self) -> None:
        for memory in self.memories.values():
            memory.close()


def test_facts(device: Any) -> None:
    facts = gpu_facts()
    print(facts)
    assert facts.name == device.name
    assert facts.memory_mb > 1000


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(("width", "height"), [(160, 120), (202, 94), (1280, 720)])
def test_compose_is_the_cpu_compositor_within_a_level(
    device: Any, kernels: Kernels, width: int, height: int, dtype: Any
) -> None:
    batch = list(cases(width, height, dtype))
    on_gpu = OnGpu(device, batch, dtype)
    on_gpu.compose(kernels, dtype)
    found = on_gpu.output()
    on_gpu.close()
    check(batch, found)
    print(f"{width}x{height}: {np.mean([f != c.expected() for f, c in zip(found, batch, strict=True)]):.2e} differ")


def test_compose_into_mapped_memory(device: Any, kernels: Kernels) -> None:
    batch = list(cases(202, 94, np.float16))
    found = []
    for mapped in (False, True):
        frames = FrameMemory(device, len(batch), (202, 94), mapped)
        on_gpu = OnGpu(device, batch, np.float16, frames.address)
        on_gpu.compose(kernels, np.float16)
        if not mapped:
            frames.download(len(batch), on_gpu.stream)
        on_gpu.stream.sync()
        found.append(frames.host.copy())
        on_gpu.close()
        frames.close()
    check(batch, found[0])
    assert np.array_equal(found[0], found[1])


def test_gather_takes_the_rows_in_the_order_of_the_faces(device: Any, kernels: Kernels) -> None:
    random = np.random.default_rng(1)
    sources, stream = random.normal(size=(3, 640)).astype(np.float16), device.create_stream()
    items = np.zeros(3, ITEM)
    with_memory = [DeviceMemory(device, size) for size in (sources.nbytes, items.nbytes, 2 * 512 * 4, 2 * 128 * 4)]
    source, item, latents, tokens = (memory.address for memory in with_memory)
    rows = [source + k * sources[0].nbytes for k in range(3)]
    items["face"], items["output"], items["latents"] = [1, -1, 0], 1, rows
    items["tokens"] = [row + 512 * 2 for row in rows]
    for address, array in ((source, sources), (item, items)):
        copy(address, array.ctypes.data, array.nbytes, stream)
    kernels.gather(stream, item, 3, latents, tokens, (512, 128), np.float16)
    found = np.empty((2, 512), np.float16), np.empty((2, 128), np.float16)
    for array, address in zip(found, (latents, tokens), strict=True):
        copy(array.ctypes.data, address, array.nbytes, stream)
    stream.sync()
    for memory in with_memory:
        memory.close()
    assert np.array_equal(found[0], sources[[2, 0], :512])
    assert np.array_equal(found[1], sources[[2, 0], 512:])


def test_memory_is_given_back(device: Any) -> None:
    before, _ = free_memory()
    blocks = [DeviceMemory(device, 512 << 20), PinnedMemory(device, 1 << 20)]
    assert free_memory()[0] <= before - (512 << 20)
    for block in (*blocks, *blocks):
        block.close()
    assert free_memory()[0] >= before - (8 << 20)
    with pytest.raises(MachineError, match="out of memory"):
        DeviceMemory(device, 1 << 44)


@pytest.mark.parametrize("library", ["torch", "cupy", "pycuda"])
def test_an_applications_stream_and_arrays(device: Any, kernels: Kernels, library: str) -> None:
    pytest.importorskip(library)
    batch = list(cases(160, 120, np.float16))[:4]
    on_gpu = OnGpu(device, batch, np.float16)
    mine, read = {"torch": _torch, "cupy": _cupy, "pycuda": _pycuda}[library]()
    stream = application_stream(mine)
    on_gpu.compose(kernels, np.float16, stream)
    finished = stream.record()
    output, step = on_gpu.memories["output"].address, batch[0].frame.nbytes
    frames = [DeviceFrame(output + i * step, batch[0].frame.shape, finished, stream) for i in range(4)]
    check(batch, np.stack([read(frame) for frame in frames]))
    on_gpu.close()


def test_dlpack_says_the_strides(device: Any) -> None:
    """PyNvVideoCodec reads them without a look whether they are there, as they need not be."""
    memory, stream = DeviceMemory(device, 360 * 320), device.create_stream()
    capsule = DeviceFrame(memory.address, (360, 320), stream.record(), stream).__dlpack__(stream=int(stream.handle))
    tensor = dl_tensor(capsule)
    assert tensor.strides
    assert (tensor.shape[0], tensor.shape[1], tensor.strides[0], tensor.strides[1]) == (360, 320, 320, 1)
    memory.close()


def _torch() -> tuple[Any, Any]:
    import torch

    def read(frame: DeviceFrame) -> np.ndarray:
        assert frame.__dlpack_device__()[0] == 2  # kDLCUDA
        by_interface, by_dlpack = torch.as_tensor(frame, device="cuda"), torch.from_dlpack(frame)
        assert by_interface.data_ptr() == by_dlpack.data_ptr()
        torch.cuda.synchronize()
        assert torch.equal(by_interface, by_dlpack)
        return by_dlpack.cpu().numpy()

    return _as_given(torch.cuda.Stream(), "cuda_stream"), read


def _cupy() -> tuple[Any, Any]:
    import cupy

    stream = cupy.cuda.Stream(non_blocking=True)

    def read(frame: DeviceFrame) -> np.ndarray:
        stream.synchronize()
        by_interface, by_dlpack = cupy.asarray(frame), cupy.from_dlpack(frame)
        assert by_interface.data.ptr == by_dlpack.data.ptr
        return cupy.asnumpy(by_dlpack)

    return _as_given(stream, "ptr"), read


def _pycuda() -> tuple[Any, Any]:
    import pycuda.autoprimaryctx  # noqa: F401  the primary context
    import pycuda.driver as cuda

    stream = cuda.Stream()

    def read(frame: DeviceFrame) -> np.ndarray:
        host = np.empty(frame.shape, np.uint8)
        cuda.memcpy_dtoh_async(host, frame.__cuda_array_interface__["data"][0], stream)
        stream.synchronize()
        return host

    return stream.handle, read


def _as_given(stream: Any, handle: str) -> Any:
    """The stream itself where its library is new enough, else its handle."""
    return stream if hasattr(stream, "__cuda_stream__") else getattr(stream, handle)


def test_a_session_of_10_seconds(gpu_bundle: Bundle, face: Avatar, speech_file: Path) -> None:
    with Session(gpu_bundle, face, speech_file, fps=25) as session:
        frames = list(session.frames())
        report = session.report()
    print({name: report[name] for name in ("fps", "elapsed_seconds", "stages", "peak_memory_mb")})
    assert len(frames) == 250
    silent = [speech.index for speech in spoken(gpu_bundle, speech_file) if speech.weight == 0]
    shown = [face.frame(face.index_at(k, FPS)) for k in range(250)]
    assert all(np.array_equal(frames[k].nv12, shown[k]) for k in silent)
    changed = sum(not np.array_equal(frame.nv12, shown[k]) for k, frame in enumerate(frames))
    assert 0.9 * (250 - len(silent)) <= changed <= 250 - len(silent)


def test_frames_are_the_cpu_chains(gpu_bundle: Bundle, face: Avatar, speech_file: Path) -> None:
    pytest.importorskip("onnxruntime")
    if "MUSETALK_EDGE_CPU_BUNDLE" not in os.environ:
        pytest.skip("MUSETALK_EDGE_CPU_BUNDLE names no ONNX Runtime bundle of the same model set")
    step = int(os.environ.get("MUSETALK_EDGE_CPU_STEP", "25"))
    found = render(gpu_bundle, face, spoken(gpu_bundle, speech_file), gpu_bundle.batch_sizes[-1])
    with Bundle.open(os.environ["MUSETALK_EDGE_CPU_BUNDLE"]) as cpu:
        speech = spoken(cpu, speech_file)[::step]
        expected = render(cpu, face, speech, 1)
    x0, y0, x1, y1 = FACE_BOX
    whole = [psnr(found[s.index], frame) for s, frame in zip(speech, expected, strict=True)]
    boxes = [psnr(found[s.index][y0:y1, x0:x1], f[y0:y1, x0:x1]) for s, f in zip(speech, expected, strict=True)]
    print(f"PSNR to the CPU chain over {len(whole)} frames: frame >= {min(whole):.1f} dB, face >= {min(boxes):.1f} dB")
    assert min(whole) >= 40


def test_graphs_and_batches_change_nothing_that_shows(gpu_bundle: Bundle, face: Avatar, speech_file: Path) -> None:
    speech = [frame for frame in spoken(gpu_bundle, speech_file) if frame.weight == 1][:24]
    largest = gpu_bundle.batch_sizes[-1]
    expected = render(gpu_bundle, face, speech, largest)
    gpu_bundle.engines.options = GpuOptions(cuda_graph=False)
    plain = render(gpu_bundle, face, speech, largest)
    worst = max(np.abs(a.astype(int) - b).max() for a, b in zip(plain, expected, strict=True))
    print(f"with and without a graph: {worst} levels")
    assert min(psnr(a, b) for a, b in zip(plain, expected, strict=True)) >= 50
    gpu_bundle.engines.options = GpuOptions()
    for batch in {1, max(1, largest - 1)}:  # the second one is padded
        single = render(gpu_bundle, face, speech, batch)
        worst = min(psnr(a, b) for a, b in zip(single, expected, strict=True))
        print(f"batches of {batch} and {largest}: {worst:.1f} dB")
        assert worst >= 40


@pytest.mark.parametrize("library", ["torch", "cupy", "pycuda"])
def test_a_session_hands_its_frames_to_an_application(
    gpu_bundle: Bundle, face: Avatar, speech_file: Path, library: str
) -> None:
    pytest.importorskip(library)
    mine, read = {"torch": _torch, "cupy": _cupy, "pycuda": _pycuda}[library]()
    with Session(gpu_bundle, face, speech_file, fps=25) as session:
        expected = [frame.nv12 for frame in islice(session.frames(), 50)]
    bundle = Bundle.open(gpu_bundle.path, stream=mine, download=False)
    with bundle, Session(bundle, face, speech_file, fps=25) as session:
        found = [read(frame.nv12) for frame in islice(session.gpu_frames(), 50)]
    assert min(psnr(a, b) for a, b in zip(found, expected, strict=True)) >= 50


def test_an_applications_stream_and_frames_left_on_the_gpu(gpu_bundle: Bundle, face: Avatar, device: Any) -> None:
    speech = [silent_tokens(gpu_bundle, k) for k in range(gpu_bundle.batch_sizes[-1])]
    expected = render(gpu_bundle, face, speech, len(speech))
    mine = device.create_stream()
    for stream in (mine, int(mine.handle)):
        gpu_bundle.engines.options = GpuOptions(stream=stream, download=False)
        renderer = gpu_bundle.engines.renderer(face, Timings())
        for _ in range(6):  # more than there are slots
            rendering = renderer.render(shots(face, speech))
            for frame, wanted in zip(rendering.arrays(), expected, strict=True):
                host = np.empty(frame.shape, np.uint8)
                copy(host.ctypes.data, frame.__cuda_array_interface__["data"][0], host.nbytes, mine)
                mine.sync()
                assert psnr(host, wanted) >= 50
            rendering.release(mine)
        renderer.close()
    gpu_bundle.engines.options = GpuOptions(stream=1)
    with pytest.raises(InvalidArgument, match="default stream"):
        gpu_bundle.engines.renderer(face, Timings())


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_each_batch_has_its_own_times(gpu_bundle: Bundle, face: Avatar, cuda_graph: bool) -> None:
    speech = [silent_tokens(gpu_bundle, k) for k in range(gpu_bundle.batch_sizes[-1])]
    heard: list[BatchTimes] = []
    gpu_bundle.engines.options = GpuOptions(cuda_graph=cuda_graph, timeline=heard.append, frames="copied")
    timings = Timings()
    renderer = gpu_bundle.engines.renderer(face, timings)
    for _ in range(3):  # four launches of one graph on their way, and each slot used again
        for rendering in [renderer.render(shots(face, speech)) for _ in range(4)]:
            rendering.wait()
    renderer.close()
    before = 0.0
    for times in heard:
        assert times.download is not None
        unet, decoder, compose = times.parts.values()
        assert before <= times.compute[0] == unet[0] < unet[1] == decoder[0] < decoder[1] == compose[0]
        assert compose[0] < compose[1] == times.compute[1] <= times.download[0] < times.download[1]
        assert times.upload[0] < times.upload[1] <= times.compute[0]
        before = times.compute[1]
    print(f"cuda_graph={cuda_graph}, batches of {len(speech)}, ms a frame: {timings.to_json()}")
    print(f"first ms: {timings.first_ms}")


@pytest.mark.parametrize("download", [True, False])
def test_mapped_frames_are_the_copied_ones(gpu_bundle: Bundle, face: Avatar, device: Any, download: bool) -> None:
    speech = [silent_tokens(gpu_bundle, k) for k in range(gpu_bundle.batch_sizes[-1])]
    heard: list[BatchTimes] = []
    mine = device.create_stream()
    gpu_bundle.engines.options = GpuOptions(frames="copied")
    expected = render(gpu_bundle, face, speech, len(speech))
    gpu_bundle.engines.options = GpuOptions(stream=mine, download=download, timeline=heard.append, frames="mapped")
    renderer = gpu_bundle.engines.renderer(face, Timings())
    for _ in range(3):  # four on their way, and each slot used again
        for rendering in [renderer.render(shots(face, speech)) for _ in range(4)]:
            assert np.array_equal(rendering.wait(), expected)
    for _ in range(6):  # more than there are slots
        rendering = renderer.render(shots(face, speech))
        for frame, wanted in zip(rendering.arrays(), expected, strict=True):
            host = np.empty(frame.shape, np.uint8)
            copy(host.ctypes.data, frame.__cuda_array_interface__["data"][0], host.nbytes, mine)
            mine.sync()
            assert np.array_equal(host, wanted)
            assert frame.__dlpack_device__()[0] == 3  # kDLCUDAHost
        rendering.release(mine)
    renderer.close()
    assert len(heard) == 12
    assert all(times.download is None for times in heard)
    gpu_bundle.engines.options = GpuOptions(frames="copied")
    assert np.array_equal(render(gpu_bundle, face, speech, len(speech)), expected)


def test_sessions_side_by_side(gpu_bundle: Bundle, face: Avatar, speech_file: Path) -> None:
    with Session(gpu_bundle, face, speech_file, fps=25) as one, Session(gpu_bundle, face, speech_file, fps=25) as two:
        for _, (a, b) in zip(range(50), zip(one.frames(), two.frames(), strict=True), strict=False):
            assert psnr(a.nv12, b.nv12) >= 40


def test_closing_gives_the_memory_back(device: Any, face: Avatar, speech_file: Path) -> None:
    used: list[int] = []
    for _ in range(3):
        with Bundle.open(os.environ["MUSETALK_EDGE_GPU_BUNDLE"]) as bundle:
            before, _ = free_memory()
            with Session(bundle, face, speech_file, fps=25) as session:
                next(session.frames())
                held = before - free_memory()[0]
        device.sync()
        used.append(before - free_memory()[0])
    print(f"held {held / 1e6:.0f} MB while open, {[round(size / 1e6) for size in used]} MB after closing")
    assert held > 0
    assert used[-1] <= 64 << 20
    assert held <= 3 << 30


def silent_tokens(bundle: Bundle, index: int) -> SpeechFrame:
    tokens = np.zeros((bundle.spec.tokens, bundle.spec.audio_width), np.float32)
    return SpeechFrame(index, tokens, 1.0, np.zeros((1, 0), np.float32))


def test_the_example_that_owns_the_loop_and_a_stream_gets_the_same_frames(
    gpu_bundle: Bundle, face: Avatar, tmp_path: Path
) -> None:
    write_wav(tmp_path / "voice.wav", voice(2.0))
    out = tmp_path / "frames.nv12"
    command = [sys.executable, ROOT / "examples" / "own_loop.py", gpu_bundle.path, face.path, tmp_path / "voice.wav"]
    done = subprocess.run([*command, "-o", out, "--cuda", "--fast"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = np.fromfile(out, np.uint8).reshape(50, face.height * 3 // 2, face.width)
    with Session(gpu_bundle, face, tmp_path / "voice.wav", fps=25) as session:
        for number, frame in enumerate(session.frames()):
            assert np.array_equal(shown[number], frame.nv12)
    assert number == 49
