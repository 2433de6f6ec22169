"""A session's stream, decoded from its MP4: the faces that it shows and the loudness of its sound."""

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.avatar.crop import crop_face
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.session import Session

FPS = 25  # of the streams


@dataclass(frozen=True)
class DecodedStream:
    """``faces`` float32 ``[F, 3, I, I]`` in [0, 1], the avatar's boxes cut from the frames; ``loudness`` ``[F]``.

    The loudness of a frame is the root mean square of the sound that is heard while it is shown.
    """

    faces: Tensor
    loudness: npt.NDArray[np.float64]


def stream_and_decode(bundle: Bundle, avatar: Avatar, audio: Path) -> DecodedStream:
    """Let `avatar` say `audio` in a stream at 25 fps, and decode it; raises what a session does."""
    with Session(bundle, avatar, audio, FPS) as session:
        return decode_stream(b"".join(session.stream()), avatar, bundle.spec.image_size)


def decode_stream(data: bytes, avatar: Avatar, size: int) -> DecodedStream:
    """Decode the stream `data` of `avatar` at 25 fps, with the faces at `size` pixels a side."""
    with av.open(io.BytesIO(data)) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(io.BytesIO(data)) as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SOUND_RATE)
        heard = [out.to_ndarray()[0] for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    faces = np.empty((len(shown), size, size, 3), np.uint8)
    for index, rgb in enumerate(shown):
        x0, y0, x1, y1 = avatar.boxes[avatar.index_at(index, Fraction(FPS))].tolist()
        faces[index] = crop_face(rgb, (x0, y0, x1, y1), size)
    sound = np.concatenate(heard).astype(np.float64)
    step = SOUND_RATE // FPS
    parts = [sound[index * step : (index + 1) * step] for index in range(len(shown))]
    loudness = np.array([np.sqrt(np.mean(part**2)) if len(part) else 0.0 for part in parts])
    return DecodedStream(torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 255, loudness)
