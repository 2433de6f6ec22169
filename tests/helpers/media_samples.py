"""A small file of each kind that speech and pictures come in."""

import io
from importlib.util import find_spec

import av
import cv2
import numpy as np

from helpers.media import moving_picture, voice

AUDIO = {
    "webm": "libopus",
    "mp4": "aac",
    "mp3": "libmp3lame",
    "adts": "aac",
    "mpegts": "aac",
    "ogg": "libopus",
    "flv": "aac",
    "wav": "pcm_s16le",
    "flac": "flac",
    "aiff": "pcm_s16be",
}
PICTURES = {"jpg": ".jpg", "png": ".png", "webp": ".webp"}
EXIF = bytes.fromhex("ffe10022457869660000 4d4d002a00000008 0001 0112 0003 00000001 00060000 00000000")  # turned
CODECS = {"gif": ("gif", "rgb8"), "webm": ("libvpx-vp9", "yuva420p")}  # of videos; H.264 in others
HEIF = {"heic": "HEIF", "avif": "AVIF"}


def audio_samples() -> dict[str, bytes]:
    """Half a second of speech in each of AUDIO."""
    return {container: _audio(container, codec) for container, codec in AUDIO.items()}


def picture_samples() -> dict[str, bytes]:
    """A picture of 96x72 in each of PICTURES, one with an orientation and, where their libraries are there, in each of
    HEIF; and videos of three frames, WebM's with transparency.
    """
    picture = cv2.resize(moving_picture(0), (96, 72))
    found = {name: cv2.imencode(suffix, picture)[1].tobytes() for name, suffix in PICTURES.items()}
    found["jpeg"] = found["jpg"][:2] + EXIF + found["jpg"][2:]
    if find_spec("pillow_heif"):
        import pillow_heif
        from PIL import Image

        pillow_heif.register_heif_opener()
        for name, form in HEIF.items():
            file = io.BytesIO()
            Image.fromarray(picture).save(file, format=form)
            found[name] = file.getvalue()
    return found | {container: _video(container) for container in ("mp4", "matroska", "mpegts", "gif", "webm")}


def _audio(container: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as opened:
        stream = opened.add_stream(codec, rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(voice(0.5, 48_000)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        opened.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def _video(container: str) -> bytes:
    file = io.BytesIO()
    codec, pixels = CODECS.get(container, ("libx264", "yuv420p"))
    with av.open(file, "w", format=container) as opened:
        stream = opened.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 72, pixels
        for k in range(3):
            rgb = cv2.resize(moving_picture(k), (96, 72))
            frame = av.VideoFrame.from_ndarray(np.dstack([rgb, rgb[..., 0]]), format="rgba")
            opened.mux(stream.encode(frame.reformat(format=pixels)))
        opened.mux(stream.encode(None))
    return file.getvalue()
