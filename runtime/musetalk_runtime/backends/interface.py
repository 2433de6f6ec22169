"""The interface of a backend: engines, renderers, and the frames they make."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from musetalk_runtime.audio.speech import SpeechFrame
from musetalk_runtime.audio.states import States
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.core.arrays import NV12, Bytes, Floats
from musetalk_runtime.core.timings import Timings

if TYPE_CHECKING:
    from musetalk_runtime.backends.cuda.device_frame import DeviceFrame


ALL = slice(None)
NewFrame = Callable[[tuple[int, int]], NV12]  # memory of a shape


def empty_frame(shape: tuple[int, int]) -> NV12:
    """A frame's memory, of this process alone."""
    return np.empty(shape, np.uint8)


@dataclass(frozen=True)
class FrameRequest:
    """A frame to make: frame ``shown`` of ``avatar``, with the mouth that ``speech`` moves.

    Where ``into`` is not None, a ``share`` in [0, 1) of that frame is on it, with the same mouth. Only a
    ``CrossfadeRenderer`` takes such requests.
    """

    avatar: Avatar
    shown: int
    speech: SpeechFrame
    into: int | None = None
    share: float = 0.0

    @property
    def speaks(self) -> bool:
        """Whether a face is to be generated; without one it is the avatar's own frame."""
        return self.speech.weight > 0 and bool(self.avatar.has_face[self.shown])


class Rendering(Protocol):
    """Frames on their way. Safe to share between threads."""

    def wait(self, rows: slice = ALL) -> list[Bytes]:
        """Those `rows` of the NV12 frames ``[H * 3 / 2, W]`` once they are finished, perhaps read-only.

        Raises what went wrong.
        """

    def finish(self) -> None:
        """Wait until the engines are done with it, whoever calls `wait` when; raises what went wrong."""


@runtime_checkable
class OnGpu(Rendering, Protocol):
    """Frames that are made on the GPU, and can stay there."""

    def arrays(self) -> list["DeviceFrame"]:
        """The frames, perhaps not finished yet, valid until `release` or `wait`."""

    def release(self) -> None:
        """Say that the frames are no longer needed."""


class Renderer(Protocol):
    """Makes frames of an avatar."""

    def render(self, batch: Sequence[FrameRequest]) -> Rendering:
        """Begin to make a frame for each of `batch`, in order. May return before they are finished."""

    def close(self) -> None:
        """Release what the renderer holds, once nothing waits for its frames. Closing twice is fine."""


class MixedRenderer(Renderer, Protocol):
    """Makes frames of the avatars it holds, which are of one group, in batches of any mixture."""

    def hold(self, avatar: Avatar) -> None:
        """Make another avatar of the group ready to be shown, which may take long. From any thread, as `release`."""

    def release(self, avatar: Avatar) -> None:
        """Undo one `hold`, once no frame of the avatar is on its way."""


class Engines(Protocol):
    """The models of a bundle, ready to run; loaded when first used.

    ``parallel_renderers``: how many renderers, in turn, make the most of the machine while there is always work.
    ``new_frame`` gives the memory that renderers made from now on put frames in, and may be replaced.
    """

    parallel_renderers: int
    new_frame: NewFrame

    def check(self) -> None:
        """Raise MachineError unless the engines can run on this machine."""

    def encode_images(self, images: Floats) -> Floats:
        """VAE latents ``[N, C, S, S]``, times the scaling factor, of RGB `images` ``[N, 3, I, I]`` in [0, 1]."""

    def encode_audio(self, mel: Floats, rows: slice = ALL) -> States:
        """Hidden states ``[T / 2, audio_states, audio_width]`` of a log-mel spectrogram ``[mel_bins, T]``.

        They are float16 or float32, as the engine makes them; of a GPU's only the `rows` that are wanted are fetched.
        """

    def group(self, avatar: Avatar) -> Hashable:
        """What avatars have in common that may be in one batch."""

    def renderer(self, avatar: Avatar, timings: Timings) -> MixedRenderer:
        """A renderer that holds `avatar`; `timings` gets its stages."""

    def close(self) -> None:
        """Release the engines. Closing twice is fine."""
