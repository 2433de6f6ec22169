"""An avatar that is being made from an upload."""

import asyncio
from pathlib import Path
from typing import Any, Literal

from musetalk_runtime.avatar.box import Box
from musetalk_runtime.service.delivery.event_stream import EventStream, ServerSentEvent

AvatarState = Literal["uploading", "waiting", "preparing", "ready", "failed"]


class NewAvatar:
    """The state of its making, and the events that tell of it.

    Attributes: ``name``, ``box`` (the face's, None to find it), ``folder`` (its own, while it is made), ``state``
    (uploading, waiting for its turn, preparing, ready or failed), ``progress`` (what is done, frames done, of how
    many), ``warnings`` (about the file that was sent), ``error`` (one line), ``size`` (bytes on the disk), ``events``,
    ``task``.
    """

    def __init__(self, name: str, box: Box | None, folder: Path) -> None:
        self.name, self.box, self.folder = name, box, folder
        self.state: AvatarState = "uploading"
        self.progress: tuple[str, int, int] | None = None
        self.warnings: list[str] = []
        self.error: str | None = None
        self.size = 0
        self.events = EventStream(asyncio.get_running_loop())
        self.task: asyncio.Task[None] | None = None

    @property
    def upload(self) -> Path:
        """The file that was sent. It has no suffix, so that what it is, is seen from its content."""
        return self.folder / "upload"

    @property
    def pack(self) -> Path:
        """The avatar, once it is made."""
        return self.folder / "pack"

    def move(self, state: AvatarState, error: str | None = None) -> None:
        """Change the state, and publish it."""
        self.state, self.error, self.progress = state, error, None
        event = self.snapshot()
        self.events.publish(event.name, **event.content)
        if state in ("ready", "failed"):
            self.events.end()

    def report(self, stage: str, done: int, total: int) -> None:
        """Publish how far the preparation is."""
        self.progress = (stage, done, total)
        self.events.publish("progress", stage=stage, done=done, total=total)

    def snapshot(self) -> ServerSentEvent:
        """Its state now, as an event."""
        content: dict[str, Any] = {"state": self.state}
        told = {"warnings": self.warnings, "error": self.error}
        return ServerSentEvent("state", content | {name: value for name, value in told.items() if value})
