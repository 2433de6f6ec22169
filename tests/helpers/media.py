"""Pictures, videos and a voice-like sound, made on the spot."""

from pathlib import Path

import av
import numpy as np


def moving_picture(k: int) -> np.ndarray:
    """Frame `k` of a smooth moving pattern, RGB [240, 320, 3]."""
    y, x = np.ogrid[0:240, 0:320]
    planes = [np.sin((x + shift * k) / 23) + np.cos((y - 2 * k) / 31 + shift) for shift in (2, 3, 5)]
    return (np.stack(planes, axis=-1) * 50 + 128).astype(np.uint8)


def write_video(file: Path, frames: list[np.ndarray], fps: int = 25) -> None:
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "10"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def voice(seconds: float, rate: int = 16_000) -> np.ndarray:
    """Bursts of a buzz with moving formants, a pause every second: int16 [n]."""
    t = np.arange(round(seconds * rate)) / rate
    pitch = 2 * np.pi * (120 * t - 20 * np.cos(2 * np.pi * 0.7 * t) / (2 * np.pi * 0.7))
    buzz = sum(np.sin(n * pitch) / n for n in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * 4 * t), 0, 1) * ((t % 1.0) < 0.7)
    return (buzz * syllables * 6000).astype(np.int16)


def write_wav(file: Path, samples: np.ndarray, rate: int = 16_000) -> None:
    import wave

    with wave.open(str(file), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(rate)
        wav.writeframes(samples.astype("<i2").tobytes())


def tone_hertz(sound: np.ndarray, rate: int) -> float:
    """The loudest frequency in `sound` [n]."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(spectrum.argmax() * rate / len(sound))
