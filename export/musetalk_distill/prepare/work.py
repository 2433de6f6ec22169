"""The folder of finished clips, from which an interrupted preparation goes on."""

import hashlib
import json
import shutil
from glob import escape
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import save_file

from musetalk_distill.prepare.prepared import Prepared
from musetalk_distill.shards.clip import ClipTensors
from musetalk_distill.shards.file import named_tensors, read_tensors
from musetalk_runtime.core.errors import OutputError
from musetalk_runtime.storage.folder import sha256
from musetalk_runtime.storage.work_folder import WorkFolder

STEM = 24  # digits of a video's hash in the names of its files


class ClipFolder(WorkFolder):
    """Clips and a record of each finished video, until the shards are whole.

    ``<video>.json`` holds the key of what the video's clips, ``<video>-<n>.safetensors``, come from; it is written
    last. What has another key is made again.
    """

    activity = "being prepared"
    kept_files = "*.safetensors"

    def __enter__(self) -> "ClipFolder":
        """Make the folder if need be and lock it; raises InvalidArgument while another process has it, OutputError."""
        try:
            super().__enter__()
        except OSError as error:
            raise self._failed(error) from error
        for killed in self.path.parent.glob(f".{escape(self.place.name)}.*.partial"):
            shutil.rmtree(killed, ignore_errors=True)  # half-written shards; the lock says that nobody writes them
        return self

    def kept(self, video: str, key: str) -> Prepared | None:
        """What an earlier run made of `video`, whole and of the same `key`; else its files are deleted."""
        try:
            record = json.loads(self._record(video).read_text(encoding="utf-8"))
            prepared = Prepared.from_json(record["prepared"])
            sound = record["key"] == key and all(
                sha256(self._file(clip.file)) == clip.sha256 for clip in prepared.clips
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            sound = False  # none, or of another version
        if sound:
            return prepared
        self.forget(video)
        return None

    def forget(self, video: str) -> None:
        """Delete what there is of `video`, its record first."""
        self._record(video).unlink(missing_ok=True)
        for file in self.path.glob(f"{_stem(video)}*"):
            file.unlink()

    def write_clip(self, video: str, number: int, clip_id: str, tensors: ClipTensors) -> tuple[str, str]:
        """Write clip `number` of `video`; gives its file's name and hash. Raises OutputError."""
        file = self._file(f"{_stem(video)}-{number}.safetensors")
        try:
            save_file(named_tensors(clip_id, tensors), file)
        except (OSError, SafetensorError) as error:
            file.unlink(missing_ok=True)
            raise self._failed(error) from error
        return file.name, sha256(file)

    def read_clip(self, file: str, clip_id: str) -> ClipTensors:
        return read_tensors(self._file(file), clip_id)

    def finish(self, key: str, prepared: Prepared) -> None:
        """Keep what was made of a video. Raises OutputError."""
        record = self._record(prepared.video)
        partial = record.with_suffix(".partial")
        try:
            partial.write_text(json.dumps({"key": key, "prepared": prepared.to_json()}), encoding="utf-8")
            partial.replace(record)
        except OSError as error:
            raise self._failed(error) from error

    def _record(self, video: str) -> Path:
        return self.path / f"{_stem(video)}.json"

    def _file(self, name: str) -> Path:
        return self.path / name

    def _failed(self, error: Exception) -> OutputError:
        reason = getattr(error, "strerror", None) or str(error)
        return OutputError(
            f"{self.path}: cannot be written: {reason}: make room, and run the same command again: "
            "it goes on after the last video that was finished"
        )


def _stem(video: str) -> str:
    return hashlib.sha256(video.encode()).hexdigest()[:STEM]
