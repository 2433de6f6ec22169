"""The link in a folder of versions that leads to the one in use."""

from pathlib import Path

CURRENT = "current"


def is_current(path: Path) -> bool:
    """Whether `path` is such a link."""
    return path.name == CURRENT and path.is_symlink() and is_version(str(path.readlink()))


def is_version(name: str) -> bool:
    """Whether a version may have this name: it is a number."""
    return name.isascii() and name.isdecimal() and len(name) < 10
