"""Short-lived tokens that the front end of a fleet signs for one device, and the key that both have."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path

from musetalk_runtime.core.errors import InputNotFound, InvalidArgument
from musetalk_runtime.service.security.tokens import Token

LIFETIME_S = 60  # of a token: it is for one request, and the clocks of two machines may differ
SHORTEST_SECRET = 32  # bytes
MAX_SECRET_BYTES = 4096
MAX_TOKEN_CHARACTERS = 1024
FRONT = "fleet:front"  # the holder of what the front end asks for itself: no name in a file of tokens has a colon
ANYONE = "fleet:anyone"  # the holder where the front end needs no tokens


def read_secret(path: Path) -> bytes:
    """The secret in the file at `path`, white space at its ends left out; raises InputNotFound or InvalidArgument."""
    try:
        with path.open("rb") as file:
            secret = file.read(MAX_SECRET_BYTES + 1).strip()
    except OSError as error:
        raise InputNotFound(f"{path}: the secret cannot be read: {error.strerror}") from None
    if not SHORTEST_SECRET <= len(secret) <= MAX_SECRET_BYTES:
        raise InvalidArgument(
            f"{path}: a secret of {len(secret)} bytes, expected {SHORTEST_SECRET} to {MAX_SECRET_BYTES}: "
            "'openssl rand -hex 32' makes one"
        )
    return secret


def device_key(secret: bytes, device: str) -> bytes:
    """The key of one device, in hexadecimal: it opens no other, and does not give the secret away."""
    return hmac.new(secret, f"device {device}".encode(), "sha256").hexdigest().encode()


class SignedTokens:
    """Signs and finds the tokens of the device that `key` is of: HMAC-SHA256 of holder, limits and time of expiry.

    That time is of the wall clock, `now`, in seconds, since two machines share no other.
    """

    def __init__(self, key: bytes, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._now = now
        self._holders: dict[tuple[str, int | None, int | None], Token] = {}

    def sign(self, holder: str, sessions: int | None = None, uploads: int | None = None) -> str:
        """A token of `holder`, who may have `sessions` at once and upload `uploads` MiB an hour."""
        content = json.dumps([holder, sessions, uploads, int(self._now()) + LIFETIME_S], separators=(",", ":"))
        payload = base64.urlsafe_b64encode(content.encode()).decode()
        return f"{payload}.{self._signature(payload)}"

    def find(self, text: str) -> Token | None:
        """The token that `text` is, one object for each holder; None if it is not signed with the key, or expired."""
        payload, _, signature = text[: MAX_TOKEN_CHARACTERS + 1].partition(".")
        genuine = hmac.compare_digest(self._signature(payload).encode(), signature.encode("utf-8", "replace"))
        if len(text) > MAX_TOKEN_CHARACTERS or not genuine:
            return None
        holder, sessions, uploads, expires = json.loads(base64.urlsafe_b64decode(payload))
        if not self._now() < expires <= self._now() + 2 * LIFETIME_S:
            return None
        return self._holders.setdefault((holder, sessions, uploads), Token(holder, b"", sessions, uploads))

    def _signature(self, payload: str) -> str:
        return hmac.new(self._key, payload.encode("utf-8", "replace"), "sha256").hexdigest()
