"""Media files as inputs, opened by PyAV."""

from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import av
from av.stream import Disposition

from musetalk_runtime.core.file_part import FilePart

# PyAV before 19 raised UnicodeDecodeError for a tag that is not UTF-8. PyAV 19 lets it pass, and has no such option.
TAGS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def open_media(source: Path | FilePart | BytesIO, formats: str, **options: str) -> Any:
    """A file, or a part of one, as PyAV's ``InputContainer``, read as one of `formats`, FFmpeg's names and commas.

    `options` are FFmpeg's. Tags may be in any encoding. Raises av.FFmpegError or OSError.
    """
    file: Any = f"file:{source}" if isinstance(source, Path) else source
    return av.open(file, options={"format_whitelist": formats, **options}, **TAGS)


def best_stream(container: Any, kind: Literal["audio", "video"]) -> Any:
    """The stream of a `kind` that a player shows: by its disposition, then by its quality; no cover art beside others.

    None where FFmpeg has no decoder for any.
    """
    best = container.streams.best(kind)
    if best is not None and best.disposition & Disposition.attached_pic:
        others = [stream for stream in getattr(container.streams, kind) if stream is not best]
        return next((other for other in others if not other.disposition & Disposition.attached_pic), best)
    return best


def several(container: Any, kind: Literal["audio", "video"], taken: Any) -> str:
    """That `taken` is one of several streams, in words; empty if it is the only one."""
    streams = [one for one in getattr(container.streams, kind) if not one.disposition & Disposition.attached_pic]
    return f"of its {len(streams)} {kind} streams number {taken.index} is taken" if len(streams) > 1 else ""
