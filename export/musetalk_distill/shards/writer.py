"""The writer of shard files, which collects clips until they fill one."""

from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from musetalk_distill.shards.clip import SPLITS, Clip, ClipEntry, ClipTensors, tensors_problem
from musetalk_distill.shards.file import named_tensors
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.core.model import ModelSpec


class ShardWriter:
    """Collects clips until they fill a shard, one shard of each split at a time."""

    def __init__(self, folder: Path, spec: ModelSpec, shard_bytes: int) -> None:
        self._folder, self._spec, self._shard_bytes = folder, spec, shard_bytes
        self._clips: dict[str, Clip] = {}
        self._pending: dict[str, dict[str, Any]] = {split: {} for split in SPLITS}
        self._bytes = dict.fromkeys(SPLITS, 0)
        self._count = dict.fromkeys(SPLITS, 0)

    def add(self, entry: ClipEntry, tensors: ClipTensors) -> None:
        """Take a clip; raises InvalidArgument for one that does not fit or comes twice."""
        if entry.split not in SPLITS or entry.id in self._clips:
            raise InvalidArgument(f"clip {entry.id}: split {entry.split!r}, or it comes twice")
        if problem := tensors_problem(entry, tensors, self._spec):
            raise InvalidArgument(problem)
        split = entry.split
        if self._bytes[split] and self._bytes[split] + tensors.nbytes > self._shard_bytes:
            self._flush(split)
        clip = Clip(entry.id, entry.speaker, split, entry.frames, entry.fps, self._file(split))
        self._clips[entry.id] = Clip.from_json(clip.to_json(), entry.id)
        self._pending[split] |= named_tensors(entry.id, tensors)
        self._bytes[split] += tensors.nbytes

    def finish(self) -> list[Clip]:
        """Write what is left, and give all clips; raises InvalidArgument if there is none."""
        for split in SPLITS:
            if self._pending[split]:
                self._flush(split)
        if not self._clips:
            raise InvalidArgument("there are no clips to write")
        return list(self._clips.values())

    def _file(self, split: str) -> str:
        return f"{split}-{self._count[split]:05}.safetensors"

    def _flush(self, split: str) -> None:
        file = self._folder / self._file(split)
        save_file(self._pending[split], file)
        file.chmod(0o644)  # safetensors makes it the writer's own
        self._pending[split], self._bytes[split] = {}, 0
        self._count[split] += 1
