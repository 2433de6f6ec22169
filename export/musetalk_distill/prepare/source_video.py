"""The source videos of a training set, and who speaks in them."""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from musetalk_distill.prepare.annotations import Annotations, annotation_file, read_annotations
from musetalk_runtime.core.errors import InputNotFound, InvalidArgument, InvalidMedia
from musetalk_runtime.storage.folder import sha256

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".ogv"}
TRAILING_NUMBERS = re.compile(r"(?<=.)([ ._-]+\d+)+$")


MAX_NAMED = 5  # of what is left out, in an error


@dataclass(frozen=True)
class LeftOut:
    """What looks like a video and cannot be used: its name below the folder, made printable, and why."""

    name: str
    reason: str


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


def find_source_videos(folder: Path) -> tuple[list[SourceVideo], list[LeftOut]]:
    """Every video in `folder` at any depth, by name, and what looks like one and cannot be used.

    Hidden files and folders do not count. Raises InputNotFound, InvalidArgument if it is no folder, or InvalidMedia if
    it holds no video.
    """
    if not folder.exists():
        raise InputNotFound(f"{folder}: no such folder of videos")
    if not folder.is_dir():
        raise InvalidArgument(f"{folder}: expected a folder of videos")
    found: list[SourceVideo] = []
    left_out: list[LeftOut] = []
    for path, problem in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if problem is None:
            found.append(SourceVideo(path, name, annotation_file(path)))
        else:
            left_out.append(LeftOut(_printable(name), problem))
    if not found:
        others = "".join(f"; {other.name} is left out: {other.reason}" for other in left_out[:MAX_NAMED])
        raise InvalidMedia(f"{folder}: no videos in it ({', '.join(sorted(VIDEO_SUFFIXES))}){others}")
    return sorted(found, key=lambda video: video.name), sorted(left_out, key=lambda other: other.name)


def speaker_of(name: str) -> str:
    """Who speaks in the video `name`: its first folder, or its file's name without the numbers at its end.

    HDTF's ``WDA_BarackObama_000.mp4`` and ``WDA_BarackObama_001.mp4`` are of one speaker.
    """
    folder, slash, _ = name.partition("/")
    return folder if slash else TRAILING_NUMBERS.sub("", Path(name).stem)


def _walk(folder: Path) -> list[tuple[Path, str | None]]:
    """What is named like a video, and folders that are not looked into, each with what is wrong with it, or None."""
    found: list[tuple[Path, str | None]] = []

    def unreadable(error: OSError) -> None:
        found.append((Path(error.filename), f"a folder that cannot be read: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in (*folders, *files):
            path = Path(place, name)
            if path.suffix.lower() in VIDEO_SUFFIXES and not name.startswith("."):
                found.append((path, _problem(path)))
            elif name in folders and path.is_symlink():
                found.append((path, "a link to a folder, which is not followed"))
    return found


def _problem(video: Path) -> str | None:
    """What keeps `video` from being read, or None."""
    if not video.name.isprintable() or not video.parent.as_posix().isprintable():
        return "its name has characters that cannot be printed: rename it"
    if kind := _kind(video):
        return kind
    notes = annotation_file(video)
    if notes is not None and (kind := _kind(notes)):
        return f"{notes.name} beside it is {kind}"
    return None


def _kind(path: Path) -> str | None:
    """What `path` is, if it is no file."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return "a link to nothing" if path.is_symlink() else f"cannot be read: {error.strerror}"
    names = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return None if stat.S_ISREG(mode) else names.get(stat.S_IFMT(mode), "a device")


def _printable(name: str) -> str:
    return "".join(part if part.isprintable() else part.encode("unicode_escape").decode() for part in name)
