"""The drawn clips that the encoders are trained on: speech, shapes of the mouth, and pictures of faces."""

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from musetalk_distill.prepare.annotations import read_annotations
from musetalk_runtime.audio.decode.file import AudioFile
from musetalk_runtime.avatar.crop import crop_face
from musetalk_runtime.core.arrays import Bytes, Floats
from musetalk_runtime.core.errors import InputNotFound
from musetalk_runtime.prepare.source.colour import to_rgb

SHAPES = ("opening", "width", "rounding")  # of the mouth: lists of one value a frame in a clip's JSON file


class DrawnClip:
    """One drawn clip: ``<id>.mp4`` and ``<id>.json``."""

    def __init__(self, video: Path) -> None:
        self.video = video
        self.truth: dict[str, Any] = json.loads(video.with_suffix(".json").read_text(encoding="utf-8"))
        self.fps = float(self.truth["fps"])

    def speech(self) -> Floats:
        """All of its sound, mono at 16 kHz."""
        with closing(AudioFile(self.video)) as audio:
            return np.concatenate([chunk.speech for chunk in audio])

    def mouth(self, times: npt.NDArray[np.float64]) -> Floats:
        """The mouth's shape at each of `times` (seconds): ``[n, 3]``, in the order of SHAPES."""
        at = (np.arange(len(self.truth["opening"])) + 0.5) / self.fps
        return np.stack([np.interp(times, at, self.truth[shape]) for shape in SHAPES], axis=1).astype(np.float32)

    def faces(self, size: int, every: int) -> Iterator[Bytes]:
        """The face in every `every`-th frame, RGB ``[size, size, 3]``."""
        annotations = read_annotations(self.video.with_suffix(".json"))
        with av.open(str(self.video)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index % every == 0:
                    yield crop_face(to_rgb(frame, frame.width, frame.height), annotations.box(index), size)


def read_faces(clips: Sequence[DrawnClip], size: int, every: int) -> Bytes:
    """The faces of all `clips`, RGB ``[N, size, size, 3]``, decoded by as many threads as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(
            [face for faces in pool.map(lambda clip: list(clip.faces(size, every)), clips) for face in faces]
        )


def read_clips(folder: Path) -> list[DrawnClip]:
    """The clips in `folder` that are not held out, by name; raises InputNotFound where there is none."""
    found = [DrawnClip(video) for video in sorted(folder.glob("*.mp4")) if video.with_suffix(".json").is_file()]
    clips = [clip for clip in found if not clip.truth.get("held_out")]
    if not clips:
        raise InputNotFound(f"{folder}: no drawn clips (<id>.mp4 and <id>.json): run 'distill-student draw'")
    return clips
