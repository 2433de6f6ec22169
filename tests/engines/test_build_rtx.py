"""Bundles of TensorRT for RTX, built by the real library from PyPI, which needs no GPU."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musetalk_engines.cli import main
from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.engine import build_engine
from musetalk_engines.trt.families.family import AS_BUILT, FP32, PlanSpec
from musetalk_engines.trt.families.rtx import ForRtx
from musetalk_engines.trt.options import BuildOptions
from musetalk_engines.trt.profiles import engine_profiles
from musetalk_engines.trt.targets import parse_targets
from musetalk_runtime import Bundle
from musetalk_runtime.backends.trt.rtx import ARCHITECTURES
from musetalk_runtime.backends.trt.tensorrt_api import RTX_MODULE
from musetalk_runtime.cli.main import main as edge
from musetalk_runtime.core.errors import InvalidArgument, MachineError, PlanError
from musetalk_runtime.core.model import GRAPHS

rtx: Any = pytest.importorskip(RTX_MODULE, reason="needs TensorRT for RTX")
pytest.importorskip("cuda.core", reason="needs cuda-core, whose NVRTC compiles the kernels")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # beside other work, exports and eight plans take minutes

BLACKWELL = ("sm_120", "sm_121")
SIZES = {"tiny": (1,), "demo": (1, 4, 8)}  # the latter are the default


@pytest.fixture(scope="module")
def sets(half_modelset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """FP16 model sets, by preset."""
    from musetalk_export.cli import main as export

    folder = tmp_path_factory.mktemp("sets")
    assert export(["init", "demo", str(folder / "checkpoint")]) == 0
    assert export([str(folder / "checkpoint"), "-o", str(folder / "demo"), "--fp16"]) == 0
    return {"tiny": half_modelset, "demo": folder / "demo"}


@pytest.fixture(scope="module")
def built(sets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle for two GPUs of each model set."""
    folder = tmp_path_factory.mktemp("built")
    bundles = {preset: folder / f"{preset}.bundle" for preset in sets}
    for preset, path in sets.items():
        arguments = [str(path), "-o", str(bundles[preset]), "--backend", "tensorrt-rtx", "--for", "gb10,rtx50"]
        sizes = [] if preset == "demo" else ["--batch-sizes", ",".join(map(str, SIZES[preset]))]
        assert main([*arguments, *sizes]) == 0
    return bundles


@pytest.mark.parametrize("preset", ["tiny", "demo"])
def test_all_graphs_are_built_for_two_gpus(built: dict[str, Path], sets: dict[str, Path], preset: str) -> None:
    models = ModelSet.open(sets[preset])
    with Bundle.open(built[preset]) as bundle:
        manifest = bundle.manifest
        assert bundle.batch_sizes == [*SIZES[preset]]
        with pytest.raises(MachineError, match="not certified on this machine: run 'musetalk-edge certify"):
            _ = bundle.batch_ms
    assert manifest["built_for"] == list(BLACKWELL)
    assert manifest["built_by"] == {"tensorrt_rtx": rtx.__version__}
    assert manifest["engines"].keys() == {*GRAPHS}
    for graph, engine in manifest["engines"].items():
        assert (built[preset] / engine["file"]).stat().st_size == engine["bytes"]
        profiles = engine_profiles(models.spec, graph, SIZES[preset])
        assert [{name: tuple(shape) for name, shape in shapes.items()} for shapes in engine["profiles"]] == profiles
        assert {tensor["type"] for tensor in engine["tensors"].values()} == {"HALF"}
        for name, shape in profiles[0].items():
            fixed = [size for size in engine["tensors"][name]["shape"] if size != -1]
            assert [size for size in shape if size in fixed][-len(fixed) :] == fixed
    assert manifest["engines"]["unet"]["tensors"].keys() == {"latents", "tokens", "prediction"}
    files = manifest["files"].keys()
    assert {"golden.npz", "compose.sm_120.cubin", "compose.sm_121.cubin", "unet.onnx", "unet.onnx.data"} <= files
    with np.load(built[preset] / "golden.npz") as golden, np.load(sets[preset] / "golden.npz") as given:
        assert golden.keys() - given.keys() == {"audio_encoder.states[200]"}


def test_a_plan_for_every_gpu_is_hardly_larger_than_one_for_one(sets: dict[str, Path], tmp_path: Path) -> None:
    models = ModelSet.open(sets["demo"])
    spec, profiles = PlanSpec("audio_encoder", "fp16", AS_BUILT), engine_profiles(models.spec, "audio_encoder", (1,))
    sizes = []
    for targets in (("sm_121",), ARCHITECTURES):
        file = tmp_path / "audio_encoder.plan"
        options = BuildOptions(batch_sizes=(1,), targets=targets)
        tensors = build_engine(ForRtx(), spec, models.graph("audio_encoder"), file, profiles, options, None, print)
        assert tensors["mel"] == {"type": "HALF", "shape": [-1, 80, -1]}
        sizes.append(file.stat().st_size)
    weights = models.graph("audio_encoder").with_name("audio_encoder.onnx.data").stat().st_size
    assert weights < sizes[0] < sizes[1]
    assert sizes[1] - sizes[0] < weights  # they are kept once


def test_without_a_driver_a_bundle_says_that_it_has_no_gpu(
    built: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["certify", str(built["tiny"])], ["stream", "-b", str(built["tiny"]), "-o", "x.mp4"]):
        assert edge(arguments) == 3
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert "no usable NVIDIA GPU" in said[0]


def test_the_library_itself_refuses_a_plan_where_there_is_no_driver(built: dict[str, Path]) -> None:
    from musetalk_runtime.backends.trt.tensorrt_api import RTX, Engine

    with pytest.raises(MachineError, match=r"unet\.plan: TensorRT for RTX .* cannot run it here: .*driver"):
        Engine(built["tiny"] / "unet.plan", RTX)


def test_a_safer_variant_is_built_by_a_process_of_its_own(built: dict[str, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "musetalk_engines.trt.rebuild", str(built["tiny"])]
    for variant in ("attention unfused", FP32):
        done = subprocess.run([*command, "audio_encoder", variant, str(tmp_path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"built audio_encoder: {variant}" in done.stdout
        assert (tmp_path / "audio_encoder.plan").stat().st_size > 1e6
        assert [path.name for path in tmp_path.iterdir()] == ["audio_encoder.plan"]
    wrong = subprocess.run([*command[:-1], str(tmp_path), "unet", FP32, str(tmp_path)], capture_output=True, text=True)
    assert wrong.returncode == 1
    assert len(wrong.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (["--backend", "tensorrt-rtx"], "--backend tensorrt-rtx needs --for"),
        (["--backend", "tensorrt-rtx", "--for", "gb10", "--optimization-level", "5"], "has no such options"),
        (["--backend", "tensorrt-rtx", "--for", "gb10", "--dry-run"], "has no such options"),
        (["--backend", "tensorrt", "--for", "gb10"], "--for is for --backend tensorrt-rtx"),
        (["--backend", "onnxruntime", "--for", "gb10"], "has no such options"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(
    modelset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: list[str], says: str
) -> None:
    assert main([str(modelset), "-o", str(tmp_path / "b"), *option]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert says in said[0]
    assert list(tmp_path.iterdir()) == []


def test_an_fp32_model_set_is_refused_and_nothing_written(
    modelset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(modelset), "-o", str(tmp_path / "b"), "--for", "gb10"]) == 2
    assert "export it with --fp16, or pass --precision fp32" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_names_of_gpus() -> None:
    assert parse_targets("gb10") == ("sm_121",)
    assert parse_targets("rtx50,GB10,sm_89,rtx40") == ("sm_89", "sm_120", "sm_121")
    assert parse_targets("all") == ARCHITECTURES
    assert {f"SM{arch.removeprefix('sm_')}" for arch in ARCHITECTURES} | {"NONE", "CURRENT"} == {
        *rtx.ComputeCapability.__members__
    }
    for wrong in ("", "gb10,", "h100", "sm_90", "../x"):
        with pytest.raises(InvalidArgument, match="is no GPU of TensorRT for RTX: expected gb10, rtx50"):
            parse_targets(wrong)


def test_a_graph_that_cannot_be_built_says_what_the_library_says(sets: dict[str, Path], tmp_path: Path) -> None:
    models = ModelSet.open(sets["tiny"])
    profiles: list[Any] = [{"latents": (1, 5, 16, 16)}]  # five channels
    options = BuildOptions(targets=("sm_121",))
    with pytest.raises(PlanError, match=r"TensorRT for RTX .* cannot build vae_decoder \(as built\): .*latents"):
        build_engine(
            ForRtx(), PlanSpec("vae_decoder", "fp16", AS_BUILT), models.graph("vae_decoder"), tmp_path / "x.plan",
            profiles, options, None, print,
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []
