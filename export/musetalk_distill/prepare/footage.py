"""The videos to learn from, and who speaks in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from musetalk_distill.prepare.notes import Notes, notes_file, read_notes
from musetalk_runtime.core.errors import InputNotFound, InvalidArgument, InvalidMedia
from musetalk_runtime.storage.folder import sha256

SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".ogv"}
NUMBERS = re.compile(r"(?<=.)([ ._-]+\d+)+$")


@dataclass(frozen=True)
class Footage:
    """One video: ``name`` is its path below the folder that was given, with slashes."""

    path: Path
    name: str
    notes_file: Path | None

    def notes(self) -> Notes:
        """What is told of it; raises InvalidMedia."""
        return Notes() if self.notes_file is None else read_notes(self.notes_file)

    def speaker(self, notes: Notes) -> str:
        return notes.speaker or speaker_of(self.name)

    def key(self) -> dict[str, object]:
        """What tells whether it has changed: sizes and times of the video, and a hash of what is told of it."""
        found = self.path.stat()
        told = None if self.notes_file is None else sha256(self.notes_file)
        return {"video": self.name, "bytes": found.st_size, "modified": found.st_mtime_ns, "notes": told}


def find_footage(folder: Path) -> list[Footage]:
    """Every video in `folder` at any depth, by name; hidden files and folders are left out.

    Raises InputNotFound, InvalidArgument if it is no folder, or InvalidMedia if it holds no video.
    """
    if not folder.exists():
        raise InputNotFound(f"{folder}: no such folder of videos")
    if not folder.is_dir():
        raise InvalidArgument(f"{folder}: expected a folder of videos")
    found = sorted(_walk(folder), key=lambda footage: footage.name)
    if not found:
        raise InvalidMedia(f"{folder}: no videos in it ({', '.join(sorted(SUFFIXES))})")
    return found


def speaker_of(name: str) -> str:
    """Who speaks in the video `name`: its first folder, or its file's name without the numbers at its end.

    HDTF's ``WDA_BarackObama_000.mp4`` and ``WDA_BarackObama_001.mp4`` are of one speaker.
    """
    folder, slash, _ = name.partition("/")
    return folder if slash else NUMBERS.sub("", Path(name).stem)


def _walk(folder: Path) -> Iterator[Footage]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in name.parts):
            continue
        if name.as_posix().isprintable() and path.is_file():
            yield Footage(path, name.as_posix(), notes_file(path))
