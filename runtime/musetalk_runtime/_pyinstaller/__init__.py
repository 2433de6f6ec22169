"""The PyInstaller hook of this package, which PyInstaller finds by the entry point ``pyinstaller40``."""

from pathlib import Path


def hook_dirs() -> list[str]:
    """The folders in which PyInstaller looks for hooks."""
    return [str(Path(__file__).parent)]
