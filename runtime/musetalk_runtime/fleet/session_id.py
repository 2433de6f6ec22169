"""The id of a session in a fleet: ``DEVICE.KEY``, so that every request finds its device without a table."""

import re
from dataclasses import dataclass

from musetalk_runtime.core.names import NAME

FORM = re.compile(rf"({NAME.pattern})\.([0-9a-f]{{8}}[A-Za-z0-9_-]{{1,48}})")


@dataclass(frozen=True)
class SessionId:
    """A session's `device`, and its `key` there, which begins with the process that runs it."""

    device: str
    key: str

    @property
    def process(self) -> str:
        """The process of the device's service, whose sessions end with it."""
        return self.key[:8]

    def __str__(self) -> str:
        return f"{self.device}.{self.key}"

    @classmethod
    def parse(cls, text: str) -> "SessionId | None":
        """The id that `text` is, if it has the form of one."""
        match = FORM.fullmatch(text)
        return cls(*match.groups()) if match else None
