"""An upload by HTTP, which ends with the server's answer: FFmpeg does not look at that."""

import base64
import http.client
import select
from typing import Any, NoReturn
from urllib.parse import quote, unquote, urlsplit

from musetalk_runtime.core.errors import OutputError

SAFE = "/%:=&?~+!$,;'@()*[]"  # characters that stay as they are in a path and query


class HttpUpload:
    """Takes bytes by `write`, the body of one POST to an http or https `url`. Raises OutputError.

    Of https the server's certificate is checked. ``error``: what `write` raised, which PyAV may replace by its own.
    """

    error: OutputError | None = None

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme.lower() == "https" else http.client.HTTPConnection
        self._plain = kind is http.client.HTTPConnection
        try:
            self._connection = kind(parts.hostname or "", parts.port)
            query = f"?{parts.query}" if parts.query else ""
            self._connection.putrequest("POST", quote((parts.path or "/") + query, safe=SAFE))
            for name, value in _headers(parts.username, parts.password).items():
                self._connection.putheader(name, value)
            self._connection.endheaders()
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise OutputError(getattr(error, "strerror", None) or str(error)) from None

    def write(self, data: bytes) -> int:
        """Send a part of the body; raises OutputError also where the server has answered already."""
        if self.error:
            raise self.error
        if self._plain and select.select([self._connection.sock], [], [], 0)[0]:
            self._fail("the server ended the connection")
        self._send(b"%x\r\n%b\r\n" % (len(data), bytes(data)))
        return len(data)

    def finish(self) -> None:
        """End the body and wait for the answer; raises OutputError unless it says that all is well."""
        self._send(b"0\r\n\r\n")
        answer = self._answer()
        if answer is None or not 200 <= answer.status < 300:
            raise _refused(answer, "the server gave no answer")

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _send(self, data: bytes) -> None:
        try:
            self._connection.send(data)
        except OSError as error:
            self._fail(f"the server ended the connection: {error.strerror}")

    def _fail(self, otherwise: str) -> NoReturn:
        self.error = self.error or _refused(self._answer(), otherwise)
        raise self.error

    def _answer(self) -> Any:
        try:
            return self._connection.getresponse()
        except (OSError, http.client.HTTPException):
            return None


def _refused(answer: Any, otherwise: str) -> OutputError:
    return OutputError(f"the server answered {answer.status} {answer.reason}" if answer else otherwise)


def _headers(user: str | None, password: str | None) -> dict[str, str]:
    headers = {"Content-Type": "video/mp4", "Transfer-Encoding": "chunked", "Connection": "close"}
    if user is not None:
        pair = f"{unquote(user)}:{unquote(password or '')}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return headers
