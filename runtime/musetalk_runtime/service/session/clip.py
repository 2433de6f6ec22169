"""Uploaded clips of speech: their limits and their decoding."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from musetalk_runtime.audio.decode.file import AudioFile
from musetalk_runtime.audio.speech_piece import Aligner, SpeechPiece, joined
from musetalk_runtime.core.errors import InvalidMedia
from musetalk_runtime.core.model import SAMPLE_RATE

MAX_CLIP_BYTES = 32 << 20
MAX_CLIP_SECONDS = 300.0


@dataclass(frozen=True)
class Clip:
    """The speech in an audio file, and what was wrong with that."""

    speech: SpeechPiece
    warnings: tuple[str, ...]


def decode_clip(data: bytes, max_seconds: float = MAX_CLIP_SECONDS) -> Clip:
    """The clip in an audio file's bytes.

    Raises InvalidMedia for what is no audio or lasts longer than `max_seconds`, and OSError where the disk is full.
    """
    with tempfile.NamedTemporaryFile(prefix="musetalk-edge-", suffix=".audio") as file:
        file.write(data)
        file.flush()
        try:
            return _read(Path(file.name), max_seconds)
        except InvalidMedia as error:
            raise InvalidMedia(str(error).replace(f"{file.name}: ", "")) from None


def _read(path: Path, max_seconds: float) -> Clip:
    audio, align = AudioFile(path), Aligner()
    pieces, room = [], int(max_seconds * SAMPLE_RATE)
    try:
        for chunk in audio:
            room -= len(chunk.speech)
            if room < 0:
                raise InvalidMedia(f"the clip is longer than {max_seconds:g} s: send it in parts")
            pieces.append(align(chunk))
    finally:
        audio.close()
    return Clip(joined(pieces), tuple(warning.removeprefix(f"{path}: ") for warning in audio.warnings))
