"""Which module may import which: see docs/architecture.md."""

from collections.abc import Iterator

import pytest

from helpers.imports import imported_by, modules

RUNTIME = "musetalk_runtime"
PACKAGES = {  # and which of the others each may import
    RUNTIME: set(),
    "musetalk_engines": {RUNTIME},
    "musetalk_export": {RUNTIME},
    "musetalk_distill": {RUNTIME, "musetalk_export"},
    "musetalk_drawn": {RUNTIME, "musetalk_export", "musetalk_distill"},
}
LAYERS = [  # of the runtime, from the bottom; a module may import its own folder and the layers before it
    "core", "storage", "audio", "tts", "avatar", "backends.cuda", "frame", "backends.interface", "backends.crossfade",
    "backends.ort", "backends.trt", "bundle", "certification", "frame_rate", "output", "session_hooks",
    "speech_renderer", "session", "prepare.source", "prepare", "demo", "diagnostics", "update", "service.errors",
    "service.metrics", "service.security", "service.delivery", "service.catalog", "service.session",
    "service.scheduling", "service.avatars", "service.webrtc", "service.settings", "service.sessions",
    "service.service", "service.api", "service.http", "fleet.session_id", "fleet.directory", "fleet.device_client",
    "fleet.registry", "fleet.rolling_update", "fleet.front", "fleet.device", "fleet.cluster", "integrations",
    "cli", "_pyinstaller",
]  # fmt: skip
HEAVY = {
    "torch", "diffusers", "transformers", "onnx", "onnx_graphsurgeon", "polygraphy", "safetensors", "accelerate",
}  # fmt: skip
MOST_FILES = 20  # in one folder


def layer(module: str) -> int:
    """The place of a module of the runtime in LAYERS; -1 for the package itself, which only has its version."""
    name = module.removeprefix(RUNTIME).removeprefix(".")
    if not name:
        return -1
    found = [k for k, prefix in enumerate(LAYERS) if name == prefix or name.startswith(f"{prefix}.")]
    if not found and any(prefix.startswith(f"{name}.") for prefix in LAYERS):
        return -1  # a folder whose parts are in layers of their own: its __init__ has only a docstring
    assert found, f"{module} is in none of the layers"
    return max(found, key=lambda k: len(LAYERS[k]))  # a folder may be below what it lies in


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_those_below(package: str) -> None:
    for module in _of(package):
        tops = {name.partition(".")[0] for name in imported_by(module)} & PACKAGES.keys()
        assert tops <= {package} | PACKAGES[package], module


def test_the_runtime_imports_nothing_of_the_workstation() -> None:
    for module in _of(RUNTIME):
        assert not {name.partition(".")[0] for name in imported_by(module)} & HEAVY, module


def test_the_runtimes_layers_import_downwards() -> None:
    up = [
        f"{module} imports {name}"
        for module in _of(RUNTIME)
        if module != RUNTIME  # whose names are resolved on first use
        for name in imported_by(module)
        if name in modules() and name.startswith(RUNTIME) and layer(name) > layer(module)
    ]
    assert up == []


def test_no_import_goes_round_in_a_circle() -> None:
    """Those under TYPE_CHECKING count too."""
    finished: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in finished:
            for name in sorted(imported_by(module) & modules().keys() - {module}):
                visit(name, (*path, module))
            finished.add(module)

    for module in modules():
        visit(module, ())


def test_folders_stay_small() -> None:
    for folder in {file.parent for file in modules().values()}:
        files = [file.name for file in folder.glob("*.py") if file.name != "__init__.py"]
        assert len(files) <= MOST_FILES, folder


def _of(package: str) -> Iterator[str]:
    return (module for module in modules() if module.partition(".")[0] == package)
