"""The compose kernel, compiled for one GPU, so that the runtime needs no compiler."""

import shutil
import subprocess
from pathlib import Path

from musetalk_runtime.core.errors import MachineError


def compile_kernel(source: Path, arch: str, output: Path) -> None:
    """Compile the CUDA file `source` for the compute capability `arch` (``sm_90``) to the cubin `output`.

    By NVRTC where cuda-core and the library are installed, else by nvcc from PATH. Raises MachineError, with what
    both of them said, if neither can; then nothing is written.
    """
    try:
        output.write_bytes(_nvrtc(source, arch))
    except Exception as error:  # a library is missing, too old for this GPU, or finds no headers: cuda-core has no base
        reason = f"NVRTC: {error}"
    else:
        return
    nvcc = shutil.which("nvcc")
    if not nvcc:
        raise MachineError(
            f"{source.name} cannot be compiled for {arch}: install NVRTC (pip install nvidia-cuda-nvrtc) or put the "
            f"CUDA toolkit's nvcc on PATH ({reason})"
        )
    command = [nvcc, "-cubin", f"-arch={arch}", "-std=c++17", "-O3", str(source), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        output.unlink(missing_ok=True)
        raise MachineError(f"{source.name} cannot be compiled for {arch}: nvcc: {done.stderr.strip()} ({reason})")


def _nvrtc(source: Path, arch: str) -> bytes:
    from cuda.core import Program, ProgramOptions

    options = ProgramOptions(std="c++17", arch=arch, name=source.name)
    code = Program(source.read_text(encoding="utf-8"), "c++", options).compile("cubin").code
    return bytes(code)
