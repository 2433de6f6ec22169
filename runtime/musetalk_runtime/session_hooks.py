"""The hooks by which a service steers a session while it runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.backends.interface import Renderer
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.output.video import AccessUnit


@dataclass(frozen=True)
class SessionHooks:
    """What whoever runs a session decides, instead of the session.

    ``mouth`` says for a time in the stream, in seconds, how far the mouth may open there, 0 to 1: at 0 the avatar's own
    frame plays, whatever is heard. It is asked when a frame is handed on and again when it leaves, so that an answer
    that falls holds for frames already under way. ``renderer`` makes the avatar's renderer, None for one of the
    session's own; ``timings`` gets the stages; ``encoded`` gets what is encoded after each frame, and the sound of
    that frame, ``[channels, n]`` at 48 kHz.
    """

    mouth: Callable[[float], float] | None = None
    renderer: Callable[[Avatar, Timings], Renderer] | None = None
    timings: Timings = field(default_factory=Timings)
    encoded: Callable[[Sequence[AccessUnit], Floats], None] | None = None
