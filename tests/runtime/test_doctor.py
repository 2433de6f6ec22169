"""``musetalk-edge doctor`` on a machine like this one, most likely without a GPU."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from musetalk_runtime.backends.trt.gpu_support import unsupported
from musetalk_runtime.cli.main import main
from musetalk_runtime.diagnostics.doctor import NOTE, OK, WARNING, driver_finding, tensorrt_finding
from musetalk_runtime.storage.folder import MANIFEST


def test_a_good_bundle_is_healthy(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "-b", str(bundle), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    states = {finding["name"]: finding["state"] for finding in report["findings"]}
    assert report["healthy"]
    assert {"software", "memory", "providers", "gpu", "x264", "nvenc", "bundle"} <= states.keys()
    assert states["x264"] == states["bundle"] == OK
    facts = {finding["name"]: finding["facts"] for finding in report["findings"]}
    assert facts["software"]["packages"]["numpy"] == np.__version__
    assert 0 < facts["memory"]["available_mb"] <= facts["memory"]["total_mb"]
    assert facts["memory"]["cores"] == len(os.sched_getaffinity(0))
    assert "CPUExecutionProvider" in facts["providers"]["onnxruntime"]
    assert facts["bundle"]["backend"] == "onnxruntime"
    assert facts["bundle"]["fps"] > 0


def test_a_bundle_that_cannot_run_is_a_failure(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = shutil.copytree(bundle, tmp_path / "bundle")
    (broken / MANIFEST).write_text((broken / MANIFEST).read_text().replace('"schema": 1', '"schema": 2'))
    assert main(["doctor", "-b", str(broken)]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("failure  bundle")
    assert "has schema 2" in lines[-1]


@pytest.mark.parametrize(
    ("tensorrt", "compute_capability", "state"),
    [
        ("10.16.1.11", "12.1", WARNING),
        ("11.1.0.5", "12.0", WARNING),
        ("11.4.0.106", "12.1", OK),
        ("10.13.3", "12.1", OK),
        ("10.16.1.11", "9.0", OK),
        ("8.6.0", "8.7", OK),
    ],
)
def test_tensorrts_known_to_miscompile(tensorrt: str, compute_capability: str, state: str) -> None:
    found = tensorrt_finding(tensorrt, compute_capability)
    assert found.state == state
    assert found.facts == {"version": tensorrt, "lean": False}


@pytest.mark.parametrize("compute_capability", ["10.0", "10.3", "11.0", "12.0", "12.1", "12.9"])
def test_a_tensorrt_that_does_not_know_the_gpu(compute_capability: str) -> None:
    for version in ("8.6.0", "8.6.1.post1", "10.7.0.23"):
        found = tensorrt_finding(version, compute_capability, lean=True)
        assert (found.state, found.facts) == (WARNING, {"version": version, "lean": True})
        assert f"{version} does not know compute capability {compute_capability}, 10." in found.text
        assert "pip install 'tensorrt>=10." in found.text
        assert ("musetalk-edge[gpu-rtx]" in found.text) == compute_capability.startswith("12.")
        assert "bundles for ONNX Runtime run without it" in found.text
    for version in ("10.8.0.43", "10.13.3.9", "11.4.0.106"):
        assert unsupported(version, compute_capability) is None


@pytest.mark.parametrize("compute_capability", ["7.2", "8.7", "9.0", "13.0"])
def test_other_gpus_are_left_to_tensorrt(compute_capability: str) -> None:
    assert unsupported("8.6.0", compute_capability) is None


@pytest.mark.parametrize("driver", ["580.95.05", "590.44.01", "595.71.05"])
def test_captures_may_hang_on_gb10_with_any_driver(driver: str) -> None:
    found = driver_finding("NVIDIA GB10", driver)
    assert (found.state, found.facts) == (NOTE, {"version": driver})
    assert found.text.startswith(f"{driver}; on GB10, CUDA graph captures that hang were reported")
    assert "--no-cuda-graph" in found.text
    assert driver_finding("NVIDIA H200", driver).state == OK
