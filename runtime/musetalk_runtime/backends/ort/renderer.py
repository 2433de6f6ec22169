"""The renderer of the ONNX Runtime backend: speech frames to video frames, composed on the CPU."""

from collections.abc import Sequence

import numpy as np

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.backends.interface import ALL, FrameRequest, NewFrame
from musetalk_runtime.backends.ort.compose import compose
from musetalk_runtime.backends.ort.onnx_session import OnnxSession
from musetalk_runtime.core.arrays import Bytes
from musetalk_runtime.core.timings import Timings


class Rendered:
    """Frames whose faces (None where there is none) are generated; whoever waits composes them. See ``Rendering``."""

    def __init__(
        self, batch: Sequence[FrameRequest], faces: Sequence[Bytes | None], timings: Timings, new_frame: NewFrame
    ) -> None:
        self._shots = list(zip(batch, faces, strict=True))
        self._timings, self._new_frame = timings, new_frame

    def wait(self, rows: slice = ALL) -> list[Bytes]:
        shots = self._shots[rows]
        with self._timings.measure("compose", len(shots)):
            return [self._composed(shot, face) for shot, face in shots]

    def finish(self) -> None:
        """Nothing is under way."""

    def _composed(self, shot: FrameRequest, face: Bytes | None) -> Bytes:
        own = shot.avatar.frame(shot.shown)
        if face is None:
            return own
        frame = self._new_frame((own.shape[0], own.shape[1]))
        frame[:] = own
        box = tuple(shot.avatar.boxes[shot.shown].tolist())
        mask, base = shot.avatar.masks[shot.shown], shot.avatar.base(shot.shown)
        compose(frame, face, mask, box, shot.speech.weight, base)
        return frame


class CpuRenderer:
    """Generates in the thread that calls it. See ``Renderer``.

    `generator` is one graph: ``latents``, ``tokens`` -> ``faces`` uint8 ``[N, I, I, 3]`` RGB.
    """

    def __init__(self, generator: OnnxSession, timings: Timings, new_frame: NewFrame) -> None:
        self._generator = generator
        self._timings, self._new_frame = timings, new_frame

    def hold(self, avatar: Avatar) -> None:
        """Nothing is to be made ready."""

    def release(self, avatar: Avatar) -> None:
        """Nothing is held."""

    def render(self, batch: Sequence[FrameRequest]) -> Rendered:
        made = iter(self._generate([shot for shot in batch if shot.speaks]))
        return Rendered(batch, [next(made) if shot.speaks else None for shot in batch], self._timings, self._new_frame)

    def close(self) -> None:
        """Nothing is held."""

    def _generate(self, batch: Sequence[FrameRequest]) -> list[Bytes]:
        if not batch:
            return []
        with self._timings.measure("generate", len(batch)):
            latents = np.stack([shot.avatar.latents[shot.shown] for shot in batch]).astype(np.float32)
            tokens = np.stack([shot.speech.tokens for shot in batch])
            return list(self._generator.run("faces", latents=latents, tokens=tokens))
