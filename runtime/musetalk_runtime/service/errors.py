"""The errors that the HTTP API answers with."""

from typing import Any

from musetalk_runtime.core.errors import MuseTalkEdgeError

RETRY_SOON = {"Retry-After": "5"}  # seconds


class ServiceError(MuseTalkEdgeError):
    """A refused request: an HTTP `status`, a `code` for programs, and a message for people.

    `headers` are sent with the answer, such as ``Retry-After``.
    """

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers or {}

    def to_json(self) -> dict[str, Any]:
        """The body of the answer, as every error has it."""
        return {"error": {"code": self.code, "message": str(self)}}


class StreamFailed(ServiceError):
    """The session that makes the stream has failed."""

    def __init__(self, message: str) -> None:
        super().__init__(502, "session_failed", message)


class EngineFailed(ServiceError):
    """The engines of a bundle have failed. They generate nothing more in this process."""

    def __init__(self, message: str) -> None:
        super().__init__(503, "engine_failed", message, {"Retry-After": "30"})


class FellBehind(ServiceError):
    """A viewer was slower than the stream, or asks for a part that the window no longer holds."""

    def __init__(self, position: int) -> None:
        super().__init__(
            416,
            "out_of_window",
            "that part of the stream is not held: join again without Range and 'from'",
            {"Content-Range": f"bytes */{position}"},
        )


def unknown_session() -> ServiceError:
    """The error for an id that no session has, or that another token's session has."""
    return ServiceError(
        404, "unknown_session", "no such session: it has ended, the service was started again, or its id is wrong"
    )
