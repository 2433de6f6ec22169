"""The media servers that streams may be sent to. The operator names them, since the service connects to them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.output.url import url_container
from musetalk_runtime.service.errors import ServiceError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
URL = re.compile(r"[!-~]{1,2000}")


@dataclass(frozen=True)
class PushTarget:
    """A media server: the operator's name for it, and a URL in which ``{id}`` stands for the session's id.

    ``retry_waits`` are the seconds before each reconnection, and ``stall_timeout`` those in which it has to take
    something.
    """

    name: str
    url: str
    retry_waits: tuple[float, ...]
    stall_timeout: float


def check_targets(targets: Mapping[str, str]) -> None:
    """Raise InvalidArgument for a name or a URL that cannot be one."""
    for name, url in targets.items():
        if not NAME.fullmatch(name):
            raise InvalidArgument(f"push target {name!r}: expected letters, digits, - and _, 64 at most")
        if not URL.fullmatch(url):
            raise InvalidArgument(f"push target {name}: expected a URL of at most 2000 printable characters")
        url_container(url)


def unknown_target(name: str) -> ServiceError:
    """The error for a target that the operator did not name."""
    return ServiceError(404, "unknown_target", f"no push target {name[:64]!r}: the operator names them by --push")
