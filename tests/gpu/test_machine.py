"""The machine that a bundle needs: TensorRT's names, a bundle built here, a GPU."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, Mock, NonCallableMock

import numpy as np
import pytest

from helpers.modules import loaded_modules
from helpers.paths import DATA
from helpers.rtx_simulator import Rtx, RtxCache, RtxConfig, RtxEngine, RtxExecution
from musetalk_runtime.backends.trt import plan_files, rtx, tensorrt_api
from musetalk_runtime.backends.trt.compatibility import check_built_here
from musetalk_runtime.backends.trt.gpu_facts import GpuFacts
from musetalk_runtime.backends.trt.rtx import ARCHITECTURES
from musetalk_runtime.cli.main import main
from musetalk_runtime.core.errors import InvalidFolder, MachineError, PlanError

LISTINGS = sorted((DATA / "tensorrt_api").glob("*.txt"))
FACTS = GpuFacts("NVIDIA GB10", "12.1", "580.95.05", 128_000, "10.14.1", os="Linux aarch64")
BUILT_ON = {
    "gpu": "NVIDIA GB10",
    "compute_capability": "12.1",
    "driver": "580.95.05",
    "tensorrt": "10.14.1",
    "os": "Linux aarch64",
}


def with_names(listing: Path, kind: str) -> Any:
    """An object that has the attributes the listing gives `kind`, and no others."""
    names = [line.split(".")[1] for line in listing.read_text().splitlines() if line.startswith(f"{kind}.")]
    assert len(names) > 1
    return NonCallableMock(spec_set=names)


def fake_tensorrt(listing: Path, engine: Any) -> Any:
    runtime = with_names(listing, "Runtime")
    runtime.deserialize_cuda_engine.return_value = engine
    top = {line.split(".")[0] for line in listing.read_text().splitlines()}
    strategy = "ExecutionContextAllocationStrategy"
    assert {"ILogger", "Runtime"} <= top
    module = SimpleNamespace(ILogger=type("ILogger", (), {}), Runtime=Mock(return_value=runtime), __version__="0")
    if strategy in top:
        module.ExecutionContextAllocationStrategy = with_names(listing, strategy)
    if is_rtx(listing):
        for name in ("CudaGraphStrategy", "DynamicShapesKernelSpecializationStrategy", "EngineInvalidityDiagnostics"):
            setattr(module, name, with_names(listing, name))
        runtime.get_engine_validity.return_value = SimpleNamespace(name="VALID"), 0
        runtime.engine_header_size = 64
    return module


def lines(listing: Path) -> set[str]:
    return set(listing.read_text().splitlines())


def is_rtx(listing: Path) -> bool:
    return listing.stem.startswith("rtx")


@pytest.mark.parametrize("kind", ["EngineInvalidityDiagnostics", "EngineValidity", "ComputeCapability"])
def test_the_names_of_tensorrt_for_rtx_that_are_looked_up_are_its_own(kind: str) -> None:
    """Those in the simulated library, and those that messages are written for."""
    (listing,) = filter(is_rtx, LISTINGS)
    names = {line.split(".")[1] for line in lines(listing) if line.startswith(f"{kind}.")}
    used = {
        "EngineInvalidityDiagnostics": {*rtx.WORDS, *Rtx.module().EngineInvalidityDiagnostics.__members__},
        "EngineValidity": {"VALID", "INVALID"},
        "ComputeCapability": {arch.replace("sm_", "SM") for arch in ARCHITECTURES},
    }
    assert used[kind] <= names


@pytest.mark.parametrize(
    ("simulated", "kind"),
    [(RtxEngine, "ICudaEngine"), (RtxExecution, "IExecutionContext"), (RtxConfig, "IRuntimeConfig"),
     (RtxCache, "IRuntimeCache")],
)  # fmt: skip
def test_the_simulated_library_has_no_names_of_its_own(simulated: type, kind: str) -> None:
    (listing,) = filter(is_rtx, LISTINGS)
    public = {
        name for base in simulated.__mro__[:-1] for name, value in vars(base).items()
        if callable(value) and not name.startswith("_")
    }  # fmt: skip
    left_out = {"create_execution_context_without_device_memory"}  # of the simulated TensorRT 8.6, hidden here
    assert public - left_out <= {line.split(".")[1] for line in lines(listing) if line.startswith(f"{kind}.")}


@pytest.mark.parametrize("listing", LISTINGS, ids=lambda path: path.stem)
def test_only_names_that_this_tensorrt_has_are_used(
    listing: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine, context = with_names(listing, "ICudaEngine"), with_names(listing, "IExecutionContext")
    engine.num_io_tensors, engine.num_optimization_profiles = 2, 1
    engine.get_tensor_name.side_effect = ["latents", "images"]
    engine.get_tensor_mode.side_effect = [SimpleNamespace(name="INPUT"), SimpleNamespace(name="OUTPUT")]
    engine.get_tensor_dtype.return_value = SimpleNamespace(name="HALF")
    engine.get_tensor_shape.return_value = (-1, 4)
    engine.get_tensor_profile_shape.return_value = [(1, 4), (2, 4), (2, 4)]
    for name in ("get_device_memory_size_for_profile_v2", "device_memory_size"):
        if hasattr(engine, name):
            setattr(engine, name, Mock(return_value=512) if "profile" in name else 512)
    for name in ("create_execution_context", "create_execution_context_without_device_memory"):
        if hasattr(engine, name):
            getattr(engine, name).return_value = context
    context.get_tensor_shape.return_value = (2, 4)
    module = fake_tensorrt(listing, engine)
    module.Runtime.return_value.engine_host_code_allowed = False
    (tmp_path / "a.plan").write_bytes(b"plan")
    library, cache = tensorrt_api.TENSORRT, b""
    if is_rtx(listing):
        library, cache = tensorrt_api.RTX, b"kernels"
        config, runtime_cache = with_names(listing, "IRuntimeConfig"), with_names(listing, "IRuntimeCache")
        engine.create_runtime_config.return_value = config
        config.create_runtime_cache.return_value = runtime_cache
        runtime_cache.serialize.return_value = b"more kernels"
        context.is_stream_capturable.return_value = True
    monkeypatch.setitem(sys.modules, tensorrt_api.MODULES[library][0], module)

    opened = tensorrt_api.Engine(tmp_path / "a.plan", library, cache)
    assert module.Runtime.return_value.engine_host_code_allowed is False
    assert (opened.inputs, opened.outputs, opened.profiles) == (["latents"], ["images"], 1)
    assert (opened.dtype("images"), opened.largest_shape("latents", 0)) == (np.float16, (2, 4))
    assert opened.memory_size(0) == 512
    made = opened.context(0, 7)
    made.set_memory(4096, 512)
    made.set_shape("latents", (2, 4))
    made.set_address("latents", 8192)
    made.enqueue(7)
    assert made.shape("images") == (2, 4)
    assert made.can_be_captured(7)
    assert opened.runtime_cache() == (b"more kernels" if is_rtx(listing) else b"")
    if is_rtx(listing):
        runtime_cache.deserialize.assert_called_once_with(b"kernels")
        config.set_runtime_cache.assert_called_once_with(runtime_cache)
        engine.create_execution_context.assert_called_once_with(config)
    context.execute_async_v3.return_value = False
    with pytest.raises(PlanError, match=r"TensorRT.* refuses to run: it does not say why"):
        made.enqueue(7)
    context.set_optimization_profile_async.return_value = False
    with pytest.raises(PlanError, match=r"TensorRT.* cannot prepare profile 0: it does not say why"):
        opened.context(0, 7)
    made.close()
    opened.close()


def test_a_plan_that_tensorrt_refuses_is_an_error_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(_: Any) -> None:
        logger = module.Runtime.call_args.args[0]
        logger.log(SimpleNamespace(name="WARNING"), "mind the gap")
        logger.log(SimpleNamespace(name="ERROR"), "1: [stdArchiveReader]\n Version tag does not match")

    module = fake_tensorrt(DATA / "tensorrt_api" / "11.4.0.txt", None)
    module.Runtime.return_value.deserialize_cuda_engine = refuse
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    (tmp_path / "a.plan").write_bytes(b"plan")
    with pytest.raises(MachineError, match=r"a\.plan: TensorRT 0 does not load it: 1: .* Version tag does not match"):
        tensorrt_api.Engine(tmp_path / "a.plan")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gpu": "NVIDIA H200"}, "built for GPU NVIDIA H200, this machine has GPU NVIDIA GB10"),
        ({"driver": "570.1"}, "built for driver 570.1, this machine has driver 580.95.05"),
        ({"tensorrt": "8.6.0", "compute_capability": "9.0"}, "capability 12.1, TensorRT 10.14.1"),
        ({"os": "Linux x86_64"}, "built for system Linux x86_64, this machine has system Linux aarch64"),
    ],
)
def test_a_bundle_from_elsewhere_says_what_differs_and_what_to_run(change: dict[str, str], says: str) -> None:
    with pytest.raises(MachineError, match="run 'build-engines MODELSET -o b' here") as caught:
        check_built_here(Path("b"), {**BUILT_ON, **change}, FACTS)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bundle_built_here_is_taken_and_one_that_does_not_say_is_not() -> None:
    check_built_here(Path("b"), {**BUILT_ON, "more": "said"}, FACTS)
    with pytest.raises(InvalidFolder, match="built_on"):
        check_built_here(Path("b"), {"gpu": "NVIDIA GB10"}, FACTS)
    with pytest.raises(MachineError, match=r"needs TensorRT 10\.14\.1, which is not installed"):
        check_built_here(Path("b"), BUILT_ON, GpuFacts("NVIDIA GB10", "12.1", "580.95.05", 128_000, None))


@pytest.mark.parametrize(
    ("builder", "here", "taken"),
    [
        ("10.3.0", "10.14.1.48.post1", True),
        ("10.14.1", "10.14.1", True),
        ("11.0.0.114", "11.4.0.106", True),
        ("10.14.1", "10.3.0", False),
        ("10.14.1.48", "10.14.1.40", False),
        ("8.6.0", "8.6.1", True),
        ("8.6.0", "10.3.0", True),
        ("10.16.1", "11.0.0.114", True),
        ("8.6.0", "11.4.0.106", False),
        ("8.5.3", "8.6.0", False),
        ("8.5.3", "10.3.0", False),
        ("9.3.0", "10.3.0", False),
        ("11.0.0.114", "10.16.1", False),
        ("10.3.0", "8.6.0", False),
        ("", "10.3.0", False),
    ],
)
def test_compatible_plans_are_for_the_later_versions_that_nvidia_supports(builder: str, here: str, taken: bool) -> None:
    built_on = {**BUILT_ON, "tensorrt": builder}
    facts = replace(FACTS, tensorrt=here)
    with nullcontext() if taken else pytest.raises(MachineError, match=f"built for TensorRT {builder}, this"):
        check_built_here(Path("b"), built_on, facts, version_compatible=True)
    with nullcontext() if builder == here else pytest.raises(MachineError, match="built for TensorRT"):
        check_built_here(Path("b"), built_on, facts)


@pytest.mark.parametrize("name", ["gpu", "compute_capability", "driver", "os"])
def test_compatible_plans_are_for_one_machine_all_the_same(name: str) -> None:
    with pytest.raises(MachineError, match=r"built for .* other, this .* -o b --version-compatible' here"):
        check_built_here(Path("b"), {**BUILT_ON, name: "other", "tensorrt": "10.3.0"}, FACTS, version_compatible=True)


def test_the_manifest_says_whether_plans_are_compatible(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(plan_files, "gpu_facts", lambda: FACTS)
    monkeypatch.setattr(plan_files, "check_built_here", lambda *arguments: asked.append(arguments[3]))
    for manifest in ({"version_compatible": True}, {"version_compatible": False}, {}):
        plan_files.BuiltHere(Path("b"), manifest).check()
    assert asked == [True, False, False]


def test_the_lean_runtime_alone_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # importing it raises ImportError
    lean = SimpleNamespace(__name__="tensorrt_lean", __version__="10.16.1.11")
    monkeypatch.setitem(sys.modules, "tensorrt_lean", lean)
    assert (tensorrt_api.version(), tensorrt_api.is_lean()) == ("10.16.1.11", True)
    full = SimpleNamespace(__name__="tensorrt", __version__="10.14.1")
    monkeypatch.setitem(sys.modules, "tensorrt", full)  # it comes first
    assert (tensorrt_api.version(), tensorrt_api.is_lean()) == ("10.14.1", False)
    for name in ("tensorrt", "tensorrt_lean"):
        monkeypatch.setitem(sys.modules, name, None)
    assert (tensorrt_api.version(), tensorrt_api.is_lean()) == (None, False)


def test_the_lean_runtime_takes_compatible_plans_and_refuses_others_clearly() -> None:
    facts = replace(FACTS, lean=True)
    check_built_here(Path("b"), BUILT_ON, facts, version_compatible=True)
    with pytest.raises(MachineError, match=r"only TensorRT's lean runtime .* --version-compatible: build"):
        check_built_here(Path("b"), BUILT_ON, facts)


def test_a_bundle_of_plans_without_its_gpu_exits_3_in_one_line(
    bundle: Path, avatar: Path, speech: Callable[[float], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in bundle.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"backend": "onnxruntime"', '"backend": "tensorrt"'))
    arguments = ["stream", "-b", tmp_path, "-a", avatar, "--audio", speech(2.0), "-o", tmp_path / "out.mp4"]
    assert main([str(argument) for argument in arguments]) in (2, 3)  # 2: there is a GPU, and no 'built_on'
    error = capsys.readouterr().err
    assert any(reason in error for reason in ("no usable NVIDIA GPU", "cuda.core is not usable", "built_on"))
    assert error.count("\n") == 1


def test_the_gpu_modules_are_there_without_cuda_and_tensorrt() -> None:
    imports = "import musetalk_runtime.backends.trt.engines, musetalk_runtime.backends.cuda.device_frame"
    assert loaded_modules(imports, ["cuda", "tensorrt", "tensorrt_lean"]) == []


def test_a_cuda_error_has_its_name_and_a_lack_of_memory_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    from musetalk_runtime.backends.cuda.device import check

    driver, codes = MagicMock(), {name: SimpleNamespace(name=name) for name in ("OK", "FULL", "CUDA_ERROR_X")}
    driver.CUresult = SimpleNamespace(CUDA_SUCCESS=codes["OK"], CUDA_ERROR_OUT_OF_MEMORY=codes["FULL"])
    driver.cuGetErrorString.return_value = (codes["OK"], b"it broke")
    monkeypatch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(driver=driver))
    assert check((codes["OK"],)) is None
    assert check((codes["OK"], 5)) == 5
    assert check((codes["OK"], 5, 6)) == (5, 6)
    with pytest.raises(MachineError, match="out of memory"):
        check((codes["FULL"], 0))
    with pytest.raises(RuntimeError, match="CUDA: CUDA_ERROR_X: it broke"):
        check((codes["CUDA_ERROR_X"], 0))
