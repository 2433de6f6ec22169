"""A folder of videos to shards."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from musetalk_distill.prepare.encoders import Encoders
from musetalk_distill.prepare.footage import Footage, find_footage
from musetalk_distill.prepare.maker import Maker
from musetalk_distill.prepare.options import PrepareOptions
from musetalk_distill.prepare.prepared import Prepared, PrepareReport
from musetalk_distill.prepare.progress import Progress
from musetalk_distill.prepare.split import chosen_for_val
from musetalk_distill.prepare.threads import in_threads
from musetalk_distill.prepare.work import ClipFolder
from musetalk_distill.shards.clip import ClipEntry, ClipTensors
from musetalk_distill.shards.shards import SHARDS_KIND, write_shards
from musetalk_runtime.core.errors import InvalidArgument, InvalidMedia
from musetalk_runtime.prepare.face import FaceDetector
from musetalk_runtime.storage.folder import check_destination

PROGRAM = "distill-student"


def prepare_shards(videos: Path, output: Path, checkpoint: Path, options: PrepareOptions) -> PrepareReport:
    """Make the shards `output` of the videos in the folder `videos`, replacing older shards there.

    A video that is broken, or of no use, is told of and left out. What is finished is kept beside `output` until all
    is; the same call goes on from there. Raises a MuseTalkEdgeError: for a folder, checkpoint or detector that is no
    good, InvalidMedia if no video is of use, OutputError where there is no room; `output` is written whole or not.
    """
    check_destination(output, SHARDS_KIND)
    footage = find_footage(videos)
    detector = FaceDetector(options.face_model) if options.face_model else None
    if detector is None and not options.boxes_from_json:
        _require_boxes(footage)
    encoders = Encoders(checkpoint)
    with ClipFolder(output) as work, Progress(footage, PROGRAM) as progress:
        maker = Maker(encoders, detector, options, work, progress)
        finished = in_threads(maker.prepare, footage, encoders.jobs, progress.stop)
        usable = [prepared for prepared in finished if prepared.clips]
        if not usable:
            raise InvalidMedia(f"{videos}: none of its {len(finished)} videos is of use: see above")
        entries, warnings = _entries(usable, options)
        for warning in warnings:
            progress.say(warning)
        progress.say(f"writing {len(entries)} clips")
        skipped, left_out = _omissions(finished)
        extra = {
            "encoder_id": encoders.spec.encoder_id,
            "audio_encoder_id": encoders.audio_id,
            "skipped": skipped,
            "left_out": left_out,
        }
        clips = write_shards(output, encoders.spec, _read(work, entries), extra=extra)
        work.remove()
    return PrepareReport(clips, skipped, left_out, warnings)


def _require_boxes(footage: Sequence[Footage]) -> None:
    for video in footage:
        try:
            told = video.notes()
        except InvalidMedia:
            continue  # told of when its turn comes
        if told.face_box is None:
            raise InvalidArgument(
                f"{video.path}: no JSON file beside it names its face_box: give a face detector by --face-model FILE "
                "(YuNet, such as OpenCV Zoo's face_detection_yunet), or leave such videos out by --face-boxes-from-json"
            )


def _entries(usable: list[Prepared], options: PrepareOptions) -> tuple[list[tuple[ClipEntry, str]], list[str]]:
    """Every clip with its split and its file in the work folder; and what to warn of."""
    warnings = []
    speakers = {prepared.speaker for prepared in usable}
    val = chosen_for_val(speakers, options.val_share)
    if len(speakers) == 1 and options.val_share > 0:
        val = chosen_for_val((clip.id for prepared in usable for clip in prepared.clips), options.val_share)
        warnings.append(
            f"only one speaker ({usable[0].speaker}): {len(val)} of their clips are for validation, which says "
            "little about other faces"
        )
    entries = []
    for prepared in usable:
        for clip in prepared.clips:
            split = "val" if {prepared.speaker, clip.id} & val else "train"
            entries.append((ClipEntry(clip.id, prepared.speaker, split, clip.frames, options.rate), clip.file))
    return entries, warnings


def _read(work: ClipFolder, entries: list[tuple[ClipEntry, str]]) -> Iterator[tuple[ClipEntry, ClipTensors]]:
    for entry, file in entries:
        tensors = work.read_clip(file, entry.id)
        yield entry, tensors if entry.split == "val" else tensors.without_images()


def _omissions(finished: list[Prepared]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Videos that were skipped, and frames left out of the others, for the manifest."""
    skipped = [{"video": prepared.video, "reason": prepared.skipped} for prepared in finished if prepared.skipped]
    left_out = [
        {"video": prepared.video, "frames": prepared.left_out, "of": prepared.frames}
        for prepared in finished
        if prepared.clips and prepared.left_out
    ]
    return skipped, left_out
