"""Media files as inputs, opened by PyAV."""

from pathlib import Path
from typing import Any

import av

# PyAV before 19 raised UnicodeDecodeError for a tag that is not UTF-8. PyAV 19 lets it pass, and has no such option.
TAGS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def open_media(path: Path, formats: str, **options: str) -> Any:
    """The file at `path` as PyAV's ``InputContainer``, read as one of `formats`, FFmpeg's names joined by commas.

    `options` are FFmpeg's. Tags may be in any encoding. Raises av.FFmpegError or OSError.
    """
    return av.open(f"file:{path}", options={"format_whitelist": formats, **options}, **TAGS)
