"""A piece of speech that was uploaded."""

import tempfile
from pathlib import Path

import numpy as np

from musetalk_runtime.audio.file import AudioFile
from musetalk_runtime.core.errors import InvalidMedia
from musetalk_runtime.core.model import SAMPLE_RATE

LARGEST = 32 << 20  # bytes
LONGEST = 300.0  # seconds


def decode_clip(data: bytes) -> bytes:
    """PCM (signed 16-bit little-endian, mono, 16 kHz) of an audio file's bytes.

    Raises InvalidMedia for what is no audio or lasts longer than LONGEST, and OSError where the disk is full.
    """
    with tempfile.NamedTemporaryFile(prefix="musetalk-edge-", suffix=".audio") as file:
        file.write(data)
        file.flush()
        try:
            return _read(Path(file.name))
        except InvalidMedia as error:
            raise InvalidMedia(str(error).replace(f"{file.name}: ", "")) from None


def _read(path: Path) -> bytes:
    audio = AudioFile(path)
    pieces, room = [], int(LONGEST * SAMPLE_RATE)
    try:
        for chunk in audio:
            room -= len(chunk.speech)
            if room < 0:
                raise InvalidMedia(f"the clip is longer than {LONGEST:g} s: send it in parts")
            pieces.append((np.clip(chunk.speech, -1, 1) * 32767).astype("<i2").tobytes())
    finally:
        audio.close()
    return b"".join(pieces)
