"""A training clip of one person who speaks: its entry in the manifest, and its tensors."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from musetalk_runtime.audio.speech import window_start as runtime_window_start
from musetalk_runtime.core.errors import InvalidArgument, InvalidFolder
from musetalk_runtime.core.model import ModelSpec

SPLITS = ("train", "val")
DTYPES = {
    "latents": np.float16,
    "masked": np.float16,
    "states": np.float16,
    "images": np.uint8,
    "images_at": np.int32,
    "opening": np.float32,
}


@dataclass(frozen=True)
class ClipEntry:
    """A clip before it is written: ``split`` is "train" or "val", ``frames`` are shown at ``fps``."""

    id: str
    speaker: str
    split: str
    frames: int
    fps: Fraction


@dataclass(frozen=True)
class Clip(ClipEntry):
    """A clip and the name of the shard it lies in."""

    file: str

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "fps": f"{self.fps.numerator}/{self.fps.denominator}"}

    @classmethod
    def from_json(cls, value: Any, where: str) -> "Clip":
        """The clip a manifest lists; `where` names the manifest in InvalidFolder."""
        try:
            clip = cls(**{**value, "fps": Fraction(value["fps"])})
            texts = (clip.id, clip.speaker, clip.split, clip.file)
            sound = all(type(text) is str and text.isprintable() for text in texts) and clip.id != ""
            sound = sound and clip.split in SPLITS and type(clip.frames) is int and 0 < clip.frames < 1 << 31
            sound = sound and 0 < clip.fps <= 1000 and isinstance(value["fps"], str)
        except (TypeError, ValueError, KeyError, ZeroDivisionError):
            sound = False
        if not sound:
            raise InvalidFolder(f"{where}: no clip: {str(value)[:200]!r}: prepare the shards again")
        return clip


@dataclass(frozen=True)
class ClipTensors:
    """The tensors of a clip of F frames; C, S, I, audio_states and audio_width are the model's.

    | name | type and shape | content |
    | --- | --- | --- |
    | ``latents`` | float16 ``[F, C, S, S]`` | the whole face: the VAE's mean times the scaling factor |
    | ``masked`` | float16 ``[F, C, S, S]`` | the same of the face with its lower half black |
    | ``states`` | float16 ``[T, audio_states, audio_width]`` | at 50 Hz, to the end of the last frame's window |
    | ``images`` | uint8 ``[K, 3, I, I]`` | RGB faces of K frames; in the split "val" only |
    | ``images_at`` | int32 ``[K]`` | which frames these are |
    | ``opening`` | float32 ``[F]`` | how far the mouth is open, where that is known |
    """

    latents: npt.NDArray[np.float16]
    masked: npt.NDArray[np.float16]
    states: npt.NDArray[np.float16]
    images: npt.NDArray[np.uint8] | None = None
    images_at: npt.NDArray[np.int32] | None = None
    opening: npt.NDArray[np.float32] | None = None

    def items(self) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """The tensors that are there, by name."""
        for field in fields(self):
            if (value := getattr(self, field.name)) is not None:
                yield field.name, value

    def without_images(self) -> "ClipTensors":
        return replace(self, images=None, images_at=None)

    @property
    def nbytes(self) -> int:
        return sum(int(value.nbytes) for _, value in self.items())


def tensors_problem(clip: ClipEntry, tensors: ClipTensors, spec: ModelSpec) -> str | None:
    """What is wrong with the types and shapes of `tensors` (see ClipTensors), or None."""
    count = 0 if tensors.images is None else len(tensors.images)
    face = (clip.frames, spec.latent_channels, spec.latent_size, spec.latent_size)
    shapes = {
        "latents": face,
        "masked": face,
        "states": (states_count(clip.frames, clip.fps, spec), spec.audio_states, spec.audio_width),
        "images": (count, 3, spec.image_size, spec.image_size),
        "images_at": (count,),
        "opening": (clip.frames,),
    }
    for name, value in tensors.items():
        if value.dtype != DTYPES[name] or value.shape != shapes[name]:
            expected = f"{np.dtype(DTYPES[name])} {list(shapes[name])}"
            return f"{clip.id}.{name} is {value.dtype} {list(value.shape)}, expected {expected}"
    at = tensors.images_at
    if (at is None) != (tensors.images is None):
        return f"{clip.id}: images and images_at go together"
    if at is not None and ((at < 0) | (at >= clip.frames)).any():
        return f"{clip.id}.images_at names frames outside [0, {clip.frames})"
    return None


def people_problem(clips: Iterable[ClipEntry]) -> str | None:
    """Who is both trained on and kept for validation, or None."""
    speakers: dict[str, set[str]] = {split: set() for split in SPLITS}
    for clip in clips:
        speakers[clip.split].add(clip.speaker)
    both = sorted(set.intersection(*speakers.values()))
    if not both:
        return None
    others = f" and {len(both) - 1} more" if both[1:] else ""
    return f'{both[0]}{others} has clips in "train" and in "val", and no person may be in both'


def window_start(index: int, fps: Fraction, spec: ModelSpec) -> int:
    """The first state of frame `index`'s window, by the runtime's rule; negative where the window begins earlier.

    Such states, before a clip, count as zeros, as the runtime has it before the speech.
    """
    return runtime_window_start(index, fps, spec.window_before)


def states_count(frames: int, fps: Fraction, spec: ModelSpec) -> int:
    """How many states a clip of `frames` has: up to the end of the last one's window."""
    if frames < 1:
        raise InvalidArgument(f"{frames=}, expected at least 1")
    return window_start(frames - 1, fps, spec) + spec.window_steps
