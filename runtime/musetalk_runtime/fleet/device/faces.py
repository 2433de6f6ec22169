"""The bundles and avatars of a device, taken from a registry by their hashes."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from musetalk_runtime.core.errors import InputNotFound, MuseTalkEdgeError, one_line
from musetalk_runtime.core.names import NAME
from musetalk_runtime.diagnostics.self_test import self_test
from musetalk_runtime.fleet.registry import Registry
from musetalk_runtime.storage.current import CURRENT
from musetalk_runtime.storage.durable import remove
from musetalk_runtime.storage.folder import MANIFEST, sha256, written_aside
from musetalk_runtime.storage.output_file import write_output
from musetalk_runtime.update.versions import Versions

log = logging.getLogger(__name__)


class Faces:
    """What the folder `state` has of `registry`: versions of bundles, and avatars, also those uploaded here.

    Everything waits for disk and network. ``avatars`` is the folder of avatars that the service is given.
    """

    def __init__(self, state: Path, registry: Registry | None) -> None:
        self.avatars = state / "avatars"
        self._bundles = state / "bundles"
        self._listed = state / "listed"  # has a file for each avatar here that the registry has, or had
        self._registry = registry
        for folder in (self.avatars, self._bundles, self._listed):
            folder.mkdir(parents=True, exist_ok=True)

    def bundle(self, entry: str) -> Path:
        """Where the current version of a bundle is."""
        return self._bundles / entry / CURRENT

    def version(self, entry: str) -> str | None:
        """The hash of the current version of a bundle, None where there is none."""
        manifest = self.bundle(entry) / MANIFEST
        return sha256(manifest) if manifest.is_file() else None

    def take_bundle(self, entry: str, version: str, progress: Callable[[str], None]) -> None:
        """Have a version of a bundle tried out and made current; raises MuseTalkEdgeError or OSError, with nothing
        changed.
        """
        if self.version(entry) != version:
            with self._required().fetched("bundle", entry, version) as folder:
                Versions(self._bundles / entry).add(folder, progress)

    def take_avatar(self, name: str) -> bool:
        """Fetch an avatar and try it out, unless there is one of its name; whether it is new here.

        Raises MuseTalkEdgeError or OSError.
        """
        place = self.avatars / name
        if place.exists():
            return False
        registry = self._required()
        if (version := registry.current("avatar", name)) is None:
            raise InputNotFound(f"avatar {name}: not in the registry")
        with registry.fetched("avatar", name, version) as folder:
            self_test(folder, log.info)
            with written_aside(place) as work:
                shutil.copytree(folder, work, dirs_exist_ok=True)
        (self._listed / name).touch()
        return True

    def renew(self, entries: list[str]) -> None:
        """Take the versions of bundles that became current, and the avatars that are wanted on all devices, and delete
        avatars that were deleted from the registry. What fails is logged, and what was there is used.

        A version that was current when it was taken is not taken again: a rolling update may have brought another.
        """
        if self._registry is None:
            return
        for entry in entries:
            try:
                version, seen = self._registry.current("bundle", entry), self._bundles / f"{entry}.seen"
                if version and not (seen.exists() and seen.read_text(encoding="ascii") == version):
                    self.take_bundle(entry, version, log.info)
                    write_output(seen, version, 0o644)
            except (MuseTalkEdgeError, OSError) as error:
                log.warning("bundle %s stays as it is: %s", entry, one_line(error))
        try:
            names = self._registry.names("avatar")
            if names:  # a store without any is more likely one that is not mounted
                for gone in {path.name for path in self._listed.iterdir()}.difference(names):
                    self.forget_avatar(gone)
            for name in names:
                if self._registry.copies(name) is None:
                    self.take_avatar(name)
        except (MuseTalkEdgeError, OSError) as error:
            log.warning("avatars stay as they are: %s", one_line(error))

    def publish_uploads(self) -> None:
        """Put avatars that were uploaded here into the registry; raises MuseTalkEdgeError or OSError."""
        if self._registry is None:
            return
        for listed in self._listed.iterdir():
            if not (self.avatars / listed.name).exists():  # it was deleted here
                listed.unlink()
        for path in self.avatars.iterdir():
            if NAME.fullmatch(path.name) and (path / MANIFEST).is_file() and not (self._listed / path.name).exists():
                self._registry.publish("avatar", path.name, path)
                (self._listed / path.name).touch()

    def forget_avatar(self, name: str) -> None:
        """Delete an avatar that the service does not have."""
        remove(self.avatars / name)
        (self._listed / name).unlink(missing_ok=True)

    def _required(self) -> Registry:
        if self._registry is None:
            raise InputNotFound("this device has no registry: give --registry")
        return self._registry
