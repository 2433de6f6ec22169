"""The clips of one source video: faces and audio states, cut to the stretches that show one face."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing

import numpy as np
import numpy.typing as npt

from musetalk_distill.prepare.annotations import Annotations
from musetalk_distill.prepare.audio_states import read_audio_states
from musetalk_distill.prepare.clip_builder import ClipBuilder
from musetalk_distill.prepare.cuts import MIN_SECONDS, cut_clips
from musetalk_distill.prepare.encoders import Encoders
from musetalk_distill.prepare.options import PrepareOptions
from musetalk_distill.prepare.source_video import SourceVideo
from musetalk_distill.shards.clip import ClipTensors, states_count
from musetalk_runtime.audio.states import STATES_PER_SECOND
from musetalk_runtime.avatar.box import Box, box_problem
from musetalk_runtime.avatar.crop import crop_face
from musetalk_runtime.core.arrays import Bytes, Floats
from musetalk_runtime.core.errors import FaceNotFound, InvalidMedia
from musetalk_runtime.core.model import SAMPLE_RATE
from musetalk_runtime.prepare.face import FaceDetector
from musetalk_runtime.prepare.placement import find_faces, usable_box
from musetalk_runtime.prepare.source.video import VideoSource

MAX_HOURS = 2  # of a source video
MAX_PLAIN_SHARE = 0.1  # of a clip's frames may show one colour where the face should be: a blink of the camera

Report = Callable[[float], None]
"""Called with the share of the video that is done."""


class VideoClips:
    """The clips of one video. Attributes: ``source``, and ``ranges``, which of its frames can make clips.

    Raises InvalidMedia or FaceNotFound for a video that none can be made of.
    """

    def __init__(
        self,
        video: SourceVideo,
        annotations: Annotations,
        encoders: Encoders,
        detector: FaceDetector | None,
        options: PrepareOptions,
        report: Report,
    ) -> None:
        self.source = VideoSource(video.path, MAX_HOURS * 3600, options.rate)
        if self.source.cut:
            raise InvalidMedia(f"{video.path}: longer than {MAX_HOURS} h: cut it into parts")
        annotations.check_length(video.annotation_file or video.path, self.source.indexes[-1])
        self._annotations, self._encoders, self._report = annotations, encoders, report
        self._done = 0.0 if annotations.face_box is not None else 0.5  # the share that finding the faces takes
        self._states, heard = read_audio_states(video.path, self.source.start, encoders.encode_audio, encoders.spec)
        seen = min(len(self.source), int(heard * options.rate / SAMPLE_RATE))
        self._boxes = self._find_boxes(video, detector)[:seen]
        self.ranges = cut_clips(self._boxes, options.rate)
        if not self.ranges:
            raise FaceNotFound(
                f"{video.path}: no stretch of {MIN_SECONDS} s with one face and sound, in "
                f"{float(len(self.source) / self.source.fps):.1f} s{self._box_problem()}"
            )

    def __iter__(self) -> Iterator[tuple[range, ClipTensors]]:
        """The frames and the tensors of each clip, with images: those of ``ranges`` that show more than one colour."""
        with closing(self._crops()) as crops:
            for frames in self.ranges:
                clip = ClipBuilder(len(frames), self._encoders)
                for index, crop in crops:
                    clip.add(crop)
                    if index + 1 == frames.stop:
                        break
                if clip.plain_frames <= MAX_PLAIN_SHARE * len(frames):
                    yield frames, clip.finish(self._states_of(frames), self._opening_of(frames))

    def _find_boxes(self, video: SourceVideo, detector: FaceDetector | None) -> list[Box | None]:
        source = self.source
        if self._annotations.face_box is not None:
            given = [self._annotations.box(index) for index in source.indexes]
            return [None if box_problem(box, source.width, source.height) else box for box in given]
        if detector is None:
            raise FaceNotFound(f"{video.path}: no JSON file beside it names its face_box")
        faces = find_faces(source, detector, lambda _stage, done, total: self._report(self._done * done / total))
        return [usable_box(face, source.width, source.height) for face in faces]

    def _box_problem(self) -> str:
        """What is wrong with the given boxes, for an error."""
        if self._annotations.face_box is None:
            return ""
        given = (self._annotations.box(index) for index in self.source.indexes)
        problems = [
            (box, problem) for box in given if (problem := box_problem(box, self.source.width, self.source.height))
        ]
        if not problems:
            return ""
        box, problem = problems[0]
        return f": face_box {list(box)} {problem} ({len(problems)} of {len(self.source)} frames)"

    def _crops(self) -> Generator[tuple[int, Bytes], None, None]:
        wanted = {index for frames in self.ranges for index in frames}
        size = self._encoders.spec.image_size
        for index, rgb in enumerate(self.source.frames()):
            if index in wanted and (box := self._boxes[index]) is not None:
                yield index, crop_face(rgb, box, size)
            self._report(self._done + (1 - self._done) * (index + 1) / len(self.source))

    def _states_of(self, frames: range) -> npt.NDArray[np.float16]:
        """The states of a clip, zeros after the end of the sound."""
        first = int(STATES_PER_SECOND * frames.start / self.source.fps)
        count = states_count(len(frames), self.source.fps, self._encoders.spec)
        there = self._states[first : first + count]
        return np.concatenate([there, np.zeros((count - len(there), *there.shape[1:]), np.float16)])

    def _opening_of(self, frames: range) -> Floats | None:
        opening = self._annotations.opening
        return None if opening is None else opening[[self.source.indexes[index] for index in frames]]
