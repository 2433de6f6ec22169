"""The versions of Python and of the libraries that were tested, lowest and newest.

``scripts/test_versions.py`` tests them. The lowest are the lowest that pyproject.toml allows.
"""

TESTED = {
    "python": ("3.10", "3.13"),
    "numpy": ("1.24", "2.5"),
    "av": ("17.1", "19.0"),
    "opencv-python-headless": ("4.8", "5.0"),
    "onnxruntime": ("1.18", "1.32"),
    "fastapi": ("0.115", "0.165"),
    "uvicorn": ("0.53", "0.54"),
    "uvloop": ("0.21", "0.23"),
    "websockets": ("14.0", "17.4"),
    "hibari-tts": ("0.2", "0.2"),
    "pipecat-ai": ("1.14", "1.14"),
    "livekit-agents": ("1.8", "1.8"),
    "cuda-core": ("1.2", "1.2"),
    "tensorrt": ("8.6", "8.6"),
    "tensorrt-rtx-cu13-bindings": ("1.7", "1.7"),
}


def untested(found: dict[str, str]) -> list[str]:
    """What of `found`, names and versions, is outside, as ``name version (tested: lowest to newest)``."""
    return [
        f"{name} {version} (tested: {' to '.join(dict.fromkeys(TESTED[name]))})"
        for name, version in found.items()
        if name in TESTED and not _release(TESTED[name][0]) <= _release(version) <= _release(TESTED[name][1])
    ]


def _release(version: str) -> tuple[int, ...]:
    """Major and minor number, such as (2, 5) of 2.5.1rc2."""
    return tuple(int(part) for part in version.split(".")[:2])
