"""Every TensorRT name that the builder uses is one that the versions it is used with have.

``data/tensorrt_api/<version>.txt`` lists the public names of the ``tensorrt`` module and of its classes, one a line.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import ROOT
from musetalk_engines.trt.families.family import Family
from musetalk_engines.trt.families.registry import family_of
from musetalk_engines.trt.families.strongly_typed import StronglyTyped
from musetalk_engines.trt.families.weakly_typed import WeaklyTyped
from musetalk_runtime.backends.trt.tensorrt_api import RTX_MODULE
from musetalk_runtime.core.errors import MachineError

PACKAGE = ROOT / "engines" / "musetalk_engines" / "trt"
LISTINGS = {file.stem: set(file.read_text().split()) for file in (ROOT / "tests/data/tensorrt_api").glob("*.txt")}
RTX = "rtx-1.7.1"
STRONG = ["10.3.0", "10.16.1", "11.4.0", RTX]
MEASURING = ["10.3.0", "10.16.1", "11.4.0", "8.6.0"]
ONLY = {  # all others: every version
    "family.py": MEASURING,
    "weakly_typed.py": ["8.6.0"],
    "strongly_typed.py": STRONG,
    "rtx.py": [RTX],
}

# What the package's variables of these names hold, and what these methods return.
OBJECTS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "layer": "ILayer",
    "tensor": "ITensor",
}
RETURNS = {
    "ILayer.get_output": "ITensor",
    "IBuilderConfig.get_timing_cache": "ITimingCache",
    "OnnxParser.get_error": "ParserError",
}


def modules() -> list[Path]:
    """Those that use ``trt``, the TensorRT module of a family."""
    return [file for file in sorted(PACKAGE.rglob("*.py")) if re.search(r"\btrt\.[A-Z]", file.read_text())]


def names(tree: ast.AST) -> Iterator[str]:
    """``BuilderFlag.FP16`` for ``trt.BuilderFlag.FP16``, ``ILayer.type`` for ``layer.type``, overridden methods."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (name := resolve(node)) and "__" not in name:
            yield name
        if isinstance(node, ast.ClassDef):
            bases = [name for base in node.bases if (name := resolve(base))]
            methods = [
                child.name for child in node.body if isinstance(child, ast.FunctionDef) and not child.decorator_list
            ]
            yield from (f"{base}.{method}" for base in bases for method in methods if not method.startswith("_"))


def resolve(node: ast.expr) -> str | None:
    """The TensorRT name of an expression, None if it is none."""
    if isinstance(node, ast.Name):
        return OBJECTS.get(node.id)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return RETURNS.get(resolve(node.func) or "")
    if isinstance(node, ast.Attribute):
        if ast.unparse(node.value) in {"trt", "self.tensorrt"}:
            return node.attr
        owner = resolve(node.value)
        return f"{owner}.{node.attr}" if owner else None
    return None


@pytest.mark.parametrize("file", modules(), ids=lambda file: file.name)
def test_names_exist_in_every_version_they_are_used_with(file: Path) -> None:
    used = set(names(ast.parse(file.read_text())))
    assert used
    for version in ONLY.get(file.name, [*STRONG, "8.6.0"]):
        assert used <= LISTINGS[version], f"{file.name}, TensorRT {version}: {sorted(used - LISTINGS[version])}"


def test_the_names_are_found_in_the_code() -> None:
    used = {file.name: set(names(ast.parse(file.read_text()))) for file in modules()}
    assert used.keys() == {"engine.py", "family.py", "rtx.py", "strongly_typed.py", "weakly_typed.py"}
    assert {"BuilderFlag.FP16", "ILayer.set_output_type", "ITensor.is_network_output"} <= used["weakly_typed.py"]
    assert {"INetworkDefinition.mark_debug", "IBuilderConfig.progress_monitor"} <= used["strongly_typed.py"]
    assert {"ILogger.log", "OnnxParser.parse_from_file"} <= used["engine.py"]
    assert {"BuilderFlag.TF32", "MemoryPoolType.WORKSPACE"} <= used["family.py"]
    assert {"ComputeCapability", "IBuilderConfig.set_compute_capability"} <= used["rtx.py"]
    assert {"IOptimizationProfile.set_shape", "ITimingCache.serialize", "ParserError.desc"} <= used["engine.py"]
    assert {"IProgressMonitor.step_complete", "IProgressMonitor.phase_start"} <= used["strongly_typed.py"]


def test_the_listing_of_tensorrt_for_rtx_is_that_of_the_library() -> None:
    rtx: Any = pytest.importorskip(RTX_MODULE, reason="needs TensorRT for RTX")
    assert LISTINGS[RTX] == {
        name
        for top, value in vars(rtx).items()
        if not top.startswith("_") and not inspect.ismodule(value)
        for name in [top, *(f"{top}.{member}" for member in dir(value) if inspect.isclass(value))]
        if "._" not in name
    }


def test_no_listed_version_lets_a_wrong_name_pass() -> None:
    code = "trt.BuilderFlag.FP16; network.mark_debug(layer.get_output(0)); layer.precision; config.nonsense"
    found = set(names(ast.parse(code)))
    assert found - LISTINGS["11.4.0"] == {"BuilderFlag.FP16", "ILayer.precision", "IBuilderConfig.nonsense"}
    assert found - LISTINGS["8.6.0"] == {"INetworkDefinition.mark_debug", "IBuilderConfig.nonsense"}


@pytest.mark.parametrize(
    ("version", "family"),
    [
        ("8.6.0", WeaklyTyped),
        ("8.6.1.6", WeaklyTyped),
        ("10.3.0", StronglyTyped),
        ("10.16.1.11", StronglyTyped),
        ("11.4.0", StronglyTyped),
    ],
)
def test_each_version_has_its_family(version: str, family: type[Family]) -> None:
    assert type(family_of(version)) is family


@pytest.mark.parametrize("version", ["7.2.3.4", "8.5.3.1", "9.3.0"])
def test_a_version_that_is_not_supported(version: str) -> None:
    with pytest.raises(MachineError, match=rf"TensorRT {version} is not supported: install 8\.6, 10 or 11"):
        family_of(version)
