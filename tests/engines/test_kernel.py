"""Compiling the compose kernel as build-engines does; for every GPU: tests/gpu/test_kernels.py."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from musetalk_engines.kernel import compile_kernel
from musetalk_runtime.backends.cuda.kernels import COMPOSE_CUBIN, COMPOSE_SOURCE
from musetalk_runtime.core.errors import MachineError

CAPABILITIES = ("9.0", "12.1")


@pytest.fixture(scope="module")
def known() -> set[str]:
    """What nvcc compiles for, such as ``compute_90``."""
    nvcc = shutil.which("nvcc")
    if not nvcc:
        pytest.skip("no nvcc on PATH")
    return set(subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_compose_kernel_compiles(known: set[str], tmp_path: Path, capability: str) -> None:
    if f"compute_{capability.replace('.', '')}" not in known:
        pytest.skip(f"nvcc does not list compute capability {capability}")
    output = tmp_path / COMPOSE_CUBIN
    compile_kernel(COMPOSE_SOURCE, capability, output)
    assert output.read_bytes()[:4] == b"\x7fELF"
    assert b"compose_half" in output.read_bytes()


@pytest.mark.usefixtures("known")
def test_a_kernel_that_does_not_compile_says_why_and_writes_nothing(tmp_path: Path) -> None:
    source, output = tmp_path / "broken.cu", tmp_path / "broken.cubin"
    source.write_text('extern "C" __global__ void broken() { nonsense(); }')
    with pytest.raises(MachineError, match=r"broken\.cu cannot be compiled for sm_90: .*nonsense"):
        compile_kernel(source, "9.0", output)
    assert not output.exists()


def test_a_machine_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(MachineError, match=r"install NVRTC .* or put the CUDA toolkit's nvcc on PATH.*import of cuda"):
        compile_kernel(COMPOSE_SOURCE, "9.0", tmp_path / COMPOSE_CUBIN)
    assert list(tmp_path.iterdir()) == []
