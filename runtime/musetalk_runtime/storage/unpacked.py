"""A package's folder of data as files, where the package itself is in a zip archive."""

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

TOP = PurePosixPath()


def unpacked(package: str, name: str) -> Path:
    """The folder `name` of `package`, copied into the user's cache, or where that cannot be written a temporary folder.

    It is copied once: the copy's name holds a hash. Gives a path to nothing where the package has no such folder.
    """
    from importlib.resources import files  # which a package that lies in files has no need of

    source = files(package) / name
    if not source.is_dir():
        return Path(str(source))
    try:
        return _copied(source, _cache())
    except (OSError, RuntimeError):  # no home
        folder = tempfile.mkdtemp(prefix="musetalk-edge-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return _copied(source, Path(folder))


def _cache() -> Path:
    """``musetalk-edge`` in ``XDG_CACHE_HOME``, which is ``~/.cache`` unless it is set."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "musetalk-edge"


def _copied(source: Any, cache: Path) -> Path:
    """`source` in `cache`, whole from the moment that it is there."""
    place = cache / f"{source.name}-{_key(source)}"
    if not place.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".", suffix=".partial") as aside:
            whole = Path(aside, source.name)
            for relative, file in _files(source):
                (whole / relative).parent.mkdir(parents=True, exist_ok=True)
                with file.open("rb") as packed, (whole / relative).open("wb") as copy:
                    shutil.copyfileobj(packed, copy)
            try:
                whole.rename(place)
            except OSError:
                if not place.is_dir():  # no other process was first
                    raise
    return place


def _key(source: Any) -> str:
    """The hash of all names, of the manifests, which hold those of files beside them, and of files without one."""
    digest = hashlib.sha256()
    for relative, file in sorted(_files(source), key=lambda item: item[0]):
        digest.update(f"{relative}\n".encode())
        if relative.name == "manifest.json" or len(relative.parts) == 1:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _files(folder: Any, at: PurePosixPath = TOP) -> Iterator[tuple[PurePosixPath, Any]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _files(entry, at / entry.name)
        else:
            yield at / entry.name, entry
