"""The source videos of a training set, and who speaks in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from musetalk_distill.prepare.annotations import Annotations, annotation_file, read_annotations
from musetalk_runtime.core.errors import InputNotFound, InvalidArgument, InvalidMedia
from musetalk_runtime.storage.folder import sha256

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".ogv"}
TRAILING_NUMBERS = re.compile(r"(?<=.)([ ._-]+\d+)+$")


@dataclass(frozen=True)
class SourceVideo:
    """One video: ``name`` is its path below the folder that was given, with slashes."""

    path: Path
    name: str
    annotation_file: Path | None

    def annotations(self) -> Annotations:
        """What the JSON file beside it says; raises InvalidMedia."""
        return Annotations() if self.annotation_file is None else read_annotations(self.annotation_file)

    def speaker(self, annotations: Annotations) -> str:
        return annotations.speaker or speaker_of(self.name)

    def key(self) -> dict[str, object]:
        """What tells whether it has changed: sizes and times of the video, and a hash of its annotations."""
        found = self.path.stat()
        digest = None if self.annotation_file is None else sha256(self.annotation_file)
        return {"video": self.name, "bytes": found.st_size, "modified": found.st_mtime_ns, "notes": digest}


def find_source_videos(folder: Path) -> list[SourceVideo]:
    """Every video in `folder` at any depth, by name; hidden files and folders are left out.

    Raises InputNotFound, InvalidArgument if it is no folder, or InvalidMedia if it holds no video.
    """
    if not folder.exists():
        raise InputNotFound(f"{folder}: no such folder of videos")
    if not folder.is_dir():
        raise InvalidArgument(f"{folder}: expected a folder of videos")
    found = sorted(_walk(folder), key=lambda video: video.name)
    if not found:
        raise InvalidMedia(f"{folder}: no videos in it ({', '.join(sorted(VIDEO_SUFFIXES))})")
    return found


def speaker_of(name: str) -> str:
    """Who speaks in the video `name`: its first folder, or its file's name without the numbers at its end.

    HDTF's ``WDA_BarackObama_000.mp4`` and ``WDA_BarackObama_001.mp4`` are of one speaker.
    """
    folder, slash, _ = name.partition("/")
    return folder if slash else TRAILING_NUMBERS.sub("", Path(name).stem)


def _walk(folder: Path) -> Iterator[SourceVideo]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.suffix.lower() not in VIDEO_SUFFIXES or any(part.startswith(".") for part in name.parts):
            continue
        if name.as_posix().isprintable() and path.is_file():
            yield SourceVideo(path, name.as_posix(), annotation_file(path))
