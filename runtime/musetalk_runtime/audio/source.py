"""What a session can hear."""

from collections.abc import Generator
from typing import Protocol, runtime_checkable

from musetalk_runtime.audio.chunk import AudioChunk


@runtime_checkable
class AudioSource(Protocol):
    """Audio as it is iterated, once. ``live``: it comes at the pace of real time. ``channels`` of its sound: 1 or 2.
    ``warnings`` tells, after the last chunk, what was wrong with it.
    """

    @property
    def live(self) -> bool: ...
    @property
    def channels(self) -> int: ...
    @property
    def warnings(self) -> list[str]: ...

    def __iter__(self) -> Generator[AudioChunk, None, None]: ...

    def interrupt(self) -> None:
        """End an iteration that waits in another thread."""

    def close(self) -> None:
        """Release what it holds; not while another thread iterates."""
