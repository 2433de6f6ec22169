"""Speech frames to video frames: the mouths by ONNX Runtime, composed onto the avatar by OpenCV."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from musetalk_runtime.audio.speech import SpeechFrame
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.cpu.compose import compose
from musetalk_runtime.cpu.onnx_session import OnnxSession
from musetalk_runtime.timings import Timings

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Rendered:
    """Frames that are finished."""

    frames: list[Bytes]

    def wait(self) -> list[Bytes]:
        return self.frames


class CpuRenderer:
    """Renders in the thread that calls it. See ``Renderer``.

    `generator` is one graph: ``latents``, ``tokens`` -> ``faces`` uint8 ``[N, I, I, 3]`` RGB.
    """

    def __init__(self, generator: OnnxSession, avatar: Avatar, fps: Fraction, timings: Timings) -> None:
        self._generator = generator
        self._avatar = avatar
        self._fps = fps
        self._timings = timings

    def render(self, batch: Sequence[SpeechFrame]) -> Rendered:
        shown = [self._avatar.index_at(frame.index, self._fps) for frame in batch]
        speaking = [n for n, frame in enumerate(batch) if frame.weight > 0 and self._avatar.has_face[shown[n]]]
        faces = self._generate([shown[n] for n in speaking], [batch[n] for n in speaking])
        with self._timings.measure("compose", len(batch)):
            frames = [self._avatar.frame(index) for index in shown]
            for n, face in zip(speaking, faces, strict=True):
                frames[n] = frames[n].copy()
                box = tuple(self._avatar.boxes[shown[n]].tolist())
                compose(frames[n], face, self._avatar.masks[shown[n]], box, batch[n].weight)
        return Rendered(frames)

    def close(self) -> None:
        """Nothing is held."""

    def _generate(self, shown: list[int], batch: list[SpeechFrame]) -> list[Bytes]:
        if not batch:
            return []
        with self._timings.measure("generate", len(batch)):
            latents = self._avatar.latents[shown].astype(np.float32)
            tokens = np.stack([frame.tokens for frame in batch])
            return list(self._generator.run("faces", latents=latents, tokens=tokens))
