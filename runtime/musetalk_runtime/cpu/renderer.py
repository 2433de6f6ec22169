"""Speech frames to video frames: generate the mouths and compose them onto the avatar, on the CPU."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from musetalk_runtime.audio.speech import SpeechFrame
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.cpu.compose import compose
from musetalk_runtime.timings import Timings

Bytes = npt.NDArray[np.uint8]


class Renderer:
    """Renders frames of one avatar at one rate with one bundle."""

    def __init__(self, bundle: Bundle, avatar: Avatar, fps: Fraction, timings: Timings) -> None:
        self._bundle = bundle
        self._avatar = avatar
        self._fps = fps
        self._timings = timings

    def render(self, batch: Sequence[SpeechFrame]) -> list[Bytes]:
        """One NV12 frame ``[H * 3 / 2, W]`` for each of `batch`, read-only where it is the avatar's own."""
        shown = [self._avatar.index_at(frame.index, self._fps) for frame in batch]
        speaking = [n for n, frame in enumerate(batch) if frame.weight > 0 and self._avatar.has_face[shown[n]]]
        faces = self._generate([shown[n] for n in speaking], [batch[n] for n in speaking])
        with self._timings.measure("compose", len(batch)):
            frames = [self._avatar.frame(index) for index in shown]
            for n, face in zip(speaking, faces, strict=True):
                frames[n] = frames[n].copy()
                index = shown[n]
                box = (*self._avatar.boxes[index].tolist(),)
                compose(frames[n], face, self._avatar.masks[index], box, batch[n].weight)
        return frames

    def _generate(self, shown: list[int], batch: list[SpeechFrame]) -> Sequence[Bytes]:
        if not batch:
            return []
        with self._timings.measure("generate", len(batch)):
            latents = self._avatar.latents[shown].astype(np.float32)
            return list(self._bundle.generate(latents, np.stack([frame.tokens for frame in batch])))
