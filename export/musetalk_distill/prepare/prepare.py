"""The preparation of shards from a folder of videos."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

from musetalk_distill.prepare.encoders import Encoders
from musetalk_distill.prepare.options import PrepareOptions
from musetalk_distill.prepare.prepared import Prepared, PrepareReport
from musetalk_distill.prepare.progress import Progress
from musetalk_distill.prepare.source_video import LeftOut, SourceVideo, find_source_videos
from musetalk_distill.prepare.split import split_clips
from musetalk_distill.prepare.video_preparer import VideoPreparer
from musetalk_distill.prepare.work import ClipFolder
from musetalk_distill.shards.clip import ClipEntry, ClipTensors
from musetalk_distill.shards.shards import SHARDS_KIND, write_shards
from musetalk_runtime.core.errors import InvalidArgument, InvalidMedia
from musetalk_runtime.prepare.face import FaceDetector
from musetalk_runtime.storage.folder import check_destination

PROGRAM = "distill-student"
SIGNALS_S = 0.5  # seconds until a signal is noticed, at most

T = TypeVar("T")
R = TypeVar("R")


def prepare_shards(videos: Path, output: Path, checkpoint: Path, options: PrepareOptions) -> PrepareReport:
    """Make the shards `output` of the videos in the folder `videos`, replacing older shards there.

    A video that is broken, or of no use, is reported and left out. What is finished is kept beside `output` until all
    is; the same call goes on from there. Raises a MuseTalkEdgeError: for a folder, checkpoint or detector that is no
    good, InvalidMedia if no video is of use, OutputError where there is no room; `output` is written whole or not.
    """
    check_destination(output, SHARDS_KIND)
    sources, unusable = find_source_videos(videos)
    detector = FaceDetector(options.face_model) if options.face_model else None
    if detector is None and not options.boxes_from_json:
        _require_boxes(sources)
    encoders = Encoders(checkpoint)
    with ClipFolder(output) as work, Progress(sources, PROGRAM) as progress:
        for other in unusable:
            progress.say(f"skipped {other.name}: {other.reason}")
        preparer = VideoPreparer(encoders, detector, options, work, progress)
        with encoders.jobs(len(sources)) as jobs:
            finished = in_threads(preparer.prepare, sources, jobs, progress.stop)
        usable = [prepared for prepared in finished if prepared.clips]
        if not usable:
            raise InvalidMedia(f"{videos}: none of its {len(finished)} videos is of use: see above")
        entries, warnings = split_clips(usable, options.val_share, options.rate)
        for warning in warnings:
            progress.say(warning)
        progress.say(f"writing {len(entries)} clips")
        skipped, left_out = _omissions(finished, unusable)
        extra = {
            "encoder_id": encoders.spec.encoder_id,
            "audio_encoder_id": encoders.audio_id,
            "skipped": skipped,
            "left_out": left_out,
        }
        clips = write_shards(output, encoders.spec, _read(work, entries), extra=extra)
        work.remove()
    return PrepareReport(clips, skipped, left_out, warnings)


def in_threads(work: Callable[[T], R], items: Sequence[T], threads: int, stop: Callable[[], None]) -> list[R]:
    """The results of `work` on the `items`, in their order, by `threads` threads.

    Decoding and cropping release the GIL. After an error or an interrupt `stop` is called.
    """
    if threads == 1:
        return list(map(work, items))
    with ThreadPoolExecutor(threads) as pool:
        try:  # an interrupt may come while the first are at work and the others are still handed out
            futures = [pool.submit(work, item) for item in items]
            while wait(futures, SIGNALS_S, FIRST_EXCEPTION).not_done:  # a wait that has just begun may miss a signal
                for future in futures:
                    if future.done():
                        future.result()
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop()
            raise


def _require_boxes(sources: Sequence[SourceVideo]) -> None:
    for video in sources:
        try:
            annotations = video.annotations()
        except InvalidMedia:
            continue  # reported when its turn comes
        if annotations.face_box is None:
            raise InvalidArgument(
                f"{video.path}: no JSON file beside it names its face_box: give a face detector by --face-model FILE "
                "(YuNet, such as OpenCV Zoo's face_detection_yunet), or leave such videos out by --face-boxes-from-json"
            )


def _read(work: ClipFolder, entries: list[tuple[ClipEntry, str]]) -> Iterator[tuple[ClipEntry, ClipTensors]]:
    for entry, file in entries:
        tensors = work.read_clip(file, entry.id)
        yield entry, tensors if entry.split == "val" else tensors.without_images()


def _omissions(finished: list[Prepared], unusable: list[LeftOut]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Videos that were skipped, and frames left out of the others, for the manifest."""
    reasons = [(other.name, other.reason) for other in unusable]
    reasons += [(prepared.video, prepared.skipped) for prepared in finished if prepared.skipped]
    skipped = [{"video": name, "reason": reason} for name, reason in sorted(reasons)]
    left_out = [
        {"video": prepared.video, "frames": prepared.left_out, "of": prepared.frames}
        for prepared in finished
        if prepared.clips and prepared.left_out
    ]
    return skipped, left_out
