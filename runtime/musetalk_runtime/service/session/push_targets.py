"""The media servers that streams may be sent to: the operator's choice, since the service connects to them."""

import re
from collections.abc import Mapping

from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.output.url import url_container
from musetalk_runtime.service.errors import ServiceError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
URL = re.compile(r"[!-~]{1,2000}")


def check_targets(targets: Mapping[str, str]) -> None:
    """Raise InvalidArgument for a name or a URL that cannot be one."""
    for name, url in targets.items():
        if not NAME.fullmatch(name):
            raise InvalidArgument(f"push target {name!r}: expected letters, digits, - and _, 64 at most")
        if not URL.fullmatch(url):
            raise InvalidArgument(f"push target {name}: expected a URL of at most 2000 printable characters")
        url_container(url)


def target_url(targets: Mapping[str, str], name: str) -> str:
    """The URL of the target `name`; raises ServiceError."""
    if name not in targets:
        raise ServiceError(404, "unknown_target", f"no push target {name[:64]!r}: the operator names them by --push")
    return targets[name]
