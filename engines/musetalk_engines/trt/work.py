"""Where plans lie from when they are certified until their bundle is whole."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from musetalk_engines.trt.certify import Certified
from musetalk_engines.trt.profiles import Profile
from musetalk_runtime.storage.folder import real_folder, sha256
from musetalk_runtime.storage.lock import lock_folder, work_key
from musetalk_runtime.storage.output_file import write_output


@dataclass(frozen=True)
class Engine:
    """A certified plan: ``ms`` a run by profile, as host arrays in and out."""

    graph: str
    file: str
    profiles: list[Profile]
    variant: str
    certified: list[Certified]
    ms: list[float]
    build_seconds: float
    bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """For the manifest, where it stands under its graph's name beside the hashes of all files."""
        return {name: value for name, value in asdict(self).items() if name not in {"graph", "sha256"}}


class WorkFolder:
    """Plans and their records, ``<graph>.plan`` and ``<graph>.json``, in a hidden folder beside the bundle to be.

    A record holds the key of its plan: a hash of everything that the plan comes from. What has another key is deleted.
    Where the bundle's place is a link, the folder lies beside what it leads to.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        place = real_folder(output)
        self.path = place.with_name(f".{place.name}.work")

    def __enter__(self) -> "WorkFolder":
        """Make the folder if need be and lock it; raises InvalidArgument while another build is at work in it."""
        self._lock = lock_folder(self.path, f"{self.output} is being built")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unlock it; it goes, too, if nothing in it is worth keeping."""
        if not any(self.path.glob("*.json")):
            self.remove()
        self._lock.close()

    def plan(self, graph: str) -> Path:
        return self.path / f"{graph}.plan"

    def engine(self, graph: str, ingredients: Mapping[str, Any], build: Callable[[], Engine]) -> tuple[Engine, bool]:
        """The engine that an earlier run certified, or else what `build` gives, kept; and whether it was kept."""
        key = work_key(ingredients)
        kept = self._kept(graph, key)
        if kept:
            return kept, True
        self.plan(graph).unlink(missing_ok=True)
        self._record(graph).unlink(missing_ok=True)
        engine = build()
        write_output(self._record(graph), json.dumps({"key": key, "engine": asdict(engine)}))
        return engine, False

    def lend(self, file: Path, folder: Path) -> None:
        """Put `file` in `folder` too, as a link where the file system has them: here it stays until `remove`."""
        try:
            os.link(file, folder / file.name)
        except OSError:
            shutil.copyfile(file, folder / file.name)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _record(self, graph: str) -> Path:
        return self.path / f"{graph}.json"

    def _kept(self, graph: str, key: str) -> Engine | None:
        try:
            record = json.loads(self._record(graph).read_text(encoding="utf-8"))
            fields = record["engine"]
            rows = [Certified(**row) for row in fields.pop("certified")]
            profiles = [{name: tuple(shape) for name, shape in shapes.items()} for shapes in fields.pop("profiles")]
            engine = Engine(**fields, certified=rows, profiles=profiles)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None  # none, or of another version
        if record["key"] != key or not self.plan(graph).is_file() or sha256(self.plan(graph)) != engine.sha256:
            return None
        return engine
