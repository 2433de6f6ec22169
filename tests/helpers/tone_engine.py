"""A text-to-speech engine for tests: a tone, as long as the text; some words make it misbehave."""

import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

NAME = "helpers.tone_engine:ToneEngine"
SECONDS_A_CHARACTER = 0.05
HERTZ = 440


class ToneEngine:
    """A ``SpeechSynthesizer``: 0.05 s of 440 Hz a character, in two pieces, one of floats and one of integers."""

    sample_rate = 22_050

    def synthesize(self, text: str) -> Iterator[Any]:
        if "refuse" in text:
            raise ValueError("no such word")
        if "die" in text:
            os._exit(1)
        if "hang" in text:
            time.sleep(3600)
        if "nonsense" in text:
            yield "nonsense"
        count = int(len(text) * SECONDS_A_CHARACTER * self.sample_rate)
        tone = np.sin(np.arange(count) * 2 * np.pi * HERTZ / self.sample_rate) / 2
        yield tone[: count // 2].astype(np.float32)
        yield np.rint(tone[count // 2 :] * 32767).astype(np.int16)


def not_callable() -> None:
    """Gives nothing that could speak."""
