"""STUN and TURN servers, for viewers behind other networks."""

import re
from dataclasses import dataclass

from musetalk_runtime.core.errors import InvalidArgument

URL = re.compile(r"(stun|turn)s?:(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?(\?transport=(udp|tcp))?")


@dataclass(frozen=True)
class IceServer:
    """A server's `url` (``stun:HOST``, ``turn:HOST``), and what TURN asks for. Raises InvalidArgument."""

    url: str
    username: str = ""
    credential: str = ""

    def __post_init__(self) -> None:
        if not URL.fullmatch(self.url):
            raise InvalidArgument(f"ICE server {self.url!r}: expected stun:HOST[:PORT] or turn:HOST[:PORT]")
        if self.url.startswith("turn") and not (self.username and self.credential):
            raise InvalidArgument(f"ICE server {self.url!r}: expected URL,USER,PASSWORD")
        if not all(32 <= ord(letter) < 127 for letter in self.username + self.credential):
            raise InvalidArgument(f"ICE server {self.url!r}: expected ASCII in its user and password")

    @classmethod
    def parse(cls, text: str) -> "IceServer":
        """What ``URL`` or ``URL,USER,PASSWORD`` says."""
        return cls(*text.split(",", 2))

    @property
    def link(self) -> str:
        """The ``Link`` header that tells a WHEP client of it."""
        fields = [f'<{self.url}>; rel="ice-server"']
        if self.username:
            fields += [f"username={_quoted(self.username)}", f"credential={_quoted(self.credential)}"]
            fields.append('credential-type="password"')
        return "; ".join(fields)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
