"""The registry of a fleet: versions of bundles and avatars in a folder or an object store, by their hashes.

    bundles/student/HASH/manifest.json ...   bundles/student/current   avatars/anna/HASH/...   avatars/anna/copies

``HASH`` is the SHA-256 of the manifest, which has those of all other files. ``current`` holds one. ``copies`` holds on
how many devices an avatar is wanted: on all of them without it.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from musetalk_runtime.core.errors import InputNotFound, InvalidArgument, InvalidFolder, OutputError, one_line
from musetalk_runtime.core.names import NAME
from musetalk_runtime.diagnostics.self_test import SCHEMAS, open_any
from musetalk_runtime.storage.folder import MANIFEST, MAX_MANIFEST_BYTES, kind_of, manifest_of, read_folder, sha256

Kind = Literal["bundle", "avatar"]

HASH = re.compile(r"[0-9a-f]{64}")
CURRENT, COPIES = "current", "copies"
MAX_POINTER_BYTES = 80
MAX_FILES = 100
MAX_BYTES = 64 << 30  # of one version
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class Registry:
    """The registry at `url`: a folder, or an address that fsspec knows (``s3://bucket/fleet``).

    Everything raises OutputError where the store fails. Raises InvalidArgument for an address that fsspec does not
    know, and a package that it needs is missing.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            self._files, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise InvalidArgument(f"registry {url}: {one_line(error)}") from None

    def publish(self, kind: Kind, name: str, folder: Path) -> str:
        """Put the bundle or avatar in `folder` there as the version to come, and make it current; gives its hash.

        Raises InvalidArgument, InputNotFound or InvalidFolder too.
        """
        version = self.add(kind, name, folder)
        self.point(kind, name, version)
        return version

    def add(self, kind: Kind, name: str, folder: Path) -> str:
        """Put the bundle or avatar in `folder` there, and leave the current one as it is; gives its hash."""
        if kind_of(folder) != kind:
            raise InvalidArgument(f"{folder} is no {kind}")
        manifest = read_folder(folder, kind, *SCHEMAS[kind])
        version = sha256(folder / MANIFEST)
        place = f"{self._place(kind, name)}/{version}"
        with _named(place):
            self._files.makedirs(place, exist_ok=True)
            for file in (*manifest["files"], MANIFEST):  # the manifest last: with it the version is whole
                self._files.put_file(str(folder / file), f"{place}/{file}")
        return version

    def point(self, kind: Kind, name: str, version: str) -> None:
        """Make a version current."""
        self._write(f"{self._place(kind, name)}/{CURRENT}", version)

    def current(self, kind: Kind, name: str) -> str | None:
        """The hash of the current version, if there is one."""
        text = self._read(f"{self._place(kind, name)}/{CURRENT}")
        return text if text and HASH.fullmatch(text) else None

    def set_copies(self, avatar: str, copies: int) -> None:
        """Want `avatar` on so many devices."""
        self._write(f"{self._place('avatar', avatar)}/{COPIES}", str(copies))

    def copies(self, avatar: str) -> int | None:
        """On how many devices `avatar` is wanted; None for all."""
        text = self._read(f"{self._place('avatar', avatar)}/{COPIES}")
        return int(text) if text and text.isdecimal() else None

    def names(self, kind: Kind) -> list[str]:
        """The names of the bundles or avatars there."""
        place = f"{self._root}/{kind}s"
        with _named(place):
            self._files.invalidate_cache()
            if not self._files.isdir(place):
                return []
            found = [str(path).rstrip("/").rpartition("/")[2] for path in self._files.ls(place, detail=False)]
        return sorted(name for name in found if NAME.fullmatch(name))

    def forget(self, kind: Kind, name: str) -> None:
        """Delete all versions of a bundle or avatar."""
        place = self._place(kind, name)
        with _named(place):
            if self._files.exists(place):
                self._files.rm(place, recursive=True)

    @contextmanager
    def fetched(self, kind: Kind, name: str, version: str) -> Iterator[Path]:
        """Give a folder with a version, whose hashes were checked; it is deleted after the block.

        Raises InputNotFound where it is not there, and InvalidFolder for one that is damaged.
        """
        if not HASH.fullmatch(version):
            raise InvalidArgument(f"version {version!r}: expected the SHA-256 of a manifest")
        place = f"{self._place(kind, name)}/{version}"
        with tempfile.TemporaryDirectory(prefix="musetalk-edge-") as work:
            folder = Path(work) / name
            folder.mkdir()
            self._fetch(f"{place}/{MANIFEST}", folder / MANIFEST, MAX_MANIFEST_BYTES)
            if sha256(folder / MANIFEST) != version:
                raise InvalidFolder(f"{place}: its manifest does not have that hash: publish it again")
            for file, size in _files_of(folder):
                self._fetch(f"{place}/{file}", folder / file, size)
            open_any(folder).close()
            yield folder

    def _place(self, kind: Kind, name: str) -> str:
        if not NAME.fullmatch(name):
            raise InvalidArgument(f"name {name!r}: expected letters, digits, - and _, 64 at most")
        return f"{self._root}/{kind}s/{name}"

    def _fetch(self, source: str, file: Path, limit: int) -> None:
        with _named(source):
            if self._files.size(source) > limit:
                raise InvalidFolder(f"{source}: larger than {limit} bytes: publish it again")
            self._files.get_file(source, str(file))

    def _write(self, place: str, text: str) -> None:
        with _named(place):
            self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(place, text.encode())

    def _read(self, place: str) -> str | None:
        try:
            with _named(place):
                data: bytes = self._files.cat_file(place, 0, MAX_POINTER_BYTES)
        except InputNotFound:
            return None
        return data.decode("ascii", "replace").strip()


def _files_of(folder: Path) -> list[tuple[str, int]]:
    """The files that the manifest in `folder` lists, and their sizes; raises InvalidFolder for one out of form."""
    listed: Any = manifest_of(folder, kind_of(folder)).get("files")
    if not isinstance(listed, dict) or len(listed) > MAX_FILES:
        raise InvalidFolder(f"{folder / MANIFEST}: expected {MAX_FILES} files at most")
    found = []
    for name, entry in listed.items():
        size = entry.get("bytes") if isinstance(entry, dict) else None
        if not PLAIN.fullmatch(name) or type(size) is not int or not 0 <= size <= MAX_BYTES:
            raise InvalidFolder(f"{folder / MANIFEST}: {name!r} is no plain file with a size")
        found.append((name, size))
    return found


@contextmanager
def _named(place: str) -> Iterator[None]:
    """Have what the store raises name `place`."""
    try:
        yield
    except FileNotFoundError:
        raise InputNotFound(f"{place}: not in the registry") from None
    except (InvalidFolder, InvalidArgument):
        raise
    except Exception as error:  # each store raises errors of its own
        raise OutputError(f"{place}: {one_line(error) or type(error).__name__}") from error
