"""The folder of certified plans, from which an interrupted build goes on."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from musetalk_engines.trt.certified_plan import CertifiedPlan
from musetalk_runtime.storage.folder import sha256
from musetalk_runtime.storage.lock import work_key
from musetalk_runtime.storage.output_file import write_output
from musetalk_runtime.storage.work_folder import WorkFolder


class PlanFolder(WorkFolder):
    """Plans and their records, ``<graph>.plan`` and ``<graph>.json``, until their bundle is whole.

    A record holds the key of its plan: a hash of everything that the plan comes from. What has another key is deleted.
    """

    activity = "being built"
    kept_files = "*.json"

    def plan_file(self, graph: str) -> Path:
        return self.path / f"{graph}.plan"

    def take_or_build(
        self, graph: str, ingredients: Mapping[str, Any], build: Callable[[], CertifiedPlan]
    ) -> tuple[CertifiedPlan, bool]:
        """The plan that an earlier run certified, or else what `build` gives, kept; and whether it was there."""
        key = work_key(ingredients)
        found = self._read(graph, key)
        if found:
            return found, True
        self.plan_file(graph).unlink(missing_ok=True)
        self._record(graph).unlink(missing_ok=True)
        built = build()
        write_output(self._record(graph), json.dumps({"key": key, "engine": asdict(built)}))
        return built, False

    def link_into(self, folder: Path, file: Path) -> None:
        """Put `file` in `folder` too, as a link where the file system has them: here it stays until `remove`."""
        try:
            os.link(file, folder / file.name)
        except OSError:
            shutil.copyfile(file, folder / file.name)

    def _record(self, graph: str) -> Path:
        return self.path / f"{graph}.json"

    def _read(self, graph: str, key: str) -> CertifiedPlan | None:
        try:
            record = json.loads(self._record(graph).read_text(encoding="utf-8"))
            found, found_key = CertifiedPlan.from_record(record["engine"]), record["key"]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None  # none, or of another version
        file = self.plan_file(graph)
        if found_key != key or not file.is_file() or sha256(file) != found.sha256:
            return None
        return found
