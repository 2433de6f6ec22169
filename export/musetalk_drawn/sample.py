"""The demo's words, with the mouth that a drawn person would make of them."""

import json
import wave
from pathlib import Path

from musetalk_drawn.figure.identity import DEMO
from musetalk_drawn.script import FPS, Script
from musetalk_drawn.spec import ClipSpec, Speaker
from musetalk_drawn.speech.espeak import Voice
from musetalk_runtime.core.model import SAMPLE_RATE

TEXT = (
    "Hello. I am a drawing, and nobody has drawn my mouth.",
    "It moves as you see because of what you hear, and it is made while you watch.",
    "Give me words of your own, and I will say them too.",
)
PAUSES = (0.4, 0.45, 0.45, 0.7)
SPEAKER = Speaker("demo", DEMO, Voice("en+f4", 158, 48, 60))  # not a voice of the training clips


def write_sample(folder: Path) -> None:
    """Write ``speech.wav`` (mono, 16 kHz) and ``speech.json``, with the mouth's opening at each 25th of a second.

    Raises MachineError without eSpeak NG, or OSError.
    """
    script = Script.of(ClipSpec(0, SPEAKER, TEXT, PAUSES))
    with wave.open(str(folder / "speech.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(script.pcm.tobytes())
    truth = {"fps": FPS, "text": " ".join(TEXT), "opening": [round(mouth.opening, 4) for mouth in script.mouths]}
    (folder / "speech.json").write_text(json.dumps(truth) + "\n", encoding="utf-8")
