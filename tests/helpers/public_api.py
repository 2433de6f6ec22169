"""The public API as text, read from the sources: names, signatures, attributes. Run, it prints it."""

import ast
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import musetalk_runtime

INTERNAL = {"Avatar.__init__", "Avatar.check", "Bundle.__init__", "Bundle.engines", "DeviceFrame.__init__"}
INTERNAL |= {"VideoOptions.peak_kbps"}
SPECIAL = ("__init__", "__len__", "__iter__", "__cuda_array_interface__", "__dlpack__", "__dlpack_device__")


def public_api() -> str:
    """A line for every public name, and below it for every public method and attribute of a class."""
    return "".join(f"{line}\n" for name in musetalk_runtime.__all__ for line in _described(name))


def attributes(name: str) -> list[str]:
    """The attributes that the docstring of the class `name` promises."""
    told = (ast.get_docstring(_class(name)) or "").partition("Attributes:")[2].partition("\n\n")[0]
    return re.findall(r"``(\w+)``", re.sub(r"\(.*?\)", "", told, flags=re.DOTALL))


def undocumented() -> list[str]:
    """Public classes and methods without a docstring."""
    classes = [_class(name) for name in musetalk_runtime.__all__ if name[0] != "_"]
    methods = [(f"{node.name}.{method.name}", method) for node in classes for method in _methods(node)]
    named = [*((node.name, node) for node in classes), *(pair for pair in methods if "__" not in pair[0])]
    return [name for name, node in named if not ast.get_docstring(node)]


def _described(name: str) -> Iterator[str]:
    if name == "__version__":
        yield "__version__: str"
        return
    node = _class(name)
    yield f"class {name}({', '.join(ast.unparse(base) for base in node.bases)})"
    if promised := attributes(name):
        yield f"    attributes: {', '.join(promised)}"
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.target.id[0] != "_":
            yield f"    {ast.unparse(item)}"
    for method in _methods(node):
        decorators = "".join(f"@{ast.unparse(decorator)} " for decorator in method.decorator_list)
        returns = ast.unparse(method.returns) if method.returns else "unknown"
        yield f"    {decorators}{method.name}({_arguments(method)}) -> {returns}"


def _arguments(method: ast.FunctionDef) -> str:
    """Without `direction`, which is the service's."""
    kept = [text for text in ast.unparse(method.args).split(", ") if not text.startswith("direction:")]
    return ", ".join(kept)


def _methods(node: ast.ClassDef) -> list[ast.FunctionDef]:
    methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
    public = [method for method in methods if method.name[0] != "_" or method.name in SPECIAL]
    return [method for method in public if f"{node.name}.{method.name}" not in INTERNAL]


def _class(name: str) -> ast.ClassDef:
    spec = find_spec(f"musetalk_runtime.{musetalk_runtime._HOMES[name]}")
    assert spec
    assert spec.origin
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


if __name__ == "__main__":
    print(public_api(), end="")
