"""The script of a drawn clip: its sound, and mouth and pose frame by frame."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from musetalk_drawn.figure.motion import pose_track
from musetalk_drawn.figure.mouth_state import MouthState
from musetalk_drawn.figure.pose import Pose
from musetalk_drawn.spec import ClipSpec
from musetalk_drawn.speech.espeak import speak
from musetalk_drawn.speech.sound import as_pcm, resampled, with_noise, with_reverberation
from musetalk_drawn.speech.timeline import Segment, mouth_track, segments
from musetalk_runtime.core.model import SAMPLE_RATE

FPS = 25


@dataclass(frozen=True)
class Script:
    """``pcm``: int16 at 16 kHz, exactly as long as the frames; a state and a pose for each frame, at frame / 25 s."""

    pcm: npt.NDArray[np.int16]
    said: list[Segment]
    mouths: list[MouthState]
    poses: list[Pose]

    @classmethod
    def of(cls, spec: ClipSpec) -> "Script":
        """Speak the sentences and move to them; the same for the same spec. Raises MachineError without eSpeak NG."""
        voice, said = _spoken(spec)
        frames = -(-len(voice) * FPS // SAMPLE_RATE)
        sound = np.zeros(frames * SAMPLE_RATE // FPS)
        sound[: len(voice)] = voice
        times = np.arange(frames) / FPS
        poses = pose_track(times, spec.seed, spec.motion, _loudness(sound, times))
        mouths = mouth_track(said, times, spec.speaker.liveliness)
        if spec.reverberation is not None:
            sound = with_reverberation(sound, spec.reverberation, spec.seed)
        if spec.noise is not None:
            sound = with_noise(sound, spec.noise, spec.seed)
        return cls(as_pcm(sound), said, mouths, poses)


def _spoken(spec: ClipSpec) -> tuple[npt.NDArray[np.float64], list[Segment]]:
    """The clean sound, and what is said in it."""
    parts = [_silence(spec.pauses[0])]
    said: list[Segment] = []
    for sentence, pause in zip(spec.sentences, spec.pauses[1:], strict=True):
        start = sum(map(len, parts)) / SAMPLE_RATE
        spoken = speak(sentence, spec.speaker.voice)
        phonemes = [(start + at, name) for at, name in spoken.phonemes]
        said += segments(phonemes, start + len(spoken.samples) / spoken.rate)
        parts += [resampled(spoken.samples, spoken.rate), _silence(pause)]
    return np.concatenate(parts), said


def _silence(seconds: float) -> npt.NDArray[np.float64]:
    return np.zeros(round(seconds * SAMPLE_RATE))


def _loudness(sound: npt.NDArray[np.float64], times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """0 to 1, slowly: what a head nods to."""
    step = SAMPLE_RATE // FPS
    power = np.sqrt(np.mean(sound.reshape(-1, step) ** 2, axis=1))
    slow = np.convolve(power, np.hanning(13) / np.hanning(13).sum(), "same")[: len(times)]
    loud: npt.NDArray[np.float64] = slow / max(float(slow.max()), 1e-9)
    return loud
