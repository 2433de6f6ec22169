"""Bundles and avatars that differ from others in one file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from musetalk_runtime.storage.folder import MANIFEST, sha256


def edited(source: Path, target: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    """A copy whose file `name` is another, and whose manifest says so."""
    shutil.copytree(source, target)
    file = target / name
    file.write_bytes(change(file.read_bytes()))
    if name != MANIFEST:
        manifest = json.loads((target / MANIFEST).read_text())
        manifest["files"][name] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
        (target / MANIFEST).write_text(json.dumps(manifest))
    return target


def renewed(source: Path, target: Path) -> Path:
    """A copy that is another version: its manifest has a remark."""
    return edited(source, target, MANIFEST, lambda text: text.replace(b"{", b'{"remark": "newer",', 1))
