"""Calibration: real inputs of the generator, for a quantiser to see their range and for its result to be judged by."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from musetalk_engines.modelset import ModelSet
from musetalk_runtime.audio.decode.file import AudioFile
from musetalk_runtime.audio.speech import SpeechFrames
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.backends.ort.onnx_session import OnnxSession
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.core.model import ModelSpec

FPS = Fraction(25)
MOST_HEARD = 3000  # frames of speech: two minutes
FRAMES = 24  # of each half
LEAST_FRAMES = 8  # of speech


@dataclass(frozen=True)
class Calibration:
    """Folder of an avatar pack, and file of a speech for it to say."""

    avatar: Path
    speech: Path

    def check(self, spec: ModelSpec) -> None:
        """Raise what Avatar and AudioFile do, or AvatarMismatch, if they are not for models of `spec`."""
        with Avatar.open(self.avatar) as avatar:
            avatar.check(spec)
        AudioFile(self.speech).close()


@dataclass(frozen=True)
class Frames:
    """Inputs of the generator: ``latents`` float32 ``[n, 2 C, S, S]`` and ``tokens`` float32 ``[n, tokens, width]``."""

    latents: Floats
    tokens: Floats

    def __getitem__(self, rows: slice) -> "Frames":
        return Frames(self.latents[rows], self.tokens[rows])

    def __len__(self) -> int:
        return len(self.latents)


def real_frames(calibration: Calibration, models: ModelSet, audio_encoder: OnnxSession) -> tuple[Frames, Frames]:
    """Up to FRAMES frames to calibrate with and as many others to judge by, of the avatar that says the speech.

    They are taken in turn from all frames in which it speaks. Raises InvalidArgument where there are too few of them.
    """
    tokens, shown = [], []
    with Avatar.open(calibration.avatar) as opened:
        audio = AudioFile(calibration.speech)
        try:
            heard = SpeechFrames(
                audio, lambda mel, rows: audio_encoder.run("states", mel=mel[None])[0][rows], models.spec, FPS, 0
            )
            for frame in heard:
                index = opened.index_at(frame.index, FPS)
                if frame.weight > 0 and opened.has_face[index]:
                    tokens.append(frame.tokens)
                    shown.append(index)
                if frame.index >= MOST_HEARD:
                    break
        finally:
            audio.close()
        if len(shown) < LEAST_FRAMES:
            where = f"{calibration.avatar} speaks in {len(shown)} frames of {calibration.speech}"
            raise InvalidArgument(f"{where}: to calibrate takes {LEAST_FRAMES} at least")
        chosen = np.linspace(0, len(shown) - 1, min(2 * FRAMES, len(shown)), dtype=int)
        latents = opened.latents[np.array(shown)[chosen]].astype(np.float32)
    frames = Frames(latents, np.stack([tokens[k] for k in chosen]).astype(np.float32, copy=False))
    return frames[0::2], frames[1::2]
