"""The rules of access: tokens, hosts, origins and proxies."""

import ipaddress
import re
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.service.security.signed_tokens import SignedTokens
from musetalk_runtime.service.security.signed_urls import SignedUrls
from musetalk_runtime.service.security.tokens import Token, Tokens

HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(:[0-9]{1,5})?")
ORIGIN = re.compile(rf"https?://{HOST.pattern}")
ROOT = re.compile(r"(/[A-Za-z0-9_.~-]+)*")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Access:
    """`tokens` are taken, those of a file or those that a fleet's front end signs, None lets everybody in; `hosts` are
    the names that the service goes by, besides localhost and any IP address; pages of `origins` (``https://name``),
    besides its own, may use it; `root_path` is what a proxy puts before every path; `proxies` are believed what they
    say of the host. Raises InvalidArgument.
    """

    tokens: Tokens | SignedTokens | None = None
    hosts: frozenset[str] = frozenset()
    origins: tuple[str, ...] = ()
    root_path: str = ""
    proxies: tuple[Network, ...] = ()
    signed_urls: SignedUrls = field(default_factory=SignedUrls)

    def __post_init__(self) -> None:
        for host in self.hosts:
            if not HOST.fullmatch(host) or ":" in host:
                raise InvalidArgument(f"host {host!r}: expected a name, without a port")
        for origin in self.origins:
            if not ORIGIN.fullmatch(origin):
                raise InvalidArgument(
                    f"origin {origin!r}: expected http://NAME or https://NAME, with a port if need be"
                )
        if not ROOT.fullmatch(self.root_path):
            raise InvalidArgument(
                f"root path {self.root_path!r}: expected a path such as /face, without a / at its end"
            )

    def host(self, scope: Scope) -> str:
        """The host and port that the client asked for: as it says, or as a proxy that is believed does."""
        headers = Headers(scope=scope)
        forwarded = headers.get("x-forwarded-host", "").rpartition(",")[2].strip()
        return forwarded if forwarded and self._is_trusted_proxy(scope) else headers.get("host", "")

    def knows(self, host: str) -> bool:
        """Whether `host` is this service: a name that is another's may be a page's that had it point here."""
        match = HOST.fullmatch(host)
        name = match[1].lower() if match else ""
        return name == "localhost" or name in self.hosts or _is_address(name)

    def trusts(self, origin: str | None, host: str) -> bool:
        """Whether a page of `origin` may use it; None is what is not a page elsewhere."""
        return origin is None or origin in self.origins or origin.partition("://")[2].lower() == host.lower() != ""

    def link(self, path: str) -> str:
        """The address that a client is given for `path`, with a permission if it needs one."""
        return f"{self.root_path}{path}{'?' + self.signed_urls.sign(path) if self.tokens else ''}"

    def _is_trusted_proxy(self, scope: Scope) -> bool:
        client = scope.get("client")
        if not self.proxies or not client or not _is_address(client[0]):
            return False
        address = ipaddress.ip_address(client[0])
        return any(address in network for network in self.proxies)


def token_of(connection: HTTPConnection) -> Token | None:
    """The token of a request; None where none is needed, and for a signed URL, which names its session."""
    token: Token | None = connection.state.token
    return token


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is reached from this machine alone."""
    return ipaddress.ip_address(host).is_loopback if _is_address(host) else host == "localhost"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
