"""The imports of the project's modules, as their source says them, those under TYPE_CHECKING too."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from helpers.paths import ROOT

SOURCES = ("runtime", "engines", "export")


@cache
def modules() -> dict[str, Path]:
    """Every module by its dotted name; a package has the name of its folder."""
    found: dict[str, Path] = {}
    for source in SOURCES:
        for file in (ROOT / source).rglob("*.py"):
            parts = file.relative_to(ROOT / source).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


@cache
def imported_by(module: str) -> frozenset[str]:
    """The dotted names that `module` imports: of the project's modules, and others as they stand."""
    return frozenset(_imports(ast.parse(modules()[module].read_text())))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module
            assert node.level == 0, "relative imports are not used here"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in modules() else node.module
