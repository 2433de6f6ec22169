"""Pieces of speech whose sound goes with it sample for sample."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from musetalk_runtime.audio.chunk import SOUND_RATE, AudioChunk
from musetalk_runtime.audio.fifo import SampleFifo
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.model import SAMPLE_RATE

RATIO = SOUND_RATE // SAMPLE_RATE
Samples = npt.NDArray[np.int16]


@dataclass(frozen=True)
class SpeechPiece:
    """The same stretch of audio twice, as 16-bit samples: ``speech`` ``[n]`` at 16 kHz, for the model, and ``sound``
    ``[2, 3 n]`` at 48 kHz, for the listener.
    """

    speech: Samples
    sound: Samples

    @property
    def seconds(self) -> float:
        return len(self.speech) / SAMPLE_RATE

    def part(self, begin: int, end: int | None = None) -> "SpeechPiece":
        """From sample `begin` of the speech to `end`."""
        return SpeechPiece(self.speech[begin:end], self.sound[:, begin * RATIO : None if end is None else end * RATIO])

    def faded_out(self) -> "SpeechPiece":
        """It, more and more silent."""
        return SpeechPiece(_faded(self.speech), _faded(self.sound))

    def chunk(self) -> AudioChunk:
        """It, as floats."""
        return AudioChunk(self.speech / np.float32(32768), self.sound / np.float32(32768))


class Aligner:
    """Makes pieces of the chunks of one stream, whose two resamplers differ in delay."""

    def __init__(self) -> None:
        self._speech, self._sound = SampleFifo(), SampleFifo()

    def __call__(self, chunk: AudioChunk | None) -> SpeechPiece:
        """What is there for both; a millisecond may wait for the next chunk."""
        if chunk:
            self._speech.push(_quantized(chunk.speech))
            self._sound.push(_quantized(np.broadcast_to(chunk.sound, (2, chunk.sound.shape[1]))))
        count = min(len(self._speech), len(self._sound) // RATIO)
        if not count:
            return silence(0)
        return SpeechPiece(self._speech.take(count), self._sound.take(count * RATIO))


def silence(samples: int) -> SpeechPiece:
    """So many samples of speech."""
    return SpeechPiece(np.zeros(samples, np.int16), np.zeros((2, samples * RATIO), np.int16))


def joined(pieces: list[SpeechPiece]) -> SpeechPiece:
    """All of `pieces`, one after the other."""
    pieces = [silence(0), *pieces]
    return SpeechPiece(np.concatenate([p.speech for p in pieces]), np.concatenate([p.sound for p in pieces], axis=1))


def _quantized(samples: Floats) -> Samples:
    return np.asarray(np.clip(np.rint(samples * 32768), -32768, 32767), np.int16)


def _faded(samples: Samples) -> Samples:
    return np.asarray(samples * np.linspace(1, 0, samples.shape[-1]), np.int16)
