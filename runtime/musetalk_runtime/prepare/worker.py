"""The worker process that prepares one uploaded avatar, so that a hostile file harms nobody else.

    python -m musetalk_runtime.prepare.worker

One line of JSON on stdin says what to do (`Request`); the process ends when stdin does. It has low priority and limits
of memory, time and file size. Lines of JSON on stdout say ``{"progress": [stage, done, total]}``, and at the end
``{"report": {...}}`` or ``{"error": {"code": ..., "message": ..., "detail": ...}}``, the last for a log.
"""

import errno
import json
import os
import resource
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musetalk_runtime.avatar.box import Box
from musetalk_runtime.storage.folder import DISK_FULL_ERRORS

NICENESS = 10
PROGRESS_INTERVAL_S = 0.1  # seconds between reports of one stage
NO_ROOM_ERRORS = (*DISK_FULL_ERRORS, None)  # NumPy gives none for an array that does not fit


@dataclass(frozen=True)
class Request:
    """What to prepare, where, and the limits: `memory` bytes, `seconds` of one core, `file_bytes` of any file."""

    source: str
    bundle: str
    output: str
    face_model: str | None
    face_box: Box | None
    max_seconds: float
    max_side: int
    memory: int
    seconds: int
    file_bytes: int


def main() -> None:
    """Do what stdin asks for."""
    said = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    request = Request(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    _limit(request)

    def say(**content: Any) -> None:
        print(json.dumps(content), file=said, flush=True)

    try:
        say(report=_prepare(request, say))
    except Exception as error:
        code, message = _describe(error, request)
        say(error={"code": code, "message": message, "detail": traceback.format_exc()[-2000:]})


def _limit(request: Request) -> None:
    os.nice(NICENESS)
    for what, soft, hard in (
        (resource.RLIMIT_DATA, request.memory, request.memory),  # not the address space, of which CUDA reserves much
        (resource.RLIMIT_CPU, request.seconds, request.seconds + 1),  # the first ends it by SIGXCPU, which says why
        (resource.RLIMIT_FSIZE, request.file_bytes, request.file_bytes),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        allowed = resource.getrlimit(what)[1]
        most = sys.maxsize if allowed == resource.RLIM_INFINITY else allowed
        resource.setrlimit(what, (min(soft, most), min(hard, most)))


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def _prepare(request: Request, say: Any) -> dict[str, Any]:
    from musetalk_runtime.bundle import Bundle
    from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar

    options = PrepareOptions(
        Path(request.face_model) if request.face_model and not request.face_box else None,
        request.face_box and (*request.face_box,),
        max_seconds=request.max_seconds,
        max_side=request.max_side,
    )
    said_at = 0.0

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal said_at
        if done == total or time.monotonic() - said_at > PROGRESS_INTERVAL_S:
            said_at = time.monotonic()
            say(progress=[stage, done, total])

    with Bundle.open(request.bundle) as bundle:
        report = prepare_avatar(Path(request.source), bundle, Path(request.output), options, progress)
    cut = (f"it is longer than {request.max_seconds:g} s: cut there",) * report.cut
    warnings = (*cut, *(warning.removeprefix(f"{request.source}: ") for warning in report.warnings))
    return {**report.to_json(), "warnings": warnings}


def _describe(error: Exception, request: Request) -> tuple[str, str]:
    """A code for programs and a text for people, without this machine's paths and the command's options."""
    import cv2

    from musetalk_runtime.core.errors import FaceNotFound, InvalidMedia, MuseTalkEdgeError, one_line

    cause = error.__cause__ if isinstance(error.__cause__, OSError | MemoryError) else error
    if isinstance(cause, OSError) and cause.errno in NO_ROOM_ERRORS:
        return "no_storage", "there is no room for this avatar: delete others, or send a shorter or smaller video"
    no_thread = isinstance(cause, OSError) and cause.errno == errno.EAGAIN  # there is no memory for its stack
    no_picture = isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem
    if isinstance(cause, MemoryError) or no_thread or no_picture:
        return "too_large", f"it takes more than {request.memory >> 20} MiB of memory: send a smaller picture or video"
    if isinstance(error, FaceNotFound):
        return "no_face", "no face was found: choose a picture with one large, frontal face, or mark the face's box"
    if isinstance(error, MuseTalkEdgeError):
        text = one_line(error).replace("--face-box", "the face's box")
        text = text.replace(f"{request.source}: ", "").replace(request.output, "the avatar")
        return ("bad_media" if isinstance(error, InvalidMedia) else "failed"), text
    return "failed", f"the preparation failed: {type(error).__name__}"


if __name__ == "__main__":
    main()
