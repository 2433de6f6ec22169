"""The plans of a bundle that was built elsewhere, and certified on this machine."""

import re
from pathlib import Path

from musetalk_runtime.backends.cuda.kernels import compose_cubin
from musetalk_runtime.backends.trt.certificate import Certificate
from musetalk_runtime.backends.trt.gpu_facts import GpuFacts, gpu_facts
from musetalk_runtime.backends.trt.rtx import ARCHITECTURES
from musetalk_runtime.backends.trt.tensorrt_api import RTX
from musetalk_runtime.core.errors import MachineError
from musetalk_runtime.storage.folder import Manifest, listed_file


class CertifiedHere:
    """A bundle for TensorRT for RTX, with the certificate that was found for it. See ``PlanFiles``."""

    runtime_library = RTX

    def __init__(self, folder: Path, manifest: Manifest, certificate: Certificate | None) -> None:
        self._folder = folder
        self._manifest = manifest
        self._certificate = certificate

    @property
    def cuda_graph(self) -> bool:
        return self._certificate is None or self._certificate.cuda_graph

    @property
    def largest_batch(self) -> int | None:
        return max(self._certificate.batch_ms) if self._certificate else None

    def check(self) -> None:
        facts = require_rtx(self._folder)
        reason = self._certificate.differences(facts) if self._certificate else "no plan of it was ever run here"
        if reason:
            raise MachineError(f"{self._folder}: not certified: {reason}: run 'musetalk-edge certify {self._folder}'")

    def plan(self, graph: str) -> Path:
        certificate = self._certificate
        if certificate and f"{graph}.plan" in certificate.manifest["files"]:  # built again here
            return certificate.path / f"{graph}.plan"
        return listed_file(self._folder, self._manifest, f"{graph}.plan")

    def runtime_cache(self, graph: str) -> bytes:
        certificate = self._certificate
        if certificate and f"{graph}.cache" in certificate.manifest["files"]:
            return (certificate.path / f"{graph}.cache").read_bytes()
        return b""

    def cubin(self) -> Path:
        return gpu_cubin(self._folder, self._manifest, gpu_facts())


def require_rtx(bundle: Path) -> GpuFacts:
    """The facts about the GPU that `bundle` is to run on; raises MachineError without GPU or TensorRT for RTX."""
    facts = gpu_facts()
    if facts.tensorrt_rtx is None:
        raise MachineError(f"{bundle}: it needs TensorRT for RTX: pip install 'musetalk-edge[gpu-rtx]'")
    return facts


def gpu_cubin(bundle: Path, manifest: Manifest, facts: GpuFacts) -> Path:
    """The compose kernels for a GPU; raises MachineError where the bundle has none that it can run.

    A cubin runs on its compute capability and on later ones of the same major number:
    https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#binary-compatibility
    """
    major, minor = (int(part) for part in facts.compute_capability.split("."))
    found = [re.fullmatch(r"compose\.sm_(\d+)(\d)\.cubin", name) for name in manifest["files"]]
    fitting = [int(match[2]) for match in found if match and int(match[1]) == major and int(match[2]) <= minor]
    if not fitting:
        built_for = ", ".join(f"sm_{match[1]}{match[2]}" for match in found if match) or "nothing"
        way_out = "which TensorRT for RTX does not support: run 'build-engines MODELSET -o BUNDLE' here, by TensorRT"
        if facts.arch in ARCHITECTURES:
            way_out = f"run 'build-engines MODELSET -o BUNDLE --backend tensorrt-rtx --for {facts.arch}'"
        raise MachineError(f"{bundle}: built for {built_for}, this GPU is {facts.arch} ({facts.name}): {way_out}")
    return listed_file(bundle, manifest, compose_cubin(f"sm_{major}{max(fitting)}"))
