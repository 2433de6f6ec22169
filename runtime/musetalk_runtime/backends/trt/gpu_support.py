"""The compute capabilities that a version of TensorRT knows."""

import re

FIRST_BLACKWELL = 10, 8
ANNOUNCED = {"10.0": "10.8", "10.3": "10.14", "11.0": "10.13", "12.0": "10.8", "12.1": "10.14"}
LATEST_ANNOUNCED = "10.14"
RTX = "or use TensorRT for RTX: pip install 'musetalk-edge[gpu-rtx]' and build-engines --backend tensorrt-rtx"


def unsupported(tensorrt: str, compute_capability: str) -> str | None:
    """Why the version `tensorrt` cannot use a GPU of `compute_capability`, and what to install; None if it may.

    Compute capabilities 10.x to 12.x are Blackwell's, which TensorRT 10.8 was the first to support: 12.0, and 10.0 as
    early access (https://docs.nvidia.com/deeplearning/tensorrt/10.8.0/getting-started/release-notes.html). Those before
    refuse to build there ("Target GPU SM 120 is not supported"). 10.14 was announced for GB300 and DGX Spark, 10.3 and
    12.1 (https://docs.nvidia.com/deeplearning/tensorrt/10.14.1/index.html). For Jetson Thor, 11.0, no announcement was
    found; JetPack 7.1 has 10.13 (NVIDIA/TensorRT-Edge-LLM issue 105). Nor was it found that versions from 10.8 on do
    not run on some of them, so these are not refused. TensorRT for RTX lists 12.0 and 12.1, and neither 10.x nor 11.x
    (https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/getting-started/support-matrix-1/1.5.html).
    """
    release = tuple(int(part) for part in re.findall(r"\d+", tensorrt)[:2])
    major = compute_capability.partition(".")[0]
    if major not in ("10", "11", "12") or release >= FIRST_BLACKWELL:
        return None
    least = ANNOUNCED.get(compute_capability, LATEST_ANNOUNCED)
    reason = f"TensorRT {tensorrt} does not know compute capability {compute_capability}, {least} and later do"
    return f"{reason}: pip install 'tensorrt>={least}'" + (f", {RTX}" if major == "12" else "")
