"""Signed URLs, for clients that cannot send a header: ``<video>``, events, WebSockets, HLS players."""

import hmac
import secrets
import time
from collections.abc import Callable
from urllib.parse import parse_qs

LIFETIME_S = 3600
FOLDER = "/hls/"  # all paths under it have one signature, so that a playlist can name its segments


class SignedUrls:
    """Signs paths with a secret of this process: HMAC-SHA256 of the time of expiry and of the one path.

    That time is of a monotonic clock, `now`, so that no change of the date makes URLs live longer or shorter.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._secret = secrets.token_bytes(32)

    def sign(self, path: str) -> str:
        """The query that makes a signed URL of `path`."""
        expires = str(int(self._now()) + LIFETIME_S)
        return f"expires={expires}&signature={self._signature(path, expires)}"

    def verify(self, path: str, query: bytes) -> bool:
        """Whether `query` has a signature of `path` that has not expired."""
        try:
            fields = parse_qs(query.decode("ascii"), strict_parsing=True, max_num_fields=16)
            (expires,), (signature,) = fields["expires"], fields["signature"]
        except (ValueError, KeyError):
            return False
        genuine = hmac.compare_digest(self._signature(path, expires).encode(), signature.encode("utf-8", "replace"))
        return genuine and int(expires) > self._now()

    def _signature(self, path: str, expires: str) -> str:
        folder, found, _ = path.partition(FOLDER)
        message = f"{expires} {folder}{found}"
        return hmac.new(self._secret, message.encode(), "sha256").hexdigest()
