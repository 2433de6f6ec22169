"""Compiling the compose kernel as build-engines does; for every GPU: tests/gpu/test_kernels.py."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from musetalk_engines.kernel import compile_kernel
from musetalk_runtime.backends.cuda.kernels import COMPOSE_CUBIN, COMPOSE_SOURCE
from musetalk_runtime.core.errors import MachineError

ARCHITECTURES = ("sm_90", "sm_121")


@pytest.fixture(scope="module")
def known() -> set[str]:
    """What nvcc compiles for, such as ``compute_90``."""
    nvcc = shutil.which("nvcc")
    if not nvcc:
        pytest.skip("no nvcc on PATH")
    return set(subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_compose_kernel_compiles(known: set[str], tmp_path: Path, arch: str) -> None:
    if arch.replace("sm", "compute") not in known:
        pytest.skip(f"nvcc does not list {arch}")
    output = tmp_path / COMPOSE_CUBIN
    compile_kernel(COMPOSE_SOURCE, arch, output)
    assert output.read_bytes()[:4] == b"\x7fELF"
    assert b"match_half" in output.read_bytes()


@pytest.mark.usefixtures("known")
def test_a_kernel_that_does_not_compile_says_why_and_writes_nothing(tmp_path: Path) -> None:
    source, output = tmp_path / "broken.cu", tmp_path / "broken.cubin"
    source.write_text('extern "C" __global__ void broken() { nonsense(); }')
    with pytest.raises(MachineError, match=r"broken\.cu cannot be compiled for sm_90: .*nonsense"):
        compile_kernel(source, "sm_90", output)
    assert not output.exists()


def test_a_machine_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(MachineError, match=r"install NVRTC .* or put the CUDA toolkit's nvcc on PATH.*import of cuda"):
        compile_kernel(COMPOSE_SOURCE, "sm_90", tmp_path / COMPOSE_CUBIN)
    assert list(tmp_path.iterdir()) == []
