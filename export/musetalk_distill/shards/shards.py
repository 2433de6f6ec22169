"""Training shards: a folder of clips, as latents of the face and audio states.

The manifest holds ``model`` (the sizes, with the VAE encoder's id), ``clips``, and what its writer adds. The clips'
tensors lie in ``<split>-00000.safetensors`` and so on, each named ``<clip id>.<field>``.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from musetalk_distill.shards.clip import (
    SPLITS,
    Clip,
    ClipEntry,
    ClipTensors,
    people_problem,
    states_count,
    tensors_problem,
    window_start,
)
from musetalk_distill.shards.file import read_tensors
from musetalk_distill.shards.writer import ShardWriter
from musetalk_runtime.core.errors import InvalidArgument, InvalidFolder, MuseTalkEdgeError, OutputError
from musetalk_runtime.core.model import ModelSpec
from musetalk_runtime.storage.folder import MANIFEST, MAX_MANIFEST_BYTES, Manifest, new_folder, read_folder

__all__ = [
    "SHARDS_KIND", "SHARDS_SCHEMA", "Clip", "ClipEntry", "ClipTensors", "Shards", "states_count", "window_start",
    "write_shards",
]  # fmt: skip

SHARDS_KIND, SHARDS_SCHEMA = "shards", 1
SHARD_BYTES = 256 << 20  # about, of one file
FILE_LIST_BYTES = 1 << 20  # of a manifest, kept free for the list of files


class Shards:
    """Open shards. Attributes: ``path``, ``manifest``, ``spec``. It holds no file open and can be pickled."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        where = str(path / MANIFEST)
        self.spec = ModelSpec.from_json(manifest.get("model"), where)
        clips = manifest.get("clips")
        self._clips = [Clip.from_json(clip, where) for clip in clips] if isinstance(clips, list) else []
        if len({clip.id for clip in self._clips}) != len(self._clips) or not self._clips:
            raise InvalidFolder(f"{where}: it lists no clips, or one of them twice: prepare the shards again")
        if problem := people_problem(self._clips):
            raise InvalidFolder(f"{where}: {problem}: prepare the shards again")
        for clip in self._clips:
            if clip.file not in manifest["files"]:
                raise InvalidFolder(f"{where}: clip {clip.id} lies in {clip.file}, which is not listed")

    @classmethod
    def open(cls, path: str | Path) -> "Shards":
        """Open the folder `path` once every file's hash is checked; raises InputNotFound or InvalidFolder."""
        return cls(Path(path), read_folder(Path(path), SHARDS_KIND, SHARDS_SCHEMA))

    def clips(self, split: str) -> list[Clip]:
        """The clips of `split`, "train" or "val", in the order they were written."""
        if split not in SPLITS:
            raise InvalidArgument(f"{split=}, expected {' or '.join(SPLITS)}")
        return [clip for clip in self._clips if clip.split == split]

    def tensors(self, clip: Clip) -> ClipTensors:
        """The tensors of `clip`, mapped: only what is looked at is read. Not to be written to.

        Raises InvalidFolder where one is missing or has another type or shape than the manifest says.
        """
        file = self.path / clip.file
        tensors = read_tensors(file, clip.id)
        if problem := tensors_problem(clip, tensors, self.spec):
            raise InvalidFolder(f"{file}: {problem}")
        return tensors


def write_shards(
    path: Path,
    spec: ModelSpec,
    clips: Iterable[tuple[ClipEntry, ClipTensors]],
    shard_bytes: int = SHARD_BYTES,
    extra: Mapping[str, Any] | None = None,
    max_manifest_bytes: int = MAX_MANIFEST_BYTES,
) -> list[Clip]:
    """Write `clips` to the new folder `path`, about `shard_bytes` a file, with the manifest entries `extra`.

    Older shards at `path` are replaced. Raises InvalidArgument for a clip that does not fit `spec` or comes twice, if
    there is none, if a speaker is in both splits, or if there are more than a manifest of `max_manifest_bytes` can list
    (some 15,000), and OutputError where the folder cannot be written; then nothing is.
    """
    try:
        with new_folder(path, SHARDS_KIND, SHARDS_SCHEMA) as (folder, manifest):
            writer = ShardWriter(folder, spec, shard_bytes)
            for clip, tensors in clips:
                writer.add(clip, tensors)
            listed = writer.finish()
            if problem := people_problem(listed):
                raise InvalidArgument(f"{path}: {problem}")
            manifest.update(extra or {})
            manifest.update(model=spec.to_json(), clips=[clip.to_json() for clip in listed])
            _check_size(path, manifest, max_manifest_bytes)
    except MuseTalkEdgeError:
        raise
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from error
    return listed


def _check_size(path: Path, manifest: Manifest, max_bytes: int) -> None:
    size, most = len(json.dumps(manifest, indent=1)), max_bytes - FILE_LIST_BYTES
    if size > most:
        raise InvalidArgument(
            f"{path}: {len(manifest['clips'])} clips would make a manifest of {size} bytes, expected at most "
            f"{most}: make several folders of them"
        )
