"""What a bundle's engines do, whatever runs them."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Protocol

import numpy as np
import numpy.typing as npt

from musetalk_runtime.audio.speech import SpeechFrame
from musetalk_runtime.audio.states import States
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.timings import Timings

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


class Rendering(Protocol):
    """Frames on their way."""

    def wait(self) -> list[Bytes]:
        """The NV12 frames ``[H * 3 / 2, W]`` once they are finished, perhaps read-only; raises what went wrong."""


class Renderer(Protocol):
    """Makes the frames of one avatar at one rate."""

    def render(self, batch: Sequence[SpeechFrame]) -> Rendering:
        """Begin to make one frame for each of `batch`, in order. May return before they are finished."""

    def close(self) -> None:
        """Release what the renderer holds, once nothing waits for its frames. Closing twice is fine."""


class Engines(Protocol):
    """The models of a bundle, ready to run; loaded when first used."""

    def check(self) -> None:
        """Raise MachineError unless the engines can run on this machine."""

    def encode_images(self, images: Floats) -> Floats:
        """VAE latents ``[N, C, S, S]``, times the scaling factor, of RGB `images` ``[N, 3, I, I]`` in [0, 1]."""

    def encode_audio(self, mel: Floats) -> States:
        """Hidden states ``[T / 2, audio_states, audio_width]`` of a log-mel spectrogram ``[mel_bins, T]``.

        They are float16 or float32, as the engine makes them: few of them are used.
        """

    def renderer(self, avatar: Avatar, fps: Fraction, timings: Timings) -> Renderer:
        """A renderer for frames of `avatar` at `fps`; `timings` gets its stages."""

    def close(self) -> None:
        """Release the engines. Closing twice is fine."""
