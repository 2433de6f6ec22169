"""The directory of a fleet: which devices there are, and where."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit


@dataclass(frozen=True)
class DeviceAddress:
    """Where a device's service is: `url` for the front end; `public_url` for viewers, None if a proxy leads there by
    ``/d/NAME``.
    """

    name: str
    url: str
    public_url: str | None = None

    @property
    def root_path(self) -> str:
        """What comes before every path of this device."""
        return urlsplit(self.public_url).path.rstrip("/") if self.public_url else f"/d/{self.name}"

    def link(self, path: str) -> str:
        """What a viewer is given for `path`, which begins with the root path."""
        if self.public_url is None:
            return path
        parts = urlsplit(self.public_url)
        return f"{parts.scheme}://{parts.netloc}{path}"


class Directory(Protocol):
    """What the front end asks of the cluster. A call that fails raises OSError or MuseTalkEdgeError."""

    async def devices(self) -> Mapping[str, DeviceAddress]:
        """The devices there are, whether they are up or not, by name."""

    async def take_avatar(self, device: str, avatar: str) -> None:
        """Have `device` take the current version of `avatar` from the registry; returns before it has."""

    async def ask_for(self, devices: int) -> None:
        """Tell the autoscaler how many devices are wanted in all."""
