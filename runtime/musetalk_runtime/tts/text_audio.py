"""Text as audio that a session hears."""

import threading
from collections.abc import Generator

from musetalk_runtime.audio.chunk import AudioChunk, Resampler
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.tts.sentences import sentences
from musetalk_runtime.tts.synthesizer import SpeechSynthesizer, checked, mono, open_synthesizer


class TextAudio:
    """An ``AudioSource``: `text`, synthesized sentence by sentence as it is heard, by `synthesizer` or by hibari.

    Raises InvalidArgument for text with nothing to say, and MachineError without a synthesizer.

    Attributes: ``live`` (False), ``channels`` (1), ``warnings`` (none).
    """

    live = False
    channels = 1

    def __init__(self, text: str, synthesizer: SpeechSynthesizer | None = None) -> None:
        self.warnings: list[str] = []
        self._sentences = sentences(text)
        if not self._sentences:
            raise InvalidArgument("the text has nothing to say: no letter and no digit")
        self._synthesizer = open_synthesizer() if synthesizer is None else checked(synthesizer, "synthesizer")
        self._interrupted = threading.Event()

    def __iter__(self) -> Generator[AudioChunk, None, None]:
        resample, rate = Resampler(self.channels), int(self._synthesizer.sample_rate)
        heard = False
        for sentence in self._sentences:
            for samples in self._synthesizer.synthesize(sentence):
                if self._interrupted.is_set():
                    return
                if len(speech := mono(samples)) and (chunk := resample(speech[None], rate)):
                    heard = True
                    yield chunk
        if not heard:
            raise InvalidArgument("the speech synthesizer made no sound of this text")
        if chunk := resample.end():
            yield chunk

    def interrupt(self) -> None:
        """End an iteration in another thread, after the sentence in hand."""
        self._interrupted.set()

    def close(self) -> None:
        """Nothing is held."""
