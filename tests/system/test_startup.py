"""What starting costs: the modules that importing the package, asking for help and each command load."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HEAVY = {
    "numpy",
    "av",
    "cv2",
    "onnxruntime",
    "fastapi",
    "pydantic",
    "uvicorn",
    "tensorrt",
    "cuda",
    "torch",
    "onnx",
    "ray",
}
WORKSTATION = {"torch", "diffusers", "transformers", "onnx", "polygraphy", "musetalk_engines", "musetalk_export"}


def modules_after(code: str) -> set[str]:
    """The names of all modules that a new Python has loaded when it ends, after the statements `code`."""
    told = f"import atexit, sys\natexit.register(lambda: print(*sorted(sys.modules), file=sys.stderr))\n{code}"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True)
    return set(done.stderr.splitlines()[-1].split())


def after_command(*arguments: str | Path) -> set[str]:
    """The same, after ``musetalk-edge`` with `arguments`, which has to succeed."""
    command = [str(argument) for argument in arguments]
    loaded = modules_after(
        f"from musetalk_runtime.cli.main import main\ntry:\n    status = main({command})\n"
        "except SystemExit as end:\n    status = end.code\nif not status:\n    sys.modules['it_succeeded'] = sys"
    )
    assert "it_succeeded" in loaded
    return loaded


def test_importing_the_package_loads_one_module() -> None:
    loaded = modules_after("import musetalk_runtime")
    assert [name for name in loaded if name.startswith("musetalk")] == ["musetalk_runtime"]
    assert not loaded & HEAVY


@pytest.mark.parametrize("command", ["", "prepare", "stream", "serve", "fleet", "bench", "doctor"])
def test_help_loads_no_library(command: str) -> None:
    loaded = after_command(*([command] if command else []), "--help")
    assert not loaded & HEAVY
    ours = {name for name in loaded if name.startswith("musetalk_runtime")}
    assert "musetalk_runtime.cli.main" in ours
    assert not {name for name in ours if name.startswith(("musetalk_runtime.avatar", "musetalk_runtime.service."))}
    assert len(ours) <= 30


def test_a_stream_loads_what_it_needs_and_no_more(
    bundle: Path, avatar: Path, speech: Callable[[float], Path], tmp_path: Path
) -> None:
    out = tmp_path / "talk.mp4"
    loaded = after_command("stream", "-b", bundle, "-a", avatar, "--audio", speech(1.0), "-o", out)
    assert out.stat().st_size > 1000
    assert {"numpy", "av", "onnxruntime"} <= loaded
    assert not loaded & (WORKSTATION | {"fastapi", "pydantic", "uvicorn", "tensorrt"})
    assert not {name for name in loaded if name.startswith(("musetalk_runtime.prepare", "musetalk_runtime.service."))}


def test_doctor_loads_neither_the_service_nor_the_images(bundle: Path) -> None:
    loaded = after_command("doctor", "-b", bundle)
    assert not loaded & (WORKSTATION | {"fastapi", "pydantic", "uvicorn"})
    assert not {name for name in loaded if name.startswith(("musetalk_runtime.prepare", "musetalk_runtime.service."))}
