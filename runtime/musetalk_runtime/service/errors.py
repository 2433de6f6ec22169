"""What a client is told when something is refused."""

from musetalk_runtime.core.errors import MuseTalkEdgeError


class ServiceError(MuseTalkEdgeError):
    """A request that is refused: an HTTP `status`, a `code` for programs, and the text for people.

    `headers` go with the answer, such as ``Retry-After``.
    """

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers or {}


class StreamFailed(ServiceError):
    """The session that makes the stream has failed."""

    def __init__(self, message: str) -> None:
        super().__init__(502, "session_failed", message)


class EngineFailed(ServiceError):
    """The engines of a bundle have failed, and make nothing more in this process."""

    def __init__(self, message: str) -> None:
        super().__init__(503, "engine_failed", message, {"Retry-After": "30"})


class FellBehind(ServiceError):
    """A viewer was slower than the stream, or asks for what the window no longer holds."""

    def __init__(self, position: int) -> None:
        super().__init__(
            416,
            "out_of_window",
            "that part of the stream is not held: join again without Range and 'from'",
            {"Content-Range": f"bytes */{position}"},
        )


def unknown_session() -> ServiceError:
    """For an id that is nobody's, or another's."""
    return ServiceError(
        404, "unknown_session", "no such session: it has ended, the service was started again, or its id is wrong"
    )
