"""Folders with a ``manifest.json``: the one format of model sets, bundles and avatars.

The manifest is a JSON object with ``kind``, ``schema`` (raised when the meaning changes), ``created_by``, and
``files``: name to ``{"bytes": int, "sha256": hex}``. A folder is written aside and renamed into place whole; where its
place is a link, the folder that this leads to is replaced, and the link stays.
"""

import errno
import glob
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from musetalk_runtime.core.errors import InputNotFound, InvalidArgument, InvalidFolder, MuseTalkEdgeError, OutputError
from musetalk_runtime.core.version import __version__
from musetalk_runtime.storage.current import is_current
from musetalk_runtime.storage.destination import Destination, followed
from musetalk_runtime.storage.durable import aside_stem, hold, put_folder, remove, sweep, sync

Manifest = dict[str, Any]

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20
READ_BYTES = 1 << 20
DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def read_folder(path: Path, kind: str, *schemas: int) -> Manifest:
    """The manifest of the folder at `path`, once its kind, its schema, which is one of `schemas`, and every file's size
    and hash are checked.

    Raises InputNotFound, or InvalidFolder naming the file and what is wrong with it.
    """
    manifest = manifest_of(path, kind)
    if type(manifest.get("schema")) is not int or manifest["schema"] not in schemas:
        raise InvalidFolder(
            f"{path}: this {kind} has schema {manifest.get('schema')!r}, this version ({__version__}) reads "
            f"{' and '.join(map(str, schemas))}: "
            f"make it again with this version, or use the version that made it ({manifest.get('created_by')!r})"
        )
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise InvalidFolder(f"{path / MANIFEST}: it lists no files")
    for name, entry in files.items():
        _check_file(path, name, entry)
    return manifest


def manifest_of(path: Path, kind: str) -> Manifest:
    """The manifest of the folder at `path`, its files not looked at; raises InputNotFound or InvalidFolder."""
    manifest = _load_manifest(path, kind)
    if manifest.get("kind") != kind:
        raise InvalidFolder(f"{path}: expected a {kind}, found {manifest.get('kind')!r}")
    return manifest


def kind_of(path: Path) -> str:
    """What kind of folder is at `path`, by its manifest alone; raises InputNotFound or InvalidFolder."""
    return str(_load_manifest(path, "folder with a manifest").get("kind"))


def settled(path: Path) -> Path:
    """What `path` names now, if it is a link that an update may switch, so that all of one thing is read."""
    return path.parent / path.readlink() if path.is_symlink() else path


def listed_file(path: Path, manifest: Manifest, name: str) -> Path:
    """The file `name` of the folder at `path`; raises InvalidFolder unless the manifest lists it, and so its hash."""
    if name not in manifest["files"]:
        raise InvalidFolder(f"{path / MANIFEST}: it does not list {name}")
    return path / name


@contextmanager
def new_folder(path: Path, kind: str, schema: int) -> Iterator[tuple[Path, Manifest]]:
    """Give an empty folder and a manifest to fill; on leaving, hash its files and rename the folder to `path`.

    An older folder of the same kind at `path` is replaced; anything else there is refused (InvalidArgument). When the
    block raises, nothing is left behind.
    """
    check_destination(path, kind)
    with written_aside(path) as work:
        content: Manifest = {}
        yield work, content
        files = {file.name: _describe(file) for file in sorted(work.iterdir())}
        header = {"kind": kind, "schema": schema, "created_by": f"musetalk-edge {__version__}"}
        text = json.dumps({**header, **content, "files": files}, indent=1)
        (work / MANIFEST).write_text(text + "\n", encoding="utf-8")


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path`, or in the nearest folder above that exists; on leaving, rename it to `path`.

    Links are followed. What is at `path` is replaced; a power cut leaves the one or the other, whole. When the block
    raises, nothing is left behind; what a process that was killed left behind is removed here. A disk that is full
    raises OutputError, which names `path`.
    """
    with _full_disk_named(path):
        yield from _written_aside(real_folder(path))


def _written_aside(path: Path) -> Iterator[Path]:
    above = next(folder for folder in path.parents if folder.exists())
    stem = aside_stem(path)
    sweep(above, f"{glob.escape(stem)}.*.partial")
    work = Path(tempfile.mkdtemp(prefix=f"{stem}.", suffix=".partial", dir=above))
    held = hold(work)
    try:
        yield work
        work.chmod(0o755)
        path.parent.mkdir(parents=True, exist_ok=True)
        put_folder(work, path)
        for folder in path.parents:  # those made just now, up to one that names the first of them
            sync(folder)
            if folder == above:
                break
    finally:
        os.close(held)
        remove(work)


@contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, MuseTalkEdgeError) or error.errno not in DISK_FULL_ERRORS:
            raise
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error


def real_folder(path: Path) -> Path:
    """The folder that `path` leads to, links followed, whether there is one yet or not; raises OutputError."""
    place = Destination(path)
    if not place.replaceable:
        raise OutputError(f"{path}: leads into /dev or /proc, where no folder can be made: choose another output")
    return place.path.absolute()


def sha256(file: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def check_destination(path: Path, kind: str) -> None:
    """Raise InvalidArgument, or OutputError, unless `path` is free or leads to an older folder of this kind."""
    if not path.name:
        raise InvalidArgument(f"{path}: give the new {kind} a folder of its own")
    real_folder(path)
    for step in followed(path):
        if is_current(step):
            raise InvalidArgument(
                f"{path} is the current version of {step.parent}, which 'musetalk-edge update' alone changes: give the "
                f"new {kind} a folder of its own"
            )
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        try:
            manifest_of(path, kind)
        except (InputNotFound, InvalidFolder):
            raise InvalidArgument(f"{path} exists and is no {kind}: choose another output, or move it away") from None


def _load_manifest(path: Path, kind: str) -> Manifest:
    file = path / MANIFEST
    if not path.exists():
        raise InputNotFound(f"{path}: no such {kind}")
    if not file.is_file():
        raise InvalidFolder(f"{path}: not a {kind}: it has no {MANIFEST}")
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise InvalidFolder(f"{file}: {file.stat().st_size} bytes, a manifest has at most {MAX_MANIFEST_BYTES}")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidFolder(f"{file}: not valid JSON: {error}") from None
    if not isinstance(manifest, dict):
        raise InvalidFolder(f"{path}: expected a {kind}, found {type(manifest).__name__!r}")
    return manifest


def _check_file(folder: Path, name: str, entry: Any) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise InvalidFolder(f"{folder / MANIFEST}: {name!r} is no plain file name")
    file = folder / name
    if file.is_symlink() or not file.is_file():
        raise InvalidFolder(f"{file}: named in the manifest, and missing")
    if not isinstance(entry, dict) or not {"bytes", "sha256"} <= entry.keys():
        raise InvalidFolder(f"{folder / MANIFEST}: {name!r} has no size or no hash")
    if file.stat().st_size != entry["bytes"]:
        raise InvalidFolder(f"{file}: {file.stat().st_size} bytes, the manifest says {entry['bytes']}: copy it again")
    if sha256(file) != entry["sha256"]:
        raise InvalidFolder(f"{file}: its content does not match the hash in the manifest: copy it again")


def _describe(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": sha256(file)}
