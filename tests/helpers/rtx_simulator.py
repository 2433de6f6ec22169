"""TensorRT for RTX where there is no GPU, played by the CPU, beside the simulated CUDA of ``cuda_simulator``."""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from helpers.cuda_simulator import BATCHES, Execution, Gpu, Simulated
from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.build_rtx import copy_models
from musetalk_engines.trt.options import BuildOptions
from musetalk_engines.trt.profiles import engine_profiles
from musetalk_runtime.backends.trt.tensorrt_api import RTX_MODULE
from musetalk_runtime.bundle import BUNDLE_KIND, BUNDLE_SCHEMA
from musetalk_runtime.certification.golden import GOLDEN
from musetalk_runtime.core.model import GRAPHS
from musetalk_runtime.storage.folder import new_folder

GOLDEN_ROWS = 2


class RtxCache:
    """The kernels that were compiled: JSON of the profiles of one GPU and driver."""

    def __init__(self) -> None:
        self.kernels: list[str] = []

    def deserialize(self, blob: bytes) -> bool:
        content = json.loads(blob)
        if content["machine"] != Rtx.machine:
            return False
        self.kernels = content["kernels"]
        return True

    def serialize(self) -> bytes:
        return json.dumps({"machine": Rtx.machine, "kernels": self.kernels}).encode()


class RtxConfig:
    """An ``IRuntimeConfig``; what was set is asserted where a context is made of it."""

    def __init__(self) -> None:
        self.strategy = self.cuda_graph_strategy = self.dynamic_shapes_kernel_specialization_strategy = ""
        self.cache: RtxCache | None = None

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> RtxCache:
        return RtxCache()

    def set_runtime_cache(self, cache: RtxCache) -> bool:
        self.cache = cache
        return True


class RtxExecution(Execution):
    """A context of TensorRT for RTX, which has no memory until it is given some."""

    def __init__(self, engine: "RtxEngine", config: RtxConfig) -> None:
        super().__init__(engine)
        self.config = config

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        assert self.config.cache is not None
        if str(profile) not in self.config.cache.kernels:
            self.config.cache.kernels.append(str(profile))
            Rtx.compiled += 1
        return super().set_optimization_profile_async(profile, stream)

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= self.engine.get_device_memory_size_for_profile_v2(self.profile)
        self.device_memory = address

    def is_stream_capturable(self, _stream: int) -> bool:
        return Rtx.capturable

    def execute_async_v3(self, handle: int) -> bool:
        if Gpu.streams[handle].captured is not None:
            Rtx.capturing()
        return super().execute_async_v3(handle)


class RtxEngine(Simulated):
    """An engine with the names that TensorRT for RTX has."""

    def get_device_memory_size_for_profile_v2(self, _profile: int) -> int:
        return 4096

    def create_runtime_config(self) -> RtxConfig:
        return RtxConfig()

    def create_execution_context(self, config: RtxConfig) -> RtxExecution:
        assert (config.strategy, config.cuda_graph_strategy) == ("USER_MANAGED", "DISABLED")
        assert config.dynamic_shapes_kernel_specialization_strategy == "EAGER"
        return RtxExecution(self, config)

    def __getattribute__(self, name: str) -> Any:
        if name in ("create_execution_context_without_device_memory", "device_memory_size"):
            raise AttributeError(name)  # TensorRT for RTX has none of these
        return super().__getattribute__(name)


class Rtx:
    """TensorRT for RTX, simulated, and what happened to it."""

    machine = "GB10, driver 580"
    compiled = 0
    """Profiles that were compiled and not taken from a cache."""
    capturable = True
    diagnostics = 0
    """Bits of EngineInvalidityDiagnostics: why plans are refused."""

    @staticmethod
    def capturing() -> None:
        """Called where work is captured; a test may let it hang."""

    @staticmethod
    def validity(_header: bytes) -> tuple[Any, int]:
        return SimpleNamespace(name="INVALID" if Rtx.diagnostics else "VALID"), Rtx.diagnostics

    @classmethod
    def module(cls) -> SimpleNamespace:
        words = ("VERSION_MISMATCH", "UNSUPPORTED_CC", "OLD_CUDA_DRIVER", "OLD_CUDA_RUNTIME")
        words += ("INSUFFICIENT_GPU_MEMORY", "MALFORMED_ENGINE", "CUDA_ERROR")
        return SimpleNamespace(
            __version__="1.7.1.116",
            ILogger=type("ILogger", (), {}),
            ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="USER_MANAGED"),
            CudaGraphStrategy=SimpleNamespace(DISABLED="DISABLED"),
            DynamicShapesKernelSpecializationStrategy=SimpleNamespace(EAGER="EAGER"),
            EngineInvalidityDiagnostics=SimpleNamespace(__members__={name: 1 << bit for bit, name in enumerate(words)}),
            Runtime=lambda _logger: SimpleNamespace(
                engine_header_size=64, get_engine_validity=cls.validity, deserialize_cuda_engine=RtxEngine
            ),
        )


@pytest.fixture
def rtx(gpu: type[Gpu], monkeypatch: pytest.MonkeyPatch) -> type[Rtx]:
    """TensorRT for RTX beside the simulated CUDA, on a GPU of compute capability 12.1."""
    assert not gpu.allocated
    module = ModuleType(RTX_MODULE)
    module.__dict__.update(Rtx.module().__dict__)
    monkeypatch.setitem(sys.modules, RTX_MODULE, module)
    for name, value in {"machine": Rtx.machine, "compiled": 0, "capturable": True, "diagnostics": 0}.items():
        monkeypatch.setattr(Rtx, name, value)
    monkeypatch.setattr(Rtx, "capturing", staticmethod(lambda: None))
    monkeypatch.setattr(Gpu, "capability", (12, 1))
    return Rtx


@pytest.fixture(scope="session")
def built_for_gb10(modelset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``build-engines --backend tensorrt-rtx --for gb10`` writes, but for plans that name the model set's graphs.

    It has the first golden tensors alone, to be quick.
    """
    models = ModelSet.open(modelset)
    options = BuildOptions(batch_sizes=BATCHES, precision="fp32", targets=("sm_121",))
    engines = {}
    path = tmp_path_factory.mktemp("built") / "rtx.bundle"
    with new_folder(path, BUNDLE_KIND, BUNDLE_SCHEMA) as (folder, written):
        for graph in GRAPHS:
            profiles = engine_profiles(models.spec, graph, BATCHES)
            write_simulated_plan(folder, models.graph(graph), profiles)
            engines[graph] = {"file": f"{graph}.plan", "variant": "as built", "profiles": profiles}
        (folder / "compose.sm_121.cubin").write_bytes(b"cubin")
        copy_models(models, folder, options)
        with np.load(folder / GOLDEN) as golden:
            few = {name: golden[name][:GOLDEN_ROWS] for name in golden}
        np.savez(folder / GOLDEN, **few)
        written.update(
            backend="tensorrt-rtx", model=models.spec.to_json(), precision="fp32", graph_precision="fp32",
            engines=engines, variants=["as built", "attention unfused"], batch_sizes=list(BATCHES),
            built_for=["sm_121"], built_by={"tensorrt_rtx": "1.7.1.116"},
        )  # fmt: skip
    return path


@pytest.fixture
def rtx_bundle(rtx: type[Rtx], built_for_gb10: Path, tmp_path: Path) -> Path:
    """A copy of `built_for_gb10`, where TensorRT for RTX is simulated."""
    assert not rtx.compiled
    return shutil.copytree(built_for_gb10, tmp_path / "rtx.bundle")


def write_simulated_plan(folder: Path, graph: Path, profiles: Any, gain: float = 1.0) -> None:
    text = json.dumps({"onnx": str(graph), "profiles": profiles, "gain": gain})
    (folder / f"{graph.stem}.plan").write_text(text)
