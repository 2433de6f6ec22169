"""The GPU chain's own logic where there is no GPU: CUDA and TensorRT are played by the CPU.

Device memory is host memory, streams run at once, a captured graph is a list of calls; the kernels are the real ones,
compiled for the host, and the plans are run by ONNX Runtime from the addresses that the chain gave. Events are recorded
at ticks of a clock that moves by one for each. What this cannot show is anything about time, and whether CUDA and
TensorRT take the calls: see test_gpu_chain.py.
"""

import ctypes
import json
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from conftest import shots
from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.audio.speech import SpeechFrame
from musetalk_runtime.bench import bench
from musetalk_runtime.bundle import BUNDLE_KIND, BUNDLE_SCHEMA
from musetalk_runtime.errors import InvalidArgument, MachineError
from musetalk_runtime.folder import new_folder
from musetalk_runtime.gpu.avatar import GpuAvatar
from musetalk_runtime.timings import Timings
from test_gpu_kernels import host  # noqa: F401  a fixture

GPU_STAGES = {"gpu_upload", "unet", "vae_decoder", "compose", "gpu_download"}
BUILT_ON = {
    "gpu": "Simulated",
    "compute_capability": "9.0",
    "driver": "580.65.06",
    "tensorrt": "8.6.0",
    "os": f"{platform.system()} {platform.machine()}",
}
BATCHES = (1, 3)
MEL_FRAMES = (200, 3000)
EXTERNAL = 1


class Stream:
    """Runs what it is given at once, or notes it down while it is captured."""

    made = 0

    def __init__(self) -> None:
        Stream.made += 1
        self.handle = 16 + Stream.made
        self.captured: list[Callable[[], None]] | None = None
        self.is_closed = False
        Gpu.streams[self.handle] = self

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle

    @staticmethod
    def from_handle(handle: int) -> "Stream":
        return Gpu.streams.get(handle) or SimpleNamespace(handle=handle)  # type: ignore[return-value]

    def do(self, work: Callable[[], None]) -> None:
        if self.captured is None:
            work()
        else:
            self.captured.append(work)

    def create_graph_builder(self) -> "Builder":
        return Builder(self)

    def record(self, event: Any) -> Any:
        assert self.captured is None, "an event recorded while capturing is no node of the graph"
        event.record()
        return event

    def wait(self, _event: Any) -> None:
        assert self.captured is None, "a captured stream waits for what is outside the graph"

    def sync(self) -> None:
        assert self.captured is None, "a captured stream cannot be waited for"

    def close(self) -> None:
        self.is_closed = True


class Event:
    clock = 0

    def __init__(self) -> None:
        self.at: int | None = None
        self.handle = self

    def record(self) -> None:
        Event.clock += 1
        self.at = Event.clock

    def sync(self) -> None: ...

    def close(self) -> None: ...

    def __sub__(self, other: "Event") -> float:
        assert self.at is not None
        assert other.at is not None
        return float(self.at - other.at)


class Node:
    """The recording of an event, in a graph of which it is a part until that is gone."""

    def __init__(self, event: Event) -> None:
        self.event = event

    def __call__(self) -> None:
        raise AssertionError("a node runs in a graph")


class Builder:
    """A graph while it is captured, and the owner of its nodes."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.work: list[Callable[[], None]] = []
        self.closed = False

    def begin_building(self, _mode: str) -> None:
        self.stream.captured = self.work

    def end_building(self) -> "Builder":
        self.stream.captured = None
        return self

    def complete(self) -> "Executable":
        return Executable(self)

    def close(self) -> None:
        self.closed = True


class Executable:
    """A graph that can be launched; its nodes record the events that they were last told."""

    def __init__(self, source: Builder) -> None:
        self.source = source
        self.events = {call: call.event for call in source.work if isinstance(call, Node)}
        self.handle = self

    def set_event(self, node: Node, event: Event) -> tuple[int]:
        assert not self.source.closed, "the graph is gone that owns the node"
        assert node in self.events
        self.events[node] = event
        return (0,)

    def upload(self, _stream: Stream) -> None: ...

    def launch(self, _stream: Stream) -> None:
        for call in self.source.work:
            if isinstance(call, Node):
                self.events[call].record()
            else:
                call()

    def close(self) -> None: ...


class Gpu:
    """What is allocated, and the streams by handle."""

    allocated: dict[int, Any] = {}  # noqa: RUF012
    streams: dict[int, Stream] = {}  # noqa: RUF012

    @staticmethod
    def allocate(size: int) -> tuple[int, int]:
        block = np.full(size + 256, 0xA5, np.uint8)
        address = -(-block.ctypes.data // 256) * 256
        Gpu.allocated[address] = block
        return 0, address

    @staticmethod
    def record_external(event: Event, handle: int, flags: int) -> tuple[int]:
        captured = Gpu.streams[handle].captured
        assert captured is not None, "CU_EVENT_RECORD_EXTERNAL is for capturing alone"
        assert flags == EXTERNAL
        captured.append(Node(event))
        return (0,)

    @staticmethod
    def capture_info(handle: int) -> tuple[Any, ...]:
        """Status, number, graph, the nodes that the next one depends on, the data of these edges, their count."""
        captured = Gpu.streams[handle].captured
        assert captured is not None
        return 0, 1, 7, object(), captured[-1:], [None], 1

    @staticmethod
    def free(address: int) -> tuple[int]:
        del Gpu.allocated[address]
        return (0,)


class Execution:
    """A TensorRT context played by ONNX Runtime, with the names that TensorRT 8.6 has."""

    def __init__(self, engine: "Simulated") -> None:
        self.engine, self.shapes, self.addresses, self.profile = engine, {}, {}, -1

    def set_optimization_profile_async(self, profile: int, _stream: int) -> bool:
        self.profile = profile
        return 0 <= profile < engine_profiles(self.engine)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = tuple(shape)
        return self.shapes[name] == tuple(self.engine.plan["profiles"][self.profile][name])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.shapes:
            return self.shapes[name]
        zeros = {key: np.zeros(shape, np.float32) for key, shape in self.shapes.items()}
        return self.engine.session.run([name], zeros)[0].shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, handle: int) -> bool:
        assert self.device_memory in Gpu.allocated
        Gpu.streams[handle].do(self._run)
        return True

    def _run(self) -> None:
        inputs = {name: _at(self.addresses[name], shape).copy() for name, shape in self.shapes.items()}
        for output, value in zip(
            self.engine.outputs, self.engine.session.run(self.engine.outputs, inputs), strict=True
        ):
            _at(self.addresses[output], value.shape)[:] = value


class Simulated:
    """An engine with the names that TensorRT 8.6 has; its plan is JSON."""

    def __init__(self, data: Any) -> None:
        self.plan = json.loads(bytes(data))
        self.session = ort.InferenceSession(self.plan["onnx"], providers=["CPUExecutionProvider"])
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]
        self.num_io_tensors = len(self.inputs + self.outputs)
        self.num_optimization_profiles = len(self.plan["profiles"])
        self.device_memory_size = 4096

    def get_tensor_name(self, index: int) -> str:
        return (self.inputs + self.outputs)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return SimpleNamespace(name="INPUT" if name in self.inputs else "OUTPUT")

    def get_tensor_dtype(self, _name: str) -> Any:
        return SimpleNamespace(name="FLOAT")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else -1 for size in self._value(name).shape)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [tuple(self.plan["profiles"][profile][name])] * 3

    def create_execution_context_without_device_memory(self) -> Execution:
        return Execution(self)

    def _value(self, name: str) -> Any:
        return next(value for value in self.session.get_inputs() + self.session.get_outputs() if value.name == name)


def engine_profiles(engine: Simulated) -> int:
    return int(engine.num_optimization_profiles)


def _at(address: int, shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_float * size).from_address(address)).reshape(shape)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, host: ctypes.CDLL) -> Iterator[type[Gpu]]:  # noqa: F811
    """CUDA and TensorRT, simulated; at the end nothing may be left allocated."""
    success, full = SimpleNamespace(name="CUDA_SUCCESS"), SimpleNamespace(name="CUDA_ERROR_OUT_OF_MEMORY")
    wrap = lambda result: (success, *result[1:])  # noqa: E731
    driver = SimpleNamespace(
        CUresult=SimpleNamespace(CUDA_SUCCESS=success, CUDA_ERROR_OUT_OF_MEMORY=full),
        cuMemAlloc=lambda size: wrap(Gpu.allocate(size)),
        cuMemAllocHost=lambda size: wrap(Gpu.allocate(size)),
        cuMemFree=lambda address: wrap(Gpu.free(address)),
        cuMemFreeHost=lambda address: wrap(Gpu.free(address)),
        cuMemsetD8=lambda address, value, size: wrap((ctypes.memset(address, value, size) and 0,)),
        cuMemcpyHtoD=lambda to, source, size: wrap((ctypes.memmove(to, source, size) and 0,)),
        cuMemcpyAsync=lambda to, source, size, _stream: wrap((ctypes.memmove(to, source, size) and 0,)),
        cuStreamSynchronize=lambda _stream: (success,),
        cuMemGetInfo=lambda: (success, 8 << 30, 16 << 30),
        CUevent_record_flags=SimpleNamespace(CU_EVENT_RECORD_EXTERNAL=EXTERNAL),
        cuEventRecordWithFlags=lambda event, stream, flags: wrap(Gpu.record_external(event, stream, flags)),
        cuStreamGetCaptureInfo=lambda stream: wrap(Gpu.capture_info(stream)),
        cuGraphExecEventRecordNodeSetEvent=lambda graph, node, event: wrap(graph.set_event(node, event)),
    )

    def launch(stream: Stream, config: Any, kernel: str, *arguments: Any) -> None:
        items, *rest = arguments
        values = [ctypes.c_uint64(value) if isinstance(value, int) else ctypes.c_int(value) for value in rest]
        run = getattr(host, f"run_{kernel}")
        stream.do(lambda: run(ctypes.c_uint64(items), ctypes.c_uint(config.grid[1]), *values) and None)

    def device(_index: int = 0) -> Any:
        return SimpleNamespace(
            name="Simulated", compute_capability=(9, 0), set_current=lambda: None,
            create_stream=lambda stream=None: stream or Stream(), create_event=lambda _options: Event(),
        )  # fmt: skip

    core = SimpleNamespace(
        Device=device, Stream=Stream, EventOptions=lambda **options: options, launch=launch,
        LaunchConfig=lambda grid, block: SimpleNamespace(grid=grid, block=block),
        ObjectCode=SimpleNamespace(from_cubin=lambda _: SimpleNamespace(get_kernel=lambda name: name)),
        system=SimpleNamespace(get_kernel_mode_driver_version=lambda: (580, 65, 6)),
    )  # fmt: skip
    trt = SimpleNamespace(
        __version__="8.6.0",
        ILogger=type("ILogger", (), {}),
        Runtime=lambda _logger: SimpleNamespace(deserialize_cuda_engine=Simulated),
    )
    for name, content in {"cuda.core": core, "cuda.bindings": SimpleNamespace(driver=driver), "tensorrt": trt}.items():
        module = ModuleType(name)
        module.__dict__.update(content.__dict__)
        monkeypatch.setitem(sys.modules, name, module)
    before = dict(Gpu.allocated)
    yield Gpu
    assert before == Gpu.allocated


@pytest.fixture
def simulated(gpu: type[Gpu], modelset: Path, bundle: Path, tmp_path: Path) -> Iterator[Bundle]:
    """A TensorRT bundle whose plans name the model set's graphs."""
    assert not gpu.allocated
    with Bundle.open(bundle) as opened:
        manifest, spec = opened.manifest, opened.spec
    size, width = spec.latent_size, spec.latent_channels
    profiles = {
        "unet": [
            {"latents": (n, 2 * width, size, size), "tokens": (n, spec.tokens, spec.audio_width)} for n in BATCHES
        ],
        "vae_decoder": [{"latents": (n, width, size, size)} for n in BATCHES],
        "vae_encoder": [{"images": (n, 3, spec.image_size, spec.image_size)} for n in (2, 8)],
        "audio_encoder": [{"mel": (1, spec.mel_bins, frames)} for frames in MEL_FRAMES],
    }
    with new_folder(tmp_path / "simulated", BUNDLE_KIND, BUNDLE_SCHEMA) as (folder, written):
        for graph, shapes in profiles.items():
            text = json.dumps({"onnx": str(modelset / f"{graph}.onnx"), "profiles": shapes})
            (folder / f"{graph}.plan").write_text(text)
        (folder / "compose.cubin").write_bytes(b"cubin")
        engines = {graph: {"file": f"{graph}.plan", "profiles": shapes} for graph, shapes in profiles.items()}
        written.update(
            backend="tensorrt", model=manifest["model"], engines=engines, built_on=BUILT_ON,
            batch_ms={str(n): 5.0 for n in BATCHES}, live_context_seconds=2.0,
        )  # fmt: skip
    with Bundle.open(tmp_path / "simulated") as opened:
        yield opened


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_a_session_gives_the_cpu_chains_frames(
    simulated: Bundle, bundle: Path, avatar: Path, speech: Callable[[float], Path], cuda_graph: bool
) -> None:
    from musetalk_runtime.gpu.renderer import GpuOptions

    simulated.engines.check()
    simulated.engines.options = GpuOptions(cuda_graph=cuda_graph)
    with Bundle.open(bundle) as cpu, Avatar.open(avatar) as face:
        with Session(cpu, face, speech(1.0), fps=25) as session:
            expected = [frame.nv12 for frame in session.frames()]
        for _ in range(2):  # the second time with what the first one left
            with Session(simulated, face, speech(1.0), fps=25) as session:
                found = [frame.nv12 for frame in session.frames()]
                report = session.report()
                assert GPU_STAGES | {"enqueue", "wait"} <= report["stages"].keys() & report["first_ms"].keys()
            assert len(found) == len(expected) == 25
            assert max(np.abs(a.astype(int) - b).max() for a, b in zip(found, expected, strict=True)) <= 1


def test_encoders_pad_and_split_batches(simulated: Bundle, bundle: Path) -> None:
    spec = simulated.spec
    images = np.random.default_rng(0).random((11, 3, spec.image_size, spec.image_size), np.float32)
    mel = np.random.default_rng(1).random((spec.mel_bins, 200), np.float32)
    with Bundle.open(bundle) as cpu:
        for count in (1, 2, 5, 11):
            found, expected = (b.engines.encode_images(images[:count]) for b in (simulated, cpu))
            assert np.abs(found - expected).max() < 1e-4
        found, expected = (b.engines.encode_audio(mel) for b in (simulated, cpu))
        assert np.abs(found - expected).max() < 1e-3
    with pytest.raises(InvalidArgument, match=r"202 mel frames.* 200 or 3000"):
        simulated.engines.encode_audio(np.zeros((spec.mel_bins, 202), np.float32))


def test_silent_frames_are_the_avatars_and_need_no_plan(simulated: Bundle, avatar: Path) -> None:
    with Avatar.open(avatar) as face:
        renderer = simulated.engines.renderer(face, Timings())
        found = renderer.render(shots(face, [speech_frame(simulated, k, 0.0) for k in range(3)])).wait()
        assert all(np.array_equal(frame, face.frame(k)) for k, frame in enumerate(found))
        renderer.close()


def test_the_ring_bounds_what_is_on_its_way(simulated: Bundle, avatar: Path) -> None:
    with Avatar.open(avatar) as face:
        renderer = simulated.engines.renderer(face, Timings())
        renderings = [renderer.render(shots(face, [speech_frame(simulated, k)])) for k in range(4)]
        later: list[Any] = []
        thread = threading.Thread(
            target=lambda: later.append(renderer.render(shots(face, [speech_frame(simulated, 4)])))
        )
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        first = renderings[0].wait()
        thread.join(60)
        assert len(later) == 1
        assert np.array_equal(renderings[0].wait()[0], first[0])  # its own copy
        renderings[1].release()
        with pytest.raises(RuntimeError, match="released"):
            renderings[1].wait()
        renderer.close()
        renderer.close()
        with pytest.raises(RuntimeError, match="closed"):
            renderings[2].wait()
        with pytest.raises(RuntimeError, match="closed"):
            renderer.render(shots(face, [speech_frame(simulated, 0)]))


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_each_batch_has_its_own_times(simulated: Bundle, avatar: Path, cuda_graph: bool) -> None:
    """Though four of one graph are on their way before the first is asked for its times."""
    from musetalk_runtime.gpu.renderer import GpuOptions
    from musetalk_runtime.gpu.times import BatchTimes

    heard: list[BatchTimes] = []
    simulated.engines.options = GpuOptions(cuda_graph=cuda_graph, timeline=heard.append)
    timings = Timings()
    with Avatar.open(avatar) as face:
        renderer = simulated.engines.renderer(face, timings)
        weights = [(1.0,), (1.0, 0.0, 1.0), (0.0, 0.0), (1.0,)]
        batches = [[speech_frame(simulated, k, weight) for k, weight in enumerate(batch)] for batch in weights]
        for rendering in [renderer.render(shots(face, batch)) for batch in batches]:
            rendering.wait()
        renderer.close()
    assert [(times.frames, times.faces) for times in heard] == [(1, 1), (3, 2), (2, 0), (1, 1)]
    ends = 0.0
    for times in heard:
        parts = list(times.parts.values())
        assert list(times.parts) == (["unet", "vae_decoder", "compose"] if times.faces else ["compose"])
        assert times.upload[0] > ends  # the events of a batch come after those of the batch before
        in_order = [*times.upload, *(at for part in parts for at in part), *times.download]
        assert in_order == sorted(in_order)
        assert times.compute == (parts[0][0], parts[-1][1])
        assert all(end - begin == 1 for begin, end in (times.upload, *parts, times.download))
        ends = times.download[1]
    stages = timings.to_json()
    assert set(stages) == GPU_STAGES | {"enqueue", "wait"}
    assert stages["unet"]["p50_ms"] == 0.75  # of 1, 1/2, 1/2 and 1: frames without a face do not count
    assert stages["compose"]["p99_ms"] == 1
    assert {timings.first_ms[stage] for stage in GPU_STAGES} == {1.0}


def test_bench_tells_the_gpus_part(simulated: Bundle, avatar: Path) -> None:
    with Avatar.open(avatar) as face:
        figures = bench(simulated, face, 1.0, "25")
    assert figures["gpu_memory_mb"] == round((8 << 30) / 1e6, 1)
    assert figures["stages"].keys() & figures["warm_sessions"]["first_ms"].keys() >= GPU_STAGES
    assert figures["paced"]["frames"] == 25


def test_frames_stay_on_the_gpu_for_an_application(simulated: Bundle, avatar: Path) -> None:
    from musetalk_runtime.gpu.renderer import GpuOptions

    stream = Stream()
    for given in (stream, stream.handle):
        simulated.engines.options = GpuOptions(stream=given, download=False)
        with Avatar.open(avatar) as face:
            renderer = simulated.engines.renderer(face, Timings())
            rendering = renderer.render(shots(face, [speech_frame(simulated, k) for k in range(2)]))
            described = [frame.__cuda_array_interface__ for frame in rendering.arrays()]
            assert {entry["stream"] for entry in described} == {stream.handle}
            assert described[0]["shape"] == (face.height * 3 // 2, face.width)
            read = [ctypes.string_at(entry["data"][0], int(np.prod(entry["shape"]))) for entry in described]
            assert read == [frame.tobytes() for frame in rendering.wait()]
            renderer.close()
    simulated.engines.options = GpuOptions(stream="stream")
    with Avatar.open(avatar) as face, pytest.raises(InvalidArgument, match="is no CUDA stream"):
        simulated.engines.renderer(face, Timings())


def test_a_session_leaves_its_frames_on_the_gpu(
    simulated: Bundle, avatar: Path, speech: Callable[[float], Path]
) -> None:
    stream = Stream()
    with Avatar.open(avatar) as face, Bundle.open(simulated.path, stream=stream, download=False) as left:
        with Session(simulated, face, speech(1.0), fps=25) as session:
            expected = [
                (frame.index, frame.pts, frame.nv12.tobytes(), len(frame.sound[0])) for frame in session.frames()
            ]
        with Session(left, face, speech(1.0), fps=25) as session:
            found = []
            for frame in session.gpu_frames():
                described = frame.nv12.__cuda_array_interface__
                assert described["stream"] == stream.handle
                read = ctypes.string_at(described["data"][0], int(np.prod(frame.nv12.shape)))
                found.append((frame.index, frame.pts, read, len(frame.sound[0])))
            assert session.frames_made == 25
        assert found == expected
        with Session(left, face, speech(1.0), fps=25) as session:  # a stream brings them to the host after all
            assert len(b"".join(session.stream())) > 10_000


def test_a_cpus_frames_are_not_on_a_gpu(bundle: Path, avatar: Path, speech: Callable[[float], Path]) -> None:
    with Bundle.open(bundle) as cpu, Avatar.open(avatar) as face, Session(cpu, face, speech(1.0), fps=25) as session:
        frames = session.gpu_frames()
        with pytest.raises(MachineError, match="need a bundle for one"):
            next(frames)


def test_an_avatar_that_does_not_fit_is_refused(
    simulated: Bundle, avatar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("musetalk_runtime.gpu.avatar.free_memory", lambda: (100_000_000, 1 << 34))
    with Avatar.open(avatar) as face, pytest.raises(MachineError, match=r"12 frames of 320x240 need .* MB on the GPU"):
        simulated.engines.renderer(face, Timings())


def test_a_session_may_end_while_frames_of_another_are_made(
    simulated: Bundle, avatar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaves: list[bool] = []

    def avatar_of(lent: GpuAvatar) -> Avatar:
        found: Avatar = vars(lent)["avatar"]
        if found is first and leaves:
            leaves.clear()
            renderer.release(first)  # as another thread does, just when this one looks
        return found

    looked_at = property(avatar_of, lambda lent, given: vars(lent).update(avatar=given))
    monkeypatch.setattr(GpuAvatar, "avatar", looked_at, raising=False)
    with Avatar.open(avatar) as first, Avatar.open(avatar) as second:
        renderer = simulated.engines.renderer(first, Timings())
        renderer.hold(second)
        leaves.append(True)
        found = renderer.render(shots(second, [speech_frame(simulated, 0, 0.0)])).wait()
        assert not leaves
        assert np.array_equal(found[0], second.frame(0))
        renderer.close()


def speech_frame(bundle: Bundle, index: int, weight: float = 1.0) -> SpeechFrame:
    tokens = np.random.default_rng(index).normal(size=(bundle.spec.tokens, bundle.spec.audio_width))
    return SpeechFrame(index, tokens.astype(np.float32), weight, np.zeros((1, 0), np.float32))
