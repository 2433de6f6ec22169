"""The worker process that synthesizes speech, so that an engine that is slow or hangs holds up nobody else.

    python -m musetalk_runtime.tts.worker ENGINE

It says ``{"sample_rate": 24000}`` on stdout, or ``{"error": "..."}`` and ends. Then each line of JSON on stdin,
``{"text": "..."}``, is answered by any number of ``{"samples": n}``, each with as many 16-bit samples after its line,
and by ``{"done": true}`` or ``{"error": "..."}``. It ends when stdin does.
"""

import json
import os
import sys
from typing import Any, BinaryIO

import numpy as np

from musetalk_runtime.core.errors import MuseTalkEdgeError, one_line
from musetalk_runtime.tts.synthesizer import SpeechSynthesizer, mono, open_synthesizer

MAX_SENTENCE_S = 120.0  # seconds of speech of one sentence
MAX_PIECE_S = 5.0  # seconds of speech in one answer


def main() -> None:
    """Answer what stdin asks for."""
    said = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    try:
        synthesizer = open_synthesizer(sys.argv[1])
    except Exception as error:
        _say(said, error=_described(error))
        return
    _say(said, sample_rate=int(synthesizer.sample_rate))
    for line in sys.stdin.buffer:
        try:
            _synthesize(said, synthesizer, str(json.loads(line)["text"]))
        except BrokenPipeError:
            return
        except Exception as error:
            _say(said, error=_described(error))
        else:
            _say(said, done=True)


def _synthesize(said: BinaryIO, synthesizer: SpeechSynthesizer, text: str) -> None:
    rate = int(synthesizer.sample_rate)
    room, piece = int(MAX_SENTENCE_S * rate), int(MAX_PIECE_S * rate)
    for given in synthesizer.synthesize(text):
        samples = np.asarray(np.rint(mono(given)[:room] * 32767), "<i2")
        room -= len(samples)
        for begin in range(0, len(samples), piece):
            part = samples[begin : begin + piece]
            _say(said, part.tobytes(), samples=len(part))
        if room <= 0:
            return


def _say(said: BinaryIO, data: bytes = b"", **content: Any) -> None:
    said.write(json.dumps(content).encode() + b"\n" + data)
    said.flush()


def _described(error: Exception) -> str:
    said = one_line(error)
    known = isinstance(error, MuseTalkEdgeError)
    return said if known else f"the speech synthesizer failed: {type(error).__name__}: {said}"[:500]


if __name__ == "__main__":
    main()
