"""An avatar of the drawn face, prepared on the spot."""

from pathlib import Path

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.detail import Detail
from musetalk_runtime.diagnostics.synthetic import SIDE, write_face_video
from musetalk_runtime.prepare.prepare import PrepareOptions, prepare_avatar


def drawn_avatar(
    bundle: Path, work: Path, frames: int, size: tuple[int, int] = (SIDE, SIDE), detail: Detail = "auto"
) -> Avatar:
    """`frames` frames of `size` (width, height), prepared with the bundle in the folder `bundle`, kept in `work`.

    It is opened with `detail`.
    """
    box = write_face_video(work / "face.mp4", frames, *size)
    with Bundle.open(bundle) as encoder:
        prepare_avatar(work / "face.mp4", encoder, work / "avatar", PrepareOptions(face_box=box))
    return Avatar.open(work / "avatar", detail)
