"""The link ``current`` in a folder of versions, which leads to the version in use."""

from pathlib import Path

CURRENT = "current"
MAX_VERSION = 999_999_999


def is_current(path: Path) -> bool:
    """Whether `path` is such a link."""
    return path.name == CURRENT and path.is_symlink() and is_version(str(path.readlink()))


def is_version(name: str) -> bool:
    """Whether a version may have this name: it is a number."""
    return name.isascii() and name.isdecimal() and len(name) <= len(str(MAX_VERSION))
