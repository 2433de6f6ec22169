"""Plans on a GPU: built, certified, resumed, refused. MUSETALK_EDGE_MODELSET names a small model set made elsewhere."""

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from helpers.processes import BUILD
from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.build import build_tensorrt_bundle
from musetalk_engines.trt.certify import certify
from musetalk_engines.trt.engine import build_engine
from musetalk_engines.trt.families.family import AS_BUILT, FP32, FP32_ATTENTION, UNFUSED_ATTENTION, Family, PlanSpec
from musetalk_engines.trt.families.registry import family_of
from musetalk_engines.trt.machine import load_plan, require_gpu
from musetalk_engines.trt.options import BuildOptions
from musetalk_engines.trt.profiles import engine_profiles
from musetalk_engines.trt.source import write_source
from musetalk_engines.trt.timing_cache import TimingCache
from musetalk_runtime.backends.cuda.kernels import COMPOSE_CUBIN
from musetalk_runtime.bundle import BUNDLE_KIND, BUNDLE_SCHEMA
from musetalk_runtime.certification.check import ORDER
from musetalk_runtime.core.errors import AccuracyError, InvalidArgument, MachineError
from musetalk_runtime.core.model import MODELSET_KIND, MODELSET_SCHEMA
from musetalk_runtime.storage.folder import MANIFEST, new_folder, read_folder

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

BY_THE_LEAN_RUNTIME = """
import sys
sys.modules["tensorrt"] = None  # as where only the lean runtime is installed
from pathlib import Path
from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.certify import certify
from musetalk_engines.trt.machine import load_plan
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.backends.trt.gpu_facts import gpu_facts

models = ModelSet.open(Path(sys.argv[1]))
with Bundle.open(sys.argv[2]) as bundle:
    print(gpu_facts())
    bundle.engines.check()
    for graph, engine in bundle.manifest["engines"].items():
        with load_plan(bundle.path / engine["file"]) as plan:
            rows = certify(models, graph, plan, engine["profiles"], bundle.manifest["precision"], None)
        print(*rows, sep="\\n")
        assert all(row.passed for row in rows)
"""
FILES = {*(f"{graph}.plan" for graph in ORDER), COMPOSE_CUBIN, "timing.cache"}


@pytest.fixture(scope="module")
def family() -> Family:
    """That of this TensorRT."""
    try:
        return family_of(str(require_gpu().tensorrt))
    except MachineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def models(family: Family, request: pytest.FixtureRequest) -> ModelSet:
    del family  # without a GPU no model set is made
    named = os.environ.get("MUSETALK_EDGE_MODELSET")
    return ModelSet.open(Path(named) if named else request.getfixturevalue("modelset"))


@pytest.fixture(scope="module")
def precision(models: ModelSet, family: Family) -> str:
    """The precision that this TensorRT can give this model set: FP16 if it can."""
    try:
        family.check_precision(models, "fp16")
    except InvalidArgument:
        return "fp32"
    return "fp16"


@pytest.fixture(scope="module")
def options(precision: str) -> BuildOptions:
    return BuildOptions(precision=precision, level=0)


@pytest.fixture(scope="module")
def bundle(models: ModelSet, options: BuildOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorrt") / "bundle"
    build_tensorrt_bundle(models.path, folder, options, None, print)
    return folder


def test_a_bundle_is_whole_and_says_what_was_certified(bundle: Path, precision: str) -> None:
    manifest = read_folder(bundle, BUNDLE_KIND, BUNDLE_SCHEMA)
    assert manifest["files"].keys() == FILES
    assert manifest["backend"] == "tensorrt"
    assert manifest["precision"] == precision
    assert manifest["batch_ms"].keys() == {"1", "4"}
    assert all(0 < ms < 1000 for ms in manifest["batch_ms"].values())
    assert manifest["live_context_seconds"] in (2.0, 30.0)
    assert manifest["built_on"].keys() == {"gpu", "compute_capability", "driver", "tensorrt", "os"}
    for graph, engine in manifest["engines"].items():
        assert engine["variant"] == AS_BUILT, graph
        assert engine["bytes"] == (bundle / engine["file"]).stat().st_size
        assert len(engine["profiles"]) == len(engine["ms"]) == 2
        assert all(0 <= row["relative_error"] <= row["bound"] for row in engine["certified"])
    faces = [row for row in manifest["engines"]["unet"]["certified"] if row["graph"] == "chain"]
    assert len(faces) == 2
    assert all(row["psnr_db"] >= 40 for row in faces)
    assert [file.name for file in bundle.parent.iterdir()] == ["bundle"]


def test_inputs_and_outputs_have_the_precision_of_the_bundle(bundle: Path, precision: str) -> None:
    wanted = np.dtype(np.float16 if precision == "fp16" else np.float32)
    for graph in ORDER:
        with load_plan(bundle / f"{graph}.plan") as plan:
            assert {np.dtype(plan.dtype(name)) for name in (*plan.inputs, *plan.outputs)} == {wanted}
            assert len(plan.profiles) == 2


@pytest.mark.parametrize("variant", [AS_BUILT, UNFUSED_ATTENTION, FP32_ATTENTION, FP32])
def test_every_variant_can_be_built_and_computes_the_model(
    models: ModelSet, options: BuildOptions, family: Family, tmp_path: Path, variant: str
) -> None:
    if options.precision == "fp32" and variant in {FP32_ATTENTION, FP32}:
        pytest.skip("an fp32 model set has no such variant")
    said: list[str] = []
    profiles = engine_profiles(models.spec, "vae_encoder", (1,))
    spec = PlanSpec("vae_encoder", options.precision, variant)
    source = write_source(family, models, spec, tmp_path)
    target, cache = tmp_path / "vae_encoder.plan", TimingCache(tmp_path / "timing.cache", [])
    build_engine(family, spec, source, target, profiles, options, cache, said.append)
    with load_plan(target) as plan:
        rows = certify(models, "vae_encoder", plan, profiles, options.precision, None)
    print(*said, *rows, sep="\n")
    assert all(row.passed for row in rows)
    built = next(line for line in said if line.startswith("building vae_encoder: "))
    assert (", 0 constrained" in built) == (variant == AS_BUILT)
    if variant == FP32:
        assert rows[0].relative_error < 5e-3


def test_a_damaged_timing_cache_is_begun_anew(
    models: ModelSet, options: BuildOptions, family: Family, tmp_path: Path
) -> None:
    said: list[str] = []
    cache = TimingCache(tmp_path / "timing.cache", [])
    cache.file.write_bytes(b"damaged" * 100)
    spec = PlanSpec("audio_encoder", options.precision, AS_BUILT)
    source = write_source(family, models, spec, tmp_path)
    profiles = engine_profiles(models.spec, "audio_encoder", (1,))
    build_engine(family, spec, source, tmp_path / "audio_encoder.plan", profiles, options, cache, said.append)
    print(*said, sep="\n")
    assert [line for line in said if "measuring anew" in line or "timing cache" in line]
    assert not cache.read().startswith(b"damaged")


def test_an_interrupted_build_goes_on_where_it_stopped(models: ModelSet, options: BuildOptions, tmp_path: Path) -> None:
    command = [*BUILD, str(models.path), "-o", str(tmp_path / "bundle")]
    command += ["--precision", options.precision, "--optimization-level", "0", "--batch-sizes", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as build:
        assert build.stderr
        for line in build.stderr:
            if "building unet" in line:
                build.send_signal(signal.SIGINT)
                break
        build.stderr.read()
    assert build.returncode == -signal.SIGINT
    assert [file.name for file in tmp_path.iterdir()] == [".bundle.work"]
    assert (tmp_path / ".bundle.work" / "vae_decoder.json").is_file()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "build-engines: kept vae_decoder: " in done.stderr
    assert "build-engines: certified unet: " in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["bundle"]
    assert read_folder(tmp_path / "bundle", BUNDLE_KIND, BUNDLE_SCHEMA)["batch_ms"].keys() == {"1"}


def test_a_perturbed_weight_is_refused_in_every_variant(
    models: ModelSet, options: BuildOptions, family: Family, tmp_path: Path
) -> None:
    said: list[str] = []
    broken = perturbed(models, "vae_decoder", tmp_path / "perturbed")
    with pytest.raises(AccuracyError, match="vae_decoder computes something else than the model set, in every variant"):
        build_tensorrt_bundle(broken, tmp_path / "bundle", options, None, said.append)
    print(*said, sep="\n")
    refused = [line for line in said if ": off by " in line]
    assert [line.split(": ")[1] for line in refused] == list(family.fallbacks(options.precision))
    assert [file.name for file in tmp_path.iterdir()] == ["perturbed"]


def test_the_lean_runtime_computes_the_model(models: ModelSet, precision: str, tmp_path: Path) -> None:
    if find_spec("tensorrt_lean") is None:
        pytest.skip("TensorRT's lean runtime is not installed")
    options = BuildOptions(precision=precision, level=0, version_compatible=True)
    build_tensorrt_bundle(models.path, tmp_path / "bundle", options, None, print)
    command = [sys.executable, "-c", BY_THE_LEAN_RUNTIME, str(models.path), str(tmp_path / "bundle")]
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert "lean=True" in done.stdout
    assert len(done.stdout.splitlines()) == 1 + 2 * len(ORDER)


def perturbed(models: ModelSet, graph: str, folder: Path) -> Path:
    """A copy of `models` whose last convolution in `graph` has weights half as large again, with hashes that fit."""
    with new_folder(folder, MODELSET_KIND, MODELSET_SCHEMA) as (work, manifest):
        for file in models.path.iterdir():
            if file.name != MANIFEST:
                shutil.copy(file, work)
        manifest.update(json.loads((models.path / MANIFEST).read_text()))
        model = onnx.load(work / f"{graph}.onnx")
        name = [node.input[1] for node in model.graph.node if node.op_type == "Conv"][-1]
        weight = next(tensor for tensor in model.graph.initializer if tensor.name == name)
        values = numpy_helper.to_array(weight)
        weight.CopyFrom(numpy_helper.from_array(values * values.dtype.type(1.5), weight.name))
        (work / f"{graph}.onnx.data").unlink()
        onnx.save_model(model, work / f"{graph}.onnx", save_as_external_data=True, location=f"{graph}.onnx.data")
    return folder
