"""The GPU chain's own logic where there is no GPU: CUDA and TensorRT are played by the CPU.

Device memory is host memory, streams run at once, a captured graph is a list of calls; the kernels are the real ones,
compiled for the host, and the plans are run by ONNX Runtime from the addresses that the chain gave. Events are recorded
at ticks of a clock that moves by one for each. What this cannot show is anything about time, and whether CUDA and
TensorRT take the calls: see tests/gpu/test_chain.py.
"""

import ctypes
import json
import platform
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import numpy as np
import onnxruntime as ort
import pytest

from musetalk_runtime import Bundle
from musetalk_runtime.backends.cuda import driver_calls
from musetalk_runtime.backends.cuda.kernels import COMPOSE_CUBIN
from musetalk_runtime.bundle import BUNDLE_KIND, BUNDLE_SCHEMA
from musetalk_runtime.storage.folder import new_folder

BUILT_ON = {
    "gpu": "Simulated",
    "compute_capability": "9.0",
    "driver": "580.65.06",
    "tensorrt": "8.6.0",
    "os": f"{platform.system()} {platform.machine()}",
}


BATCHES = (1, 3)
MEL_FRAMES = (200, 3000)
EXTERNAL = 1  # CU_EVENT_RECORD_EXTERNAL
INTEGRATED = 18  # CU_DEVICE_ATTRIBUTE_INTEGRATED
DEVICEMAP = 2  # CU_MEMHOSTALLOC_DEVICEMAP
CONTEXT = 77
INVALID_CONTEXT = 201  # CUDA_ERROR_INVALID_CONTEXT


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

    def record(self, event: Any) -> Any:
        Gpu.record(event.handle, self.handle)
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
        self.handle = Gpu.handle(self)

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
        self.handle = Gpu.handle(self)

    def __call__(self) -> None:
        raise AssertionError("a node runs in a graph")

    def __int__(self) -> int:
        return self.handle


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
        self.handle = Gpu.handle(self)

    def set_event(self, node: Node, event: Event) -> None:
        assert not self.source.closed, "the graph is gone that owns the node"
        assert node in self.events
        self.events[node] = event

    def upload(self, _stream: Stream) -> None: ...

    def launch(self) -> None:
        for call in self.source.work:
            if isinstance(call, Node):
                self.events[call].record()
            else:
                call()

    def close(self) -> None: ...


class Gpu:
    """What is allocated, what has a handle, and the calls of the driver that enqueue work."""

    allocated: dict[int, Any] = {}  # noqa: RUF012
    streams: dict[int, Stream] = {}  # noqa: RUF012
    objects: ClassVar[WeakValueDictionary[int, Any]] = WeakValueDictionary()
    """Events, nodes and graphs by their handles."""
    capability = (9, 0)
    memory = (8 << 30, 16 << 30)
    """Bytes free and in all, as CUDA says."""
    integrated = False
    """Whether it shares the system's memory."""
    copies = 0
    """How many were enqueued."""
    numbers = count(1000)
    """Handles that nothing has yet."""

    @staticmethod
    def allocate(size: int) -> tuple[int, int]:
        block = np.full(size + 256, 0xA5, np.uint8)
        address = -(-block.ctypes.data // 256) * 256
        Gpu.allocated[address] = block
        return 0, address

    @staticmethod
    def allocate_host(size: int, flags: int) -> tuple[int, int]:
        assert flags == DEVICEMAP
        return Gpu.allocate(size)

    @staticmethod
    def device_pointer(address: int, flags: int) -> tuple[int, int]:
        assert address in Gpu.allocated
        assert flags == 0
        return 0, address

    @staticmethod
    def handle(made: Any) -> int:
        number = next(Gpu.numbers)
        Gpu.objects[number] = made
        return number

    @staticmethod
    def copy(to: int, source: int, size: int, _stream: int) -> int:
        Gpu.copies += 1
        ctypes.memmove(to, source, size)
        return 0

    @staticmethod
    def record(event: int, stream: int) -> int:
        assert Gpu.streams[stream].captured is None, "an event recorded while capturing is no node of the graph"
        Gpu.objects[event].record()
        return 0

    @staticmethod
    def wait(stream: int, event: int, flags: int) -> int:
        assert event in Gpu.objects
        assert flags == 0
        Gpu.streams[stream].wait(None)
        return 0

    @staticmethod
    def elapsed(found: Any, begin: int, end: int) -> int:
        found._obj.value = Gpu.objects[end] - Gpu.objects[begin]
        return 0

    @staticmethod
    def set_event(graph: int, node: int, event: int) -> int:
        Gpu.objects[graph].set_event(Gpu.objects[node], Gpu.objects[event])
        return 0

    @staticmethod
    def launch(graph: int, stream: int) -> int:
        assert stream in Gpu.streams
        Gpu.objects[graph].launch()
        return 0

    @staticmethod
    def current_context(found: Any) -> int:
        found._obj.value = CONTEXT
        return 0

    @staticmethod
    def make_current(context: int) -> int:
        return 0 if context == CONTEXT else INVALID_CONTEXT

    @staticmethod
    def attribute(number: int, device: int) -> tuple[int, int]:
        assert (number, device) == (INTEGRATED, 0)
        return 0, int(Gpu.integrated)

    @staticmethod
    def record_external(event: int, handle: int, flags: int) -> tuple[int]:
        captured = Gpu.streams[handle].captured
        assert captured is not None, "CU_EVENT_RECORD_EXTERNAL is for capturing alone"
        assert flags == EXTERNAL
        captured.append(Node(Gpu.objects[event]))
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

    known: dict[Any, tuple[int, ...]] = {}  # noqa: RUF012
    """Shapes of outputs by graph and shapes of inputs."""

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
        key = (self.engine.plan["onnx"], name, *self.shapes.items())
        if key not in Execution.known:
            zeros = {key: np.zeros(shape, np.float32) for key, shape in self.shapes.items()}
            Execution.known[key] = self.engine.session.run([name], zeros)[0].shape
        return Execution.known[key]

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
            _at(self.addresses[output], value.shape)[:] = value * self.engine.gain


class Simulated:
    """An engine with the names that TensorRT 8.6 has; its plan is JSON. ``gain`` there scales what it computes."""

    def __init__(self, data: Any) -> None:
        self.plan = json.loads(bytes(data))
        self.gain = np.float32(self.plan.get("gain", 1.0))
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # more would spin while they wait
        self.session = ort.InferenceSession(self.plan["onnx"], options, providers=["CPUExecutionProvider"])
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
def gpu(monkeypatch: pytest.MonkeyPatch, host: ctypes.CDLL) -> Iterator[type[Gpu]]:
    """CUDA and TensorRT, simulated; at the end nothing may be left allocated."""
    success, full = SimpleNamespace(name="CUDA_SUCCESS"), SimpleNamespace(name="CUDA_ERROR_OUT_OF_MEMORY")
    wrap = lambda result: (success, *result[1:])  # noqa: E731
    driver = SimpleNamespace(
        CUresult=SimpleNamespace(CUDA_SUCCESS=success, CUDA_ERROR_OUT_OF_MEMORY=full),
        cuMemAlloc=lambda size: wrap(Gpu.allocate(size)),
        CU_MEMHOSTALLOC_DEVICEMAP=DEVICEMAP,
        cuMemHostAlloc=lambda size, flags: wrap(Gpu.allocate_host(size, flags)),
        cuMemHostGetDevicePointer=lambda address, flags: wrap(Gpu.device_pointer(address, flags)),
        cuMemFree=lambda address: wrap(Gpu.free(address)),
        cuMemFreeHost=lambda address: wrap(Gpu.free(address)),
        cuMemsetD8=lambda address, value, size: wrap((ctypes.memset(address, value, size) and 0,)),
        cuMemcpyHtoD=lambda to, source, size: wrap((ctypes.memmove(to, source, size) and 0,)),
        cuStreamSynchronize=lambda _stream: (success,),
        cuMemGetInfo=lambda: (success, *Gpu.memory),
        CUdevice_attribute=SimpleNamespace(CU_DEVICE_ATTRIBUTE_INTEGRATED=INTEGRATED),
        cuCtxGetDevice=lambda: (success, 0),
        cuDeviceGetAttribute=lambda number, device: wrap(Gpu.attribute(number, device)),
        CUevent_record_flags=SimpleNamespace(CU_EVENT_RECORD_EXTERNAL=EXTERNAL),
        cuEventRecordWithFlags=lambda event, stream, flags: wrap(Gpu.record_external(event, stream, flags)),
        cuStreamGetCaptureInfo=lambda stream: wrap(Gpu.capture_info(stream)),
    )

    def launch(stream: Stream, config: Any, kernel: str, *arguments: Any) -> None:
        items, *rest = arguments
        values = [ctypes.c_uint64(value) if isinstance(value, int) else ctypes.c_int(value) for value in rest]
        run = getattr(host, f"run_{kernel}")
        stream.do(lambda: run(ctypes.c_uint64(items), ctypes.c_uint(config.grid[1]), *values) and None)

    def device(_index: int = 0) -> Any:
        return SimpleNamespace(
            name="Simulated", compute_capability=Gpu.capability, set_current=lambda: None,
            create_stream=lambda stream=None: stream or Stream(), create_event=lambda _options: Event(),
            create_graph_builder=lambda: Builder(Stream()),
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
    enqueuing = SimpleNamespace(
        cuCtxGetCurrent=Gpu.current_context, cuCtxSetCurrent=Gpu.make_current, cuEventElapsedTime=Gpu.elapsed,
        cuEventRecord=Gpu.record, cuGraphExecEventRecordNodeSetEvent=Gpu.set_event, cuGraphLaunch=Gpu.launch,
        cuMemcpyAsync=Gpu.copy, cuStreamWaitEvent=Gpu.wait,
    )  # fmt: skip
    monkeypatch.setattr(driver_calls, "libcuda", lambda: enqueuing)
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
        (folder / COMPOSE_CUBIN).write_bytes(b"cubin")
        engines = {graph: {"file": f"{graph}.plan", "profiles": shapes} for graph, shapes in profiles.items()}
        written.update(
            backend="tensorrt", model=manifest["model"], engines=engines, built_on=BUILT_ON,
            batch_ms={str(n): 5.0 for n in BATCHES}, live_context_seconds=2.0,
        )  # fmt: skip
    with Bundle.open(tmp_path / "simulated") as opened:
        yield opened
