"""The scripts and the examples, which nothing else runs or type-checks whole: what they take from us is there."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # and needs what scripts need, PyTorch among it

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*(ROOT / "scripts").rglob("*.py"), *(ROOT / "examples").rglob("*.py")])
OURS = ("musetalk_", "helpers.")
EXTRAS = "musetalk_runtime.integrations."  # which a Python without their packages cannot import


def names(script: Path) -> set[tuple[str, str]]:
    """What it imports from our packages and from the tests' helpers, also within functions."""
    imports = [node for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.ImportFrom)]
    return {
        (str(node.module), each.name) for node in imports for each in node.names if str(node.module).startswith(OURS)
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.relative_to(ROOT)))
def test_a_script_imports_what_is_there(script: Path) -> None:
    for module, name in sorted(names(script)):
        if module.startswith(EXTRAS):
            pytest.importorskip(module, exc_type=ImportError)
        found = import_module(module)
        assert hasattr(found, name), f"{module} has no {name}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.relative_to(ROOT)))
def test_a_script_assigns_nothing_that_it_imports(script: Path) -> None:
    module = ast.parse(script.read_text())
    imports = [node for node in module.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    imported = {each.asname or each.name for node in imports for each in node.names}
    assigned = {node.id for node in ast.walk(module) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert imported & assigned == set()


def test_scripts_are_found() -> None:
    assert len(SCRIPTS) > 30
    assert {module for script in SCRIPTS for module, _ in names(script)} > {
        "helpers.browser",
        "musetalk_runtime.bundle",
    }


def test_scripts_that_are_named_are_there() -> None:
    texts = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.json"), *SCRIPTS]
    found = {
        (text.name, named)
        for text in texts
        for named in re.findall(r"(?<![\w/])scripts/[\w./-]*\w", text.read_text(encoding="utf-8"))
    }
    assert len(found) > 100
    assert [each for each in sorted(found) if not (ROOT / each[1]).exists()] == []
