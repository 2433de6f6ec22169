"""The settings of a device."""

from dataclasses import dataclass
from pathlib import Path

from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.core.names import NAME
from musetalk_runtime.fleet.directory import DeviceAddress

UNSPECIFIED = ("0.0.0.0", "::")  # noqa: S104


@dataclass(frozen=True)
class DeviceSettings:
    """The device `name`, which keeps its bundles and avatars in `state`.

    Its service listens on `host` and `port`, and viewers reach it by `public_url`, or by a proxy if that is None.
    `bundles` are those of `registry`, an address that fsspec knows, by the names that sessions call them. `secret` is
    the file with the fleet's secret. `options` are more of ``musetalk-edge serve``. Raises InvalidArgument.
    """

    name: str
    state: Path
    secret: Path
    host: str = "127.0.0.1"
    port: int = 8787
    public_url: str | None = None
    registry: str | None = None
    bundles: tuple[tuple[str, str], ...] = ()
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.name, *(part for bundle in self.bundles for part in bundle)):
            if not NAME.fullmatch(name):
                raise InvalidArgument(f"name {name!r}: expected letters, digits, - and _, 64 at most")
        if self.public_url is not None and not self.public_url.startswith(("http://", "https://")):
            raise InvalidArgument(f"public URL {self.public_url!r}: expected http:// or https://")
        if self.host in UNSPECIFIED:
            raise InvalidArgument(f"host {self.host}: give the address at which the front end reaches this device")
        if self.bundles and self.registry is None:
            raise InvalidArgument("bundles are taken from a registry: give --registry")

    @property
    def address(self) -> DeviceAddress:
        """Where its service is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return DeviceAddress(self.name, f"http://{host}:{self.port}", self.public_url)
