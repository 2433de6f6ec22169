"""Provisioning of a device: which bundle and avatars it serves, healed where its disk is damaged."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from musetalk_runtime.avatar.pack import AVATAR_KIND, Avatar
from musetalk_runtime.bundle import BUNDLE_KIND, Bundle
from musetalk_runtime.certification.certify import ensure_certified
from musetalk_runtime.core.errors import InvalidArgument, MuseTalkEdgeError, one_line
from musetalk_runtime.core.model import ModelSpec
from musetalk_runtime.core.names import NAME
from musetalk_runtime.storage.current import CURRENT
from musetalk_runtime.storage.durable import remove
from musetalk_runtime.storage.folder import kind_of, manifest_of
from musetalk_runtime.update.versions import Check, Progress, Versions

CPU = "onnxruntime"
STUDENT, NEW, REFUSED = "bundles/student", "new.bundle", "new.bundle.refused"
IMAGE_BUNDLE, IMAGE_MODELSET, IMAGE_CPU_BUNDLE, AVATARS = "student.bundle", "student.modelset", "cpu.bundle", "avatars"
FAILURES = (MuseTalkEdgeError, OSError)


@dataclass(frozen=True)
class Faces:
    """What a device serves: a bundle, and the avatars that go with it, by name. Without one it is the demo's."""

    bundle: Path | None
    avatars: dict[str, Path]

    def arguments(self) -> list[str]:
        """The arguments of ``musetalk-edge serve``."""
        if self.bundle is None or not self.avatars:
            return []
        return ["-b", str(self.bundle), *(f"-a{name}={path}" for name, path in self.avatars.items())]


class Provisioner:
    """Finds what a device serves, of the versions in the folder `state` and of what the folder `image` brings.

    `image` has ``student.bundle``, or ``student.modelset``, of which build-engines makes a bundle here with the options
    `build`, unless they are None, and ``cpu.bundle`` and ``avatars/NAME``. A bundle at ``new.bundle`` in `state` goes
    before those. What is damaged is replaced by another version that is whole, else by the image's. Where `state`
    cannot be written, what works there or in `image` is served as it is. `progress` is told what was found wrong, in
    lines.
    """

    def __init__(self, state: Path, image: Path, build: list[str] | None, progress: Progress) -> None:
        self._state, self._image = state, image
        self._build, self._say = build, progress
        self._failed: dict[Path, Exception] = {}  # of bundles that were tried

    def faces(self) -> Faces:
        """What can be served."""
        bundle, avatars = self._bundle(), {}
        if bundle:
            spec = ModelSpec.from_json(manifest_of(bundle, BUNDLE_KIND).get("model"), str(bundle))
            folders = (path for folder in (self._state, self._image) for path in (folder / AVATARS).glob("*"))
            names = sorted({path.name for path in folders if NAME.fullmatch(path.name)})
            found = {name: self._avatar(name, spec) for name in names}
            avatars = {name: path for name, path in found.items() if path}
        if not avatars:
            self._say("nothing of this device or of its image works, so the demo speaks: bring a bundle and an avatar")
        return Faces(bundle, avatars)

    def _bundle(self) -> Path | None:
        versions = self._versions(STUDENT)
        current = versions.path / CURRENT
        if self._healed(versions, self._runs, lambda path: _backend(path) not in (CPU, None)):
            return current
        for source in self._own_engines():
            if self._added(versions, source, BUNDLE_KIND):
                return current
        if self._healed(versions, self._runs):
            return current
        self._say("no engines of this device's own: taking those for the CPU")
        fallback = self._image / IMAGE_CPU_BUNDLE
        if self._added(versions, fallback, BUNDLE_KIND):
            return current
        return fallback if self._works(fallback, self._runs) else None

    def _own_engines(self) -> Iterator[Path]:
        """Bundles to try, one after the other; the last is built once the others were refused."""
        new = self._state / NEW
        if os.path.lexists(new):
            yield new
        if (self._image / IMAGE_BUNDLE).exists():
            yield self._image / IMAGE_BUNDLE
        if self._build is not None and (self._image / IMAGE_MODELSET).exists():
            self._say("building the engines of this device; this takes minutes, once")
            command = ["build-engines", str(self._image / IMAGE_MODELSET), "-o", str(new), "--backend", "tensorrt"]
            with suppress(OSError):  # the image has no such command
                if subprocess.run([*command, *self._build], check=False).returncode == 0:
                    yield new

    def _avatar(self, name: str, spec: ModelSpec) -> Path | None:
        versions, source = self._versions(f"{AVATARS}/{name}"), self._image / AVATARS / name

        def fits(path: Path) -> None:
            with Avatar.open(path) as avatar:
                avatar.check(spec)

        if self._healed(versions, fits):
            return versions.path / CURRENT
        if source.exists() and self._works(source, fits):
            return versions.path / CURRENT if self._added(versions, source, AVATAR_KIND) else source
        self._say(f"avatar {name} is left out")
        return None

    def _versions(self, name: str) -> Versions:
        """Those in the folder `name` of the state. What is no folder in its place, or above, is moved away."""
        path = self._state / name
        for place in (path.parent, path):
            if os.path.lexists(place) and not place.is_dir():
                self._say(f"{place} is no folder: moved to {place.name}.damaged")
                with suppress(OSError):
                    place.replace(place.with_name(f"{place.name}.damaged"))
        return Versions(path)

    def _healed(self, versions: Versions, works: Check, others: Callable[[Path], bool] = Path.is_dir) -> bool:
        """Whether a version works and is current, or was made so: it, or else one of the `others`."""
        if not versions.path.is_dir():
            return False
        try:
            return versions.heal(works, others, self._say) is not None
        except FAILURES as error:  # a disk that is full, or can only be read
            self._say(f"{versions.path}: nothing can be changed there: {one_line(error)}")
            return self._works(versions.path / CURRENT, works)

    def _added(self, versions: Versions, source: Path, kind: str) -> bool:
        """Whether `source` is a version now. One that was brought is moved away if it is refused."""
        try:
            if (found := kind_of(source)) != kind:
                raise InvalidArgument(f"{source}: expected a {kind}, found a {found}")
            versions.add(source, self._say)
        except FAILURES as error:
            self._say(f"{source.name} is left out: {one_line(error)}")
            if source.parent == self._state:
                with suppress(OSError):
                    remove(self._state / REFUSED)
                    source.rename(self._state / REFUSED)
            return False
        if source.parent == self._state:
            shutil.rmtree(source, ignore_errors=True)
        return True

    def _runs(self, path: Path) -> None:
        place = path.resolve()
        if place in self._failed:
            raise self._failed[place]
        try:
            with Bundle.open(path) as bundle:
                ensure_certified(bundle, self._say)
                bundle.engines.check()
        except FAILURES as error:
            self._failed[place] = error
            raise

    def _works(self, path: Path, works: Check) -> bool:
        try:
            works(path)
        except FAILURES as error:
            self._say(one_line(error))
            return False
        return True


def _backend(bundle: Path) -> str | None:
    """What runs the bundle, by its manifest alone; None where there is none."""
    try:
        return str(manifest_of(bundle, BUNDLE_KIND).get("backend"))
    except FAILURES:
        return None
