"""ONNX Runtime's providers: which one a bundle is built with, and that it runs on no other.

No CUDA is at hand: a stand-in does what onnxruntime-gpu 1.31 was seen to do with and without CUDA's libraries.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest

from musetalk_engines.build import build_bundle
from musetalk_engines.modelset import ModelSet
from musetalk_engines.ort import choose_provider
from musetalk_runtime.backends.ort import provider
from musetalk_runtime.backends.ort.provider import CPU, CUDA
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.cli.main import main
from musetalk_runtime.core.errors import InvalidFolder, MachineError
from musetalk_runtime.storage.folder import MANIFEST


class StandIn(ModuleType):
    """onnxruntime-gpu, which computes on the CPU whatever it says."""

    def __init__(self) -> None:
        super().__init__("onnxruntime")
        self.works, self.severity = True, 2
        self.asked: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(onnxruntime, name)

    def get_available_providers(self) -> list[str]:
        return ["TensorrtExecutionProvider", CUDA, CPU]

    def set_default_logger_severity(self, severity: int) -> None:
        self.severity = severity

    def preload_dlls(self) -> None:
        if not self.works:
            print("Failed to load libcublasLt.so.13: cannot open shared object file\nPlease follow https://")

    def InferenceSession(self, path: Path, options: Any, providers: list[Any], **settings: Any) -> Any:  # noqa: N802
        assert providers == [CPU] or settings == {"enable_fallback": 0}, "it would print on stdout"
        self.asked += providers
        session = onnxruntime.InferenceSession(path, options, providers=[CPU])
        if providers != [CPU] and self.works:
            session.get_providers = lambda: [CUDA, CPU]
        elif providers != [CPU] and self.severity < 3:
            print("[E:onnxruntime:Default] Failed to load library", file=sys.stderr)
        return session


@pytest.fixture
def gpu_runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "onnxruntime", stand_in)
    provider.preload.cache_clear()
    yield stand_in
    provider.preload.cache_clear()


@pytest.fixture
def cuda_bundle(bundle: Path, tmp_path: Path) -> Path:
    """A bundle that says it was built with CUDA."""
    return with_built_on(bundle, tmp_path / "cuda", {"provider": CUDA, "gpu": "NVIDIA H200"})


def with_built_on(bundle: Path, target: Path, built_on: Any) -> Path:
    shutil.copytree(bundle, target)
    manifest = json.loads((target / MANIFEST).read_text())
    (target / MANIFEST).write_text(json.dumps({**manifest, "built_on": built_on}))
    return target


def test_a_bundle_is_built_and_run_with_cuda_where_it_works(
    gpu_runtime: StandIn, modelset: Path, tmp_path: Path
) -> None:
    build_bundle(modelset, tmp_path / "bundle", (1,), None, print)
    with Bundle.open(tmp_path / "bundle") as opened:
        assert opened.manifest["built_on"]["provider"] == CUDA
        opened.engines.check()
        golden = ModelSet.open(modelset).golden()
        latents = opened.engines.encode_images(golden["vae_encoder.images"])
        np.testing.assert_allclose(latents, golden["vae_encoder.latents"], atol=1e-3)
    assert {name for name, _ in gpu_runtime.asked} == {CUDA}
    assert all(options["use_tf32"] == "0" for _, options in gpu_runtime.asked)
    assert gpu_runtime.severity == 2


def test_a_bundle_is_built_for_the_cpu_where_cuda_is_there_in_vain(
    gpu_runtime: StandIn, modelset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    gpu_runtime.works, said = False, []
    build_bundle(modelset, tmp_path / "bundle", (1,), None, said.append)
    assert Bundle.open(tmp_path / "bundle").manifest["built_on"]["provider"] == CPU
    assert said[0].startswith("building for the CPU: onnxruntime")
    assert "(Failed to load libcublasLt.so.13: cannot open shared object file)" in said[0]
    assert capfd.readouterr() == ("", "")


def test_a_bundle_for_cuda_runs_on_nothing_else(
    cuda_bundle: Path, avatar: Path, speech: Callable[[float], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["stream", "-b", cuda_bundle, "-a", avatar, "--audio", speech(2.0), "-o", "-", "--fps", "25"]
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    assert main([str(argument) for argument in arguments]) == 3
    out, error = capfd.readouterr()
    assert f"built for {CUDA}: onnxruntime {onnxruntime.__version__} has no {CUDA}" in error
    assert f"run 'build-engines MODELSET -o {cuda_bundle} --backend onnxruntime' here" in error
    assert (out, error.count("\n")) == ("", 1)


def test_a_session_that_fell_back_to_the_cpu_is_not_taken(
    gpu_runtime: StandIn, cuda_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    gpu_runtime.works = False
    with Bundle.open(cuda_bundle) as opened, pytest.raises(MachineError, match=f"cannot use {CUDA} .*libcublasLt"):
        opened.engines.check()
    assert capfd.readouterr() == ("", "")


def test_a_bundle_that_names_no_provider_is_for_the_cpu(bundle: Path, tmp_path: Path) -> None:
    for number, built_on in enumerate(({"processor": "a", "onnxruntime": "1.20.0"}, None)):
        with Bundle.open(with_built_on(bundle, tmp_path / str(number), built_on)) as opened:
            opened.engines.check()
    with (
        Bundle.open(with_built_on(bundle, tmp_path / "other", {"provider": "Abacus"})) as opened,
        pytest.raises(InvalidFolder, match="provider 'Abacus' is unknown to this version"),
    ):
        opened.engines.check()


@pytest.mark.gpu
def test_cuda_computes_the_golden_tensors(modelset: Path, tmp_path: Path) -> None:
    said: list[str] = []
    if choose_provider(ModelSet.open(modelset), said.append) != CUDA:
        pytest.skip(said[0] if said else f"onnxruntime {onnxruntime.__version__} has no {CUDA}")
    report = build_bundle(modelset, tmp_path / "bundle", (1, 2), None, print)
    assert all(row.passed for row in report.differences)
    golden = ModelSet.open(modelset).golden()
    with Bundle.open(tmp_path / "bundle") as opened:
        assert opened.manifest["built_on"]["provider"] == CUDA
        states = opened.engines.encode_audio(golden["audio_encoder.mel"][0])
    np.testing.assert_allclose(states, golden["audio_encoder.states"][0], atol=1e-3)
