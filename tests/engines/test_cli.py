"""``build-engines`` for TensorRT on a machine without a GPU: what it needs, and its plan of work."""

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.modules import loaded_modules
from musetalk_engines import backend_choice
from musetalk_engines.cli import main
from musetalk_engines.trt import machine
from musetalk_engines.trt.machine import require_gpu
from musetalk_runtime.backends.trt.gpu_facts import GpuFacts
from musetalk_runtime.certification.measure import affordable_context
from musetalk_runtime.core.errors import MachineError


@pytest.fixture
def no_gpu() -> None:
    try:
        require_gpu()
    except MachineError:
        return
    pytest.skip("this machine has a GPU and TensorRT")


@pytest.mark.usefixtures("no_gpu")
def test_a_build_without_a_gpu_says_what_it_needs(
    modelset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(modelset), "-o", str(tmp_path / "bundle"), "--backend", "tensorrt"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert "needs an NVIDIA GPU, its driver, and tensorrt 8.6, 10 or 11" in captured.err
    assert "--backend onnxruntime does without" in captured.err
    assert list(tmp_path.iterdir()) == []


def test_a_build_with_a_tensorrt_that_does_not_know_the_gpu_says_so_at_once(
    modelset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    facts = GpuFacts("NVIDIA GB10", "12.1", "580.95.05", 128_000, "8.6.1")
    monkeypatch.setattr(machine, "gpu_facts", lambda: facts)
    assert main([str(modelset), "-o", str(tmp_path / "bundle"), "--backend", "tensorrt"]) == 3
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "TensorRT 8.6.1 does not know compute capability 12.1, 10.14 and later do" in error
    assert "--backend tensorrt-rtx; --backend onnxruntime does without" in error
    assert not (tmp_path / "bundle").exists()
    monkeypatch.setattr(machine, "gpu_facts", lambda: replace(facts, tensorrt="11.4.0.106"))
    assert require_gpu().tensorrt == "11.4.0.106"


@pytest.mark.parametrize(
    ("found", "rtx", "backend", "why", "targets"),
    [
        (None, True, "onnxruntime", "no usable NVIDIA GPU", ()),
        (("9.0", "8.6.0", False), True, "tensorrt", "TensorRT 8.6.0 is here, and knows GPU", ()),
        (("12.1", "10.14.1", False), True, "tensorrt", "TensorRT 10.14.1 is here", ()),
        (("12.1", "8.6.0", False), True, "tensorrt-rtx", "TensorRT 8.6.0 does not know compute", ("sm_121",)),
        (("12.1", "8.6.0", False), False, "onnxruntime", "TensorRT for RTX is not installed", ()),
        (("8.9", None, False), True, "tensorrt-rtx", "TensorRT is not installed, TensorRT for RTX is here", ("sm_89",)),
        (("8.9", "10.3.0", True), True, "tensorrt-rtx", "TensorRT is not installed", ("sm_89",)),
        (("9.0", None, False), True, "onnxruntime", "TensorRT for RTX does not know GPU (sm_90)", ()),
    ],
)
def test_without_a_backend_it_takes_what_is_here_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
    found: tuple[str, str | None, bool] | None,
    rtx: bool,
    backend: str,
    why: str,
    targets: tuple[str, ...],
) -> None:
    def facts() -> GpuFacts:
        if found is None:
            raise MachineError("no usable NVIDIA GPU: none")
        capability, tensorrt, lean = found
        return GpuFacts("GPU", capability, "580.95.05", 128_000, tensorrt, lean)

    monkeypatch.setattr(backend_choice, "gpu_facts", facts)
    monkeypatch.setattr(backend_choice, "find_spec", lambda _name: object() if rtx else None)
    chosen, reason, built_for = backend_choice.choose_backend()
    assert (chosen, built_for) == (backend, targets)
    assert why in reason


def test_a_dry_run_prints_the_plan_of_work_and_builds_nothing(
    modelset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--batch-sizes", "1,8", "--precision", "fp32", "--optimization-level", "5", "--max-memory", "4096"]
    assert main([str(modelset), "-o", str(tmp_path / "bundle"), "--dry-run", "--version-compatible", *arguments]) == 0
    head, decoder, unet, vae_encoder, audio, end = capsys.readouterr().out.split("\n\n")
    facts = {" ".join(line.split()) for line in head.splitlines()}
    assert {"precision fp32", "level 5", "workspace 4096 MiB", "timing cache empty"} < facts
    assert decoder.splitlines()[0] == "vae_decoder: vae_decoder.onnx -> vae_decoder.plan"
    assert unet.splitlines()[2:] == [
        "  profile   latents [1, 8, 16, 16], tokens [1, 30, 64]",
        "  profile   latents [8, 8, 16, 16], tokens [8, 30, 64]",
    ]
    assert "images [2, 3, 128, 128]" in vae_encoder
    assert "mel [1, 80, 3000]" in audio
    assert "mel [1, 80, 200]" in audio
    for name in ("unet.plan", "compose.cubin", "timing.cache", "manifest.json", "dry run: nothing was built"):
        assert name in end
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_gpu")
def test_a_dry_run_without_tensorrt_assumes_one_that_takes_the_model_set(
    modelset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(modelset), "-o", str(tmp_path / "bundle"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "no GPU with a TensorRT that knows it: as for 8.6" in out
    assert out.count("as built > attention unfused > fp32 attention and norms > fp32") == 4


def test_a_dry_run_finds_the_timing_cache_of_the_bundle_to_replace(
    modelset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = tmp_path / "named.cache"
    arguments = [str(modelset), "-o", str(tmp_path / "bundle"), "--dry-run", "--timing-cache", str(named)]
    assert main(arguments) == 2
    assert "no such timing cache" in capsys.readouterr().err
    named.touch()
    assert main(arguments) == 0
    assert str(named) in capsys.readouterr().out


@pytest.mark.parametrize(
    "option", [["--dry-run"], ["--precision", "fp32"], ["--version-compatible"], ["--optimization-level", "3"]]
)
def test_the_cpu_has_none_of_tensorrts_options(
    modelset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    assert main([str(modelset), "-o", str(tmp_path / "bundle"), "--backend", "onnxruntime", *option]) == 2
    assert "--backend onnxruntime has no such options" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", ["0", "-1", "4 GB", "9999999"])
def test_a_workspace_out_of_range(
    modelset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], size: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(modelset), "-o", str(tmp_path / "bundle"), f"--max-memory={size}"])
    assert stopped.value.code == 2
    assert "expected mebibytes, such as 4096" in capsys.readouterr().err


def test_a_machine_with_a_gpu_needs_no_onnxruntime() -> None:
    imports = "import musetalk_engines.cli, musetalk_engines.trt.build, musetalk_engines.trt.dry_run"
    assert loaded_modules(imports, ["onnxruntime", "tensorrt", "cuda", "torch"]) == []


def test_live_speech_is_heard_for_as_long_as_the_gpu_can() -> None:
    assert affordable_context({30: 4.0, 2: 0.5}) == 30.0
    assert affordable_context({30: 12.0, 2: 0.5}) == 2.0
    assert affordable_context({30: 60.0, 2: 9.0}) == 2.0
