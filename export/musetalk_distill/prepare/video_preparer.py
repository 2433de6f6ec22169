"""The preparation of one video after the other: its clips go into the work folder."""

from typing import Any

import av.error

from musetalk_distill.prepare.encoders import Encoders
from musetalk_distill.prepare.options import PrepareOptions
from musetalk_distill.prepare.prepared import Prepared, PreparedClip
from musetalk_distill.prepare.progress import Progress
from musetalk_distill.prepare.source_video import SourceVideo
from musetalk_distill.prepare.video import VideoClips
from musetalk_distill.prepare.work import ClipFolder
from musetalk_runtime.core.errors import FaceNotFound, InputNotFound, InvalidMedia, one_line
from musetalk_runtime.core.version import __version__
from musetalk_runtime.prepare.face import FaceDetector
from musetalk_runtime.storage.folder import sha256
from musetalk_runtime.storage.lock import work_key

RECORDS_SCHEMA = 2  # of what is kept of a finished video
UNUSABLE = (InvalidMedia, FaceNotFound, InputNotFound, av.error.FFmpegError)


class VideoPreparer:
    """Prepares one video after the other, each unless an earlier run has."""

    def __init__(
        self,
        encoders: Encoders,
        detector: FaceDetector | None,
        options: PrepareOptions,
        work: ClipFolder,
        progress: Progress,
    ) -> None:
        self._encoders, self._detector, self._options = encoders, detector, options
        self._work, self._progress = work, progress
        model = options.face_model
        self._common: dict[str, Any] = {
            "version": __version__,
            "records": RECORDS_SCHEMA,
            "model": encoders.spec.to_json(),
            "audio_encoder_id": encoders.audio_id,
            "face_model": None if model is None else sha256(model),
            "fps": options.fps,
        }

    def prepare(self, source: SourceVideo) -> Prepared:
        """The clips of one video, or why it has none. Raises OutputError where there is no room."""
        key = work_key({**self._common, **source.key()})
        prepared = self._work.kept(source.name, key)
        kept = prepared is not None
        if prepared is None:
            try:
                prepared = self._make(source)
            except UNUSABLE as error:
                self._work.forget(source.name)
                prepared = Prepared(source.name, skipped=_reason(error, source))
            except BaseException:
                self._work.forget(source.name)
                raise
            self._work.finish(key, prepared)
        if prepared.skipped is not None:
            self._progress.say(f"skipped {source.name}: {prepared.skipped}")
        self._progress.finished(source.name, kept)
        return prepared

    def _make(self, source: SourceVideo) -> Prepared:
        annotations = source.annotations()
        video = VideoClips(
            source,
            annotations,
            self._encoders,
            self._detector,
            self._options,
            lambda share: self._progress.part(source.name, share),
        )
        clips = []
        for number, (frames, tensors) in enumerate(video):
            clip_id = f"{source.name}-{number}"
            file, digest = self._work.write_clip(source.name, number, clip_id, tensors)
            clips.append(PreparedClip(clip_id, len(frames), frames.start, file, digest))
        if not clips:
            raise FaceNotFound(f"{source.path}: its face_box shows one colour")
        return Prepared(source.name, source.speaker(annotations), annotations.held_out, len(video.source), clips)


def _reason(error: Exception, source: SourceVideo) -> str:
    """What is wrong with a video, in one line that need not name it."""
    return one_line(str(error).removeprefix(f"{source.path}: "))
