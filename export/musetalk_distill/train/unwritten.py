"""What a run says when a file of it cannot be written."""

from musetalk_runtime.core.errors import OutputError


def unwritten(what: str, reason: object) -> OutputError:
    return OutputError(f"{what} cannot be written: {reason}: make room, then go on with --resume")
