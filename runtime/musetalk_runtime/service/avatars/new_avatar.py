"""An avatar that is being made from an upload."""

import asyncio
from pathlib import Path
from typing import Any, Literal

from musetalk_runtime.avatar.box import Box
from musetalk_runtime.service.session.event_stream import Notice, Notices

AvatarState = Literal["uploading", "waiting", "preparing", "ready", "failed"]


class NewAvatar:
    """Its state, and who is told.

    Attributes: ``name``, ``box`` (the face's, None to find it), ``folder`` (its own, while it is made), ``state``
    (uploading, waiting for its turn, preparing, ready or failed), ``progress`` (what is done, frames done, of how
    many), ``error`` (one line), ``size`` (bytes on the disk), ``notices``, ``task``.
    """

    def __init__(self, name: str, box: Box | None, folder: Path) -> None:
        self.name, self.box, self.folder = name, box, folder
        self.state: AvatarState = "uploading"
        self.progress: tuple[str, int, int] | None = None
        self.error: str | None = None
        self.size = 0
        self.notices = Notices(asyncio.get_running_loop())
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
        """Be in another state, and tell."""
        self.state, self.error, self.progress = state, error, None
        notice = self.snapshot()
        self.notices.post(notice.name, **notice.content)
        if state in ("ready", "failed"):
            self.notices.end()

    def report(self, stage: str, done: int, total: int) -> None:
        """Tell how far the preparation is."""
        self.progress = (stage, done, total)
        self.notices.post("progress", stage=stage, done=done, total=total)

    def snapshot(self) -> Notice:
        """Its state now."""
        content: dict[str, Any] = {"state": self.state}
        return Notice("state", {**content, "error": self.error} if self.error else content)
