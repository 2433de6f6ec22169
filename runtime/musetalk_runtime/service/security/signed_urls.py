"""Addresses that carry their own permission, for what cannot send a header: ``<video>``, events, WebSockets, HLS."""

import hmac
import secrets
import time
from urllib.parse import parse_qs

LIFE = 3600  # seconds that a link is good for
FOLDER = "/hls/"  # what lies under it has one signature, so that a playlist can name its segments


class Links:
    """Signs paths with a secret of this process: HMAC-SHA256 of the time of expiry and of the one path.

    That time is of the monotonic clock, so that no change of the date makes links live longer or shorter.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def sign(self, path: str) -> str:
        """The query that `path` is good with."""
        expires = str(int(time.monotonic()) + LIFE)
        return f"expires={expires}&signature={self._signature(path, expires)}"

    def good(self, path: str, query: bytes) -> bool:
        """Whether `query` has a signature of `path` that has not expired."""
        try:
            fields = parse_qs(query.decode("ascii"), strict_parsing=True, max_num_fields=16)
            (expires,), (signature,) = fields["expires"], fields["signature"]
        except (ValueError, KeyError):
            return False
        genuine = hmac.compare_digest(self._signature(path, expires).encode(), signature.encode("utf-8", "replace"))
        return genuine and int(expires) > time.monotonic()

    def _signature(self, path: str, expires: str) -> str:
        folder, found, _ = path.partition(FOLDER)
        message = f"{expires} {folder}{found}"
        return hmac.new(self._secret, message.encode(), "sha256").hexdigest()
