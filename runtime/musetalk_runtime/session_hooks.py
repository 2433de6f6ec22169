"""The hooks by which a service steers a session while it runs."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.avatar.pose_player import PosePlayer
from musetalk_runtime.backends.interface import Renderer
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.frame import Frame
from musetalk_runtime.output.video import AccessUnit, Picture, VideoOptions
from musetalk_runtime.output.writable import Writable


class FrameMuxer(Protocol):
    """What ``Muxer`` does, here or in another process."""

    @property
    def encoder(self) -> str:
        """The encoder's name."""

    def put(
        self, frame: Frame, keyframe: bool = False, kbps: int | None = None, more: bool = False
    ) -> Sequence[AccessUnit]:
        """Encode and mux `frame` and its sound; gives what is encoded by now. See ``Muxer.put``.

        Where `more` is to be put at once, it may keep the frame until then.
        """


OpenMuxer = Callable[[Writable, str, Picture, int, VideoOptions, Timings], AbstractContextManager[FrameMuxer]]


@dataclass(frozen=True, kw_only=True)
class SessionHooks:
    """What whoever runs a session decides, instead of the session.

    ``mouth`` says for a time in the stream, in seconds, how far the mouth may open there, 0 to 1: at 0 the avatar's own
    frame plays, whatever is heard. It is asked when a frame is handed on and again when it leaves, so that an answer
    that falls holds for frames already under way. ``renderer`` makes the avatar's renderer, one that crossfades, None
    for one of the session's own; ``renderer_shared`` says that it hands frames over at once, for others to make;
    ``muxer`` makes what encodes, None for one in this process; ``timings`` gets the stages; ``encoded`` gets the access
    units that are made with each frame, and the sound that goes with it, ``[channels, n]`` at 48 kHz; ``poses`` plays
    the avatar's clips, None for a player of the session's own; ``kbps`` says what the video may take now, in kbit/s,
    where its options are `steered`.
    """

    mouth: Callable[[float], float] | None = None
    renderer: Callable[[Avatar, Timings], Renderer] | None = None
    renderer_shared: bool = False
    muxer: OpenMuxer | None = None
    timings: Timings = field(default_factory=Timings)
    encoded: Callable[[Sequence[AccessUnit], Floats], None] | None = None
    poses: PosePlayer | None = None
    kbps: Callable[[], int] | None = None
