"""Fresh environments for the Pythons that this machine has: install, run the demo, open its file, run tests.

The lowest Python gets the lowest direct dependencies that pyproject.toml allows, the others the newest. The tests are
those that need no PyTorch and are not marked slow. The Python that runs this script has just run all of them with the
newest libraries (scripts/test), and does not run them again. One between two others runs the demo alone.
Prints a table; the exit status is 1 if anything failed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from musetalk_runtime.diagnostics.tested_versions import untested

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
DEMO_ALONE = ("3.12",)  # between two that run the tests
INSTALL_TIMEOUT_S, DEMO_TIMEOUT_S, TESTS_TIMEOUT_S = 600, 300, 2400
OPENED = """
import av, json, sys
from importlib.metadata import distributions
with av.open(sys.argv[1]) as container:
    frames = {stream.type: sum(1 for _ in container.decode(stream)) for stream in container.streams.video}
    sound = [stream.codec_context.name for stream in container.streams.audio]
packages = {found.name.lower(): found.version for found in distributions()}
print(json.dumps({"frames": frames["video"], "sound": sound, "packages": packages}))
"""


@dataclass
class Environment:
    """A Python, the choice of its libraries, and what was found with them."""

    python: Path
    version: str
    lowest: bool
    columns: list[str] = field(default_factory=list)
    failed: bool = False

    @property
    def kind(self) -> str:
        return "lowest" if self.lowest else "newest"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="*", default=PYTHONS, metavar="VERSION", help=f"default: {' '.join(PYTHONS)}")
    args = parser.parse_args()
    found = {version: find_python(version) for version in args.pythons}
    environments: list[Environment] = []
    for version, python in found.items():
        if python is None:
            print(f"Python {version}: not on this machine, skipped", flush=True)
        else:
            environments.append(Environment(python, version, lowest=not environments))
    with tempfile.TemporaryDirectory(prefix="test-versions-") as folder:
        command("uv", "build", "--quiet", "--out-dir", folder, timeout=INSTALL_TIMEOUT_S)
        wheel = next(Path(folder).glob("*.whl"))
        for environment in environments:
            run(environment, Path(folder) / f"{environment.version}-{environment.kind}", wheel)
    print("\n| Python | libraries | demo | tests | seconds |\n| --- | --- | --- | --- | --- |")
    for environment in environments:
        print(f"| {' | '.join([environment.version, *environment.columns])} |")
    return int(not environments or any(environment.failed for environment in environments))


def find_python(version: str) -> Path | None:
    """A Python of that version: on PATH, or one that pyenv has installed."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    on_path = shutil.which(f"python{version}")
    for python in [*([Path(on_path)] if on_path else []), *sorted(pyenv.glob(f"{version}.*/bin/python{version}"))]:
        if not subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True, check=False).returncode:
            return python
    return None


def run(environment: Environment, folder: Path, wheel: Path) -> None:
    """Do all of it with `wheel` in `folder`; what was found goes into `environment`."""
    start = time.monotonic()
    print(f"Python {environment.version}, {environment.kind} libraries: {environment.python}", flush=True)
    try:
        install(environment, folder, wheel, "cpu", "serve")
        environment.columns += demo(environment, folder)
        if not environment.lowest and environment.version == "{}.{}".format(*sys.version_info):
            environment.columns.append("in scripts/test")
        elif environment.version in DEMO_ALONE:
            environment.columns.append("none")
        else:
            install(environment, folder, wheel, "cpu", "test")
            environment.columns.append(tests(folder))
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        environment.failed = True
        said = _text(error.stdout) + _text(error.stderr)
        print(said[-12_000:], f"{environment.version}: {error}", sep="\n", flush=True)
        environment.columns += ["failed"] * (3 - len(environment.columns))
    environment.columns.append(f"{time.monotonic() - start:.0f}")


def _text(output: str | bytes | None) -> str:
    """That of a command which ran out of time is in bytes."""
    return output.decode("utf-8", "replace") if isinstance(output, bytes) else output or ""


def install(environment: Environment, folder: Path, wheel: Path, *extras: str) -> None:
    """The wheel, and what pyproject.toml says that it needs: named there, so that these are direct dependencies."""
    if not folder.exists():
        command(environment.python, "-m", "venv", folder, timeout=INSTALL_TIMEOUT_S)
    resolution = "lowest-direct" if environment.lowest else "highest"
    pip = ["uv", "pip", "install", "--compile-bytecode", "--python", folder / "bin" / "python"]
    named = [word for extra in extras for word in ("--extra", extra)]
    command(*pip, "--resolution", resolution, "-r", "pyproject.toml", *named, timeout=INSTALL_TIMEOUT_S)
    command(*pip, "--no-deps", wheel, timeout=INSTALL_TIMEOUT_S)


def demo(environment: Environment, folder: Path) -> list[str]:
    """The libraries, and what is in the file that the demo made."""
    talk = folder / "talk.mp4"
    command(folder / "bin" / "musetalk-edge", "stream", "-o", talk, timeout=DEMO_TIMEOUT_S)
    found = json.loads(command(folder / "bin" / "python", "-c", OPENED, talk, timeout=DEMO_TIMEOUT_S))
    packages = found["packages"]
    if news := untested(packages):
        print(f"not in musetalk_runtime/diagnostics/tested_versions.py yet: {', '.join(news)}", flush=True)
    names = ("numpy", "av", "opencv-python-headless", "onnxruntime", "fastapi", "uvicorn", "uvloop", "websockets")
    libraries = ", ".join(f"{name} {packages[name]}" for name in names)
    return [f"{environment.kind}: {libraries}", f"{found['frames']} frames, {' '.join(found['sound'])}"]


def tests(folder: Path) -> str:
    """The last line of pytest's report."""
    options = ["-q", "-rfE", "--tb=short", "-n", "3", "--dist", "loadfile", "-p", "no:cacheprovider"]
    chosen = ["-m", "not appliance and not slow", "tests"]
    said = command(folder / "bin" / "python", "-m", "pytest", *options, *chosen, timeout=TESTS_TIMEOUT_S)
    return said.splitlines()[-1].strip("= ")


def command(*words: object, timeout: float) -> str:
    """Run a command in the checkout; raises CalledProcessError with what it said."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [str(word) for word in words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout,
        check=True,
    )  # fmt: skip
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
